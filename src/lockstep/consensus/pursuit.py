"""What this node does about the block of the view that it is in: build one, or have the leader's checked, as soon as
the certificates that allow it are here."""

from lockstep.base.errors import Refused
from lockstep.consensus import interface as on
from lockstep.consensus.certificate_book import CertificateBook, Gap
from lockstep.consensus.own_votes import OwnVotes
from lockstep.consensus.proposals import Proposals
from lockstep.consensus.view_clock import ViewClock


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

    def reset(self) -> None:
        """A view begins."""
        self.build = self.checking = None

    def advance(self, view: int, leader: int, now_us: int, out: list[on.Effect]) -> Gap | None:
        """Ask to build or to check, into `out`; returns the certificates that are missing for that. Raises `Refused`
        when the proposal contradicts certificates."""
        proposal = self._proposals.of(view)
        if not self._own.may_notarize(view):
            return None
        if leader == self._index:
            return self._ask_to_build(view, now_us, out) if self.build is None else None
        if proposal is None or self.checking is not None:
            return None
        try:
            wanted = self._book.ancestry(proposal)
        except Refused:
            self.checking = proposal.digest
            raise
        if wanted is None:
            self.checking = proposal.digest
            out.append(on.Check(proposal))
        return wanted

    def _ask_to_build(self, view: int, now_us: int, out: list[on.Effect]) -> Gap | None:
        parent = self._book.parent_for(view)
        if isinstance(parent, Gap):
            return parent
        self.build = on.Build(view, parent.block, parent.view, max(now_us, self._clock.build_us))
        out.append(self.build)
        return None
