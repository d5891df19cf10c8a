"""What this node does about the block of the view that it is in: build one, or have the leader's checked, as soon as
the certificates that allow it are here."""

from lockstep.base.errors import InvariantBroken, Refused
from lockstep.base.marks import reached
from lockstep.consensus import interface as on
from lockstep.consensus.certificate_book import CertificateBook, Gap
from lockstep.consensus.own_votes import OwnVotes
from lockstep.consensus.proposals import Proposals
from lockstep.consensus.view_clock import ViewClock
from lockstep.wire.block import Header


class Pursuit:
    """One view's building or checking; `reset` begins the next view's."""

    def __init__(
        self, index: int | None, book: CertificateBook, own: OwnVotes, clock: ViewClock, proposals: Proposals
    ) -> None:
        self._index = index
        self._book = book
        self._own = own
        self._clock = clock
        self._proposals = proposals
        self.build: on.Build | None = None
        """What was asked to be built."""
        self.checking: bytes | None = None
        """What was asked to be checked, or is not worth it."""
        self.is_under_way = False
        """This view's block was asked for: nothing more is wanted until the next one."""

    def reset(self) -> None:
        """A view begins."""
        self.build = self.checking = None
        self.is_under_way = False

    def advance(self, view: int, leader: int, now_us: int, out: list[on.Effect]) -> Gap | None:
        """Ask to build or to check, into `out`; returns the certificates that are missing for that. Raises `Refused`
        when the proposal contradicts certificates."""
        if leader == self._index:
            return self._ask_to_build(view, now_us, out) if self._own.may_notarize(view) else None
        proposal = self._proposals.of(view)
        if proposal is None or not self._own.may_notarize(view):
            return None
        try:
            wanted = self._book.ancestry(proposal)
        except Refused:
            self._check(proposal.header)
            raise
        if wanted is None:
            self._check(proposal.header)
            out.append(on.Check(proposal.header))
        return wanted

    def _check(self, header: Header) -> None:
        self.checking, self.is_under_way = header.digest, True

    def built(self, header: Header, view: int) -> on.Proposed | None:
        """What to propose, now that a block is built; None when it is of no use any more. Raises `InvariantBroken` when
        it is not what was asked for."""
        build = self.build
        if build is None or not self._own.may_notarize(view):
            return None
        if header.digest == build.parent:
            reached("simplex: the last block of an epoch is proposed again")
            return on.Proposed(header, on.Again(view, build.parent_view))
        if header.view != view:
            return None
        if (header.parent, header.parent_view, header.proposer) != (build.parent, build.parent_view, self._index):
            raise InvariantBroken(f"the block built for view {view} is not the one that was asked for")
        return on.Proposed(header)

    def _ask_to_build(self, view: int, now_us: int, out: list[on.Effect]) -> Gap | None:
        parent = self._book.parent_for(view)
        if isinstance(parent, Gap):
            return parent
        self.build = on.Build(view, parent.block, parent.view, max(now_us, self._clock.build_us))
        self.is_under_way = True
        out.append(self.build)
        return None
