"""What is notarized, nullified and final, and so what may be built on what.

Everything above the final view is held; a finalization drops everything at or below it. Should finality stall for
more than `CERTIFICATES_HELD_MAX` views, the oldest proofs are forgotten. Of a nullified view the fact stays known (one
bit), so this node can still build and vote across it, but it can no longer prove it to a peer that lacks it. Of an
old notarization nothing stays: a child of that block could not be voted for.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from lockstep.base.errors import InvariantBroken, Reason, Refused
from lockstep.consensus.config import CERTIFICATES_HELD_MAX
from lockstep.consensus.interface import Proposed
from lockstep.wire.block import Header
from lockstep.wire.certificate import Certificate, Finalization, Notarization, Nullification
from lockstep.wire.message import CERTIFICATES_PER_MESSAGE_MAX
from lockstep.wire.validators import epoch_of
from lockstep.wire.vote import Finalize, Vote


class Parent(Struct, frozen=True, gc=False):
    """A block that may be built on, and the view that it was notarized (or is final) in."""

    view: int
    block: bytes


class Gap(Struct, frozen=True, gc=False):
    """Views (both ends included, at most 64) of which certificates are missing."""

    from_view: int
    to_view: int


def gap(from_view: int, to_view: int) -> Gap:
    """What may be asked for at a time, lowest views first."""
    return Gap(from_view, min(to_view, from_view + CERTIFICATES_PER_MESSAGE_MAX - 1))


class CertificateBook:
    """Certificates above the final view, and the newest finalization."""

    def __init__(self, floor: Header, first_view: int = 0) -> None:
        """`first_view`: the view that the epoch begins after. The floor of an epoch's first block is the last block of
        the epoch before, as if it were final in that view."""
        self.final = Parent(max(floor.view, first_view), floor.digest)
        self.final_height = floor.height
        self.finalization: Finalization | None = None
        self.handover: Finalization | None = None
        """Of the last block of the epoch before, by the set of that epoch: for whoever has not left it yet."""
        self._first_view = first_view
        self.notarizations: dict[int, Notarization] = {}
        self.nullifications: dict[int, Nullification] = {}
        self._nullified = 0
        """Bit i is set when view `final.view + i` is nullified."""

    def restore(self, certificates: Sequence[Certificate]) -> None:
        """Take what the log holds, in any order; what lies below the newest final block is ignored."""
        finals = [c for c in certificates if isinstance(c, Finalization)]
        earlier = [c for c in finals if epoch_of(c.view) + 1 == epoch_of(self._first_view)]
        self.handover = max(earlier, key=lambda c: c.view, default=None)
        newest = max(finals, key=lambda c: c.view, default=None)
        for certificate in (*([newest] if newest is not None else []), *certificates):
            if not self.holds(certificate):
                self.add(certificate)

    def queues(self) -> dict[str, int]:
        """How much is held above the final view."""
        return {"notarizations": len(self.notarizations), "nullifications": len(self.nullifications)}

    # -- asking ---------------------------------------------------------------------------------------

    def nullified(self, view: int) -> bool:
        """Whether a quorum gave up on this view (above the final one)."""
        return view > self.final.view and bool(self._nullified >> (view - self.final.view) & 1)

    def decided(self, view: int) -> bool:
        """Whether this view needs no more notarize or nullify votes."""
        return view <= self.final.view or view in self.notarizations or self.nullified(view)

    def settles(self, vote: Vote) -> bool:
        """Whether this vote can no longer decide anything."""
        if type(vote) is Finalize:
            return vote.view <= self.final.view
        return self.decided(vote.view)

    def holds(self, certificate: Certificate) -> bool:
        """Whether this certificate can tell nothing new."""
        view, final_view = certificate.view, self.final.view
        if type(certificate) is Notarization:
            held = self.notarizations.get(view)
            return view <= final_view or (held is not None and held.block == certificate.block)
        if type(certificate) is Finalization:
            return view <= final_view and view != self._uncertified_final
        return view <= final_view or self.nullified(view)

    @property
    def _uncertified_final(self) -> int | None:
        """The final view, when its own finalization is not held (only right after a restart)."""
        return self.final.view if self.finalization is None and self.final.view > self._first_view else None

    def top(self) -> int:
        """The highest view with a certificate."""
        return max(self.final.view, max(self.notarizations, default=0), max(self.nullifications, default=0))

    def newest(self) -> list[Certificate]:
        """The newest certificate of each kind."""
        newest: list[Certificate] = []
        final = self.finalization or self.handover
        if final is not None:
            newest.append(final)
        if self.notarizations:
            newest.append(self.notarizations[max(self.notarizations)])
        if self.nullifications:
            newest.append(self.nullifications[max(self.nullifications)])
        return newest

    def beneath(self, votes: Iterable[Vote]) -> list[Notarization]:
        """The notarizations that these finalize votes rest on: who lacks one of them jumped over its view, and could
        not finalize it without."""
        views = [vote.view for vote in votes if isinstance(vote, Finalize)]
        return [self.notarizations[view] for view in views if view in self.notarizations]

    def between(self, from_view: int, to_view: int) -> tuple[Certificate, ...]:
        """What is held of these views, oldest first, at most 64. The newest finalization comes first when it makes
        the older part of the question void."""
        if from_view <= self._first_view and self.handover is not None:
            return (self.handover,)  # no other certificate of ours can be verified in the epoch before
        found: list[Certificate] = []
        if self.finalization is not None and from_view <= self.final.view:
            found.append(self.finalization)
        for view in range(max(from_view, self.final.view + 1), min(to_view, self.top()) + 1):
            if view in self.notarizations:
                found.append(self.notarizations[view])
            if view in self.nullifications:
                found.append(self.nullifications[view])
            if len(found) >= CERTIFICATES_PER_MESSAGE_MAX:
                break
        return tuple(found[:CERTIFICATES_PER_MESSAGE_MAX])

    def views_of(self, header: Header) -> list[int]:
        """The views that this block may be notarized in: its own, and, for the last of an epoch, later ones."""
        if not header.closes_epoch:
            return [header.view]
        again = [v for v, c in self.notarizations.items() if c.block == header.digest and v != header.view]
        return [header.view, *again]

    # -- ancestry -------------------------------------------------------------------------------------

    def parent_for(self, view: int) -> Parent | Gap:
        """What a block of `view` is to be built on: the highest notarized block below it, else the final one; or
        the nullifications that are missing in between."""
        below = max((v for v in self.notarizations if v < view), default=self.final.view)
        missing = self._first_not_nullified(below + 1, view)
        if missing is not None:
            return gap(missing, view - 1)
        return self.final if below == self.final.view else Parent(below, self.notarizations[below].block)

    def ancestry(self, proposed: Proposed) -> Gap | None:
        """What is missing to know that what this block stands on (its parent; itself, when it is proposed again) is
        notarized and that every view in between is nullified; None when nothing is. Raises `Refused` when no
        certificate can make it so."""
        header, view, parent_view = proposed.header, proposed.view, proposed.parent_view
        if parent_view < self.final.view or header.height <= self.final_height:
            raise Refused(Reason.WRONG_PARENT, f"view {self.final.view} is final: nothing is built before it")
        if parent_view == self.final.view:
            base: bytes | None = self.final.block
        else:
            notarization = self.notarizations.get(parent_view)
            base = notarization.block if notarization is not None else None
        if base is None:
            return gap(parent_view, view - 1)
        if base != (header.parent if proposed.again is None else header.digest):
            raise Refused(Reason.WRONG_PARENT, f"the block notarized in view {parent_view} is another one")
        missing = self._first_not_nullified(parent_view + 1, view)
        return None if missing is None else gap(missing, view - 1)

    def _first_not_nullified(self, from_view: int, before_view: int) -> int | None:
        """The lowest view in `from_view … before_view - 1` that is not known to be nullified."""
        length = before_view - from_view
        holes = ~(self._nullified >> (from_view - self.final.view)) & ((1 << length) - 1)
        return from_view + (holes & -holes).bit_length() - 1 if holes else None

    # -- adding (verified certificates) ---------------------------------------------------------------

    def add(self, certificate: Certificate) -> None:
        """Note what it says. Raises `InvariantBroken` when it contradicts what another quorum said."""
        if type(certificate) is Notarization:
            self._add_notarization(certificate)
        elif type(certificate) is Finalization:
            self._add_finalization(certificate)
        elif type(certificate) is Nullification:
            self._add_nullification(certificate)

    def _add_notarization(self, certificate: Notarization) -> None:
        held = self.notarizations.setdefault(certificate.view, certificate)
        if held.block != certificate.block:
            raise InvariantBroken(
                f"two quorums notarized different blocks in view {certificate.view}: "
                "validators with more than a third of the stake are faulty"
            )
        if len(self.notarizations) > CERTIFICATES_HELD_MAX:
            del self.notarizations[min(self.notarizations)]

    def _add_nullification(self, certificate: Nullification) -> None:
        self._nullified |= 1 << (certificate.view - self.final.view)
        self.nullifications[certificate.view] = certificate
        if len(self.nullifications) > CERTIFICATES_HELD_MAX:
            del self.nullifications[min(self.nullifications)]

    def _add_finalization(self, certificate: Finalization) -> None:
        notarized = self.notarizations.get(certificate.view)
        excluded = self.nullified(certificate.view) or (notarized is not None and notarized.block != certificate.block)
        if excluded or (certificate.view == self.final.view and certificate.block != self.final.block):
            raise InvariantBroken(
                f"a quorum finalized block {certificate.block.hex()} of view {certificate.view}, which another quorum "
                "excluded: validators with more than a third of the stake are faulty"
            )
        self.finalization = certificate
        self._nullified >>= certificate.view - self.final.view
        self.final = Parent(certificate.view, certificate.block)
        self.final_height = certificate.height
        self.notarizations = {v: c for v, c in self.notarizations.items() if v > certificate.view}
        self.nullifications = {v: c for v, c in self.nullifications.items() if v > certificate.view}
