"""What an ordering engine takes in and gives out.

An engine is a pure state machine: `step(event, now_us) -> effects`. It never sees payloads, bundles or state:
it orders headers. Its caller (the replica) builds and checks blocks, executes them, and carries out effects *in
the order given*. Time is an integer of microseconds since the epoch that never runs backwards in one process.
"""

from typing import Protocol

from msgspec import Struct

from lockstep.wire.block import Header
from lockstep.wire.certificate import Certificate, Finalization, Notarization
from lockstep.wire.evidence import Evidence
from lockstep.wire.message import Certificates, FetchCertificates
from lockstep.wire.vote import Vote

# -- events ------------------------------------------------------------------------------------------


class Tick(Struct, frozen=True, gc=False):
    """The deadline that the engine asked for has come (spurious ticks are harmless)."""


class VoteArrived(Struct, frozen=True, gc=False):
    """A vote from the wire; `sender` is the authenticated peer. Not verified yet."""

    sender: int
    vote: Vote


class CertificateArrived(Struct, frozen=True, gc=False):
    """A certificate from the wire. Not verified yet."""

    sender: int
    certificate: Certificate


class CertificatesRequested(Struct, frozen=True, gc=False):
    """A peer lacks the certificates of these views."""

    sender: int
    from_view: int
    to_view: int


class Again(Struct, frozen=True, gc=False):
    """The last block of an epoch, proposed again in a later view than its own: it was notarized in `parent_view`."""

    view: int
    parent_view: int


class Proposed(Struct, frozen=True, gc=False):
    """A block, and the view that it is proposed in."""

    header: Header
    again: Again | None = None

    @property
    def view(self) -> int:
        """The view that it is to be notarized in."""
        return self.header.view if self.again is None else self.again.view

    @property
    def parent_view(self) -> int:
        """The view in which what it stands on was notarized: its parent, or, when it is proposed again, itself."""
        return self.header.parent_view if self.again is None else self.again.parent_view


class ProposalArrived(Struct, frozen=True, gc=False):
    """A leader's header with its notarize signature. The payload is already checked against the header's
    payload digest; nothing else is."""

    sender: int
    header: Header
    signature: bytes
    again: Again | None = None


class BlockBuilt(Struct, frozen=True, gc=False):
    """The answer to `Build`: the block that this node proposes in the view; the parent itself, when that is the last of
    its epoch and so nothing may be built on it."""

    header: Header


class BlockChecked(Struct, frozen=True, gc=False):
    """The answer to `Check`: whether the block is valid as a child of its parent. May come much later."""

    block: bytes
    valid: bool


class BlockExecuted(Struct, frozen=True, gc=False):
    """The block was executed and gave these roots. Sent for every block that was executed, in chain order."""

    header: Header
    state_root: bytes
    event_root: bytes


class PeerProgress(Struct, frozen=True, gc=False):
    """A peer says (unproven) that it is in this view, final up to this height: a hint for re-broadcasting."""

    sender: int
    view: int
    final_height: int


class PeerGone(Struct, frozen=True, gc=False):
    """No connection to this validator is left."""

    peer: int


Event = (
    Tick | VoteArrived | CertificateArrived | CertificatesRequested | ProposalArrived | BlockBuilt | BlockChecked
    | BlockExecuted | PeerProgress | PeerGone
)  # fmt: skip

# -- effects -----------------------------------------------------------------------------------------

Outgoing = Vote | Certificate | FetchCertificates | Certificates


class Broadcast(Struct, frozen=True, gc=False):
    """Send to every other validator."""

    message: Outgoing


class SendTo(Struct, frozen=True, gc=False):
    """Send to one validator."""

    peer: int
    message: Outgoing


class Propose(Struct, frozen=True, gc=False):
    """Send this header, its payload and this notarize signature to every other validator."""

    header: Header
    signature: bytes
    again: Again | None = None


class Persist(Struct, frozen=True, gc=False):
    """Make `record` durable (with the block it votes for, when it is a notarize vote), and only then carry out
    `then`. With `then` empty, the record is written in order but nobody waits for it."""

    record: Vote | Certificate
    then: tuple["Effect", ...] = ()


class Resume(Struct, frozen=True, gc=False):
    """Step this same engine with `event`. Used after `Persist`: an own vote counts only once it is durable, or a
    certificate that contains it could leave before it."""

    event: Event


class Build(Struct, frozen=True, gc=False):
    """This node leads `view`: build a block on `parent` (its digest, notarized in `parent_view`) and answer
    `BlockBuilt`, at the latest at `deadline_us` (an empty block, if need be)."""

    view: int
    parent: bytes
    parent_view: int
    deadline_us: int


class Check(Struct, frozen=True, gc=False):
    """Say whether this block is valid on its parent (fetch what is missing), and begin to execute it if so."""

    header: Header


class Notarized(Struct, frozen=True, gc=False):
    """This block is notarized: fetch it if it is not here (the signers have it), check and execute it."""

    certificate: Notarization


class Finalized(Struct, frozen=True, gc=False):
    """This block, and all before it, is final."""

    certificate: Finalization


class Accuse(Struct, frozen=True, gc=False):
    """A validator signed two things that an honest one never signs both."""

    evidence: Evidence


class Diverged(Struct, frozen=True, gc=False):
    """Validators that executed the same block got different roots. `own` and `other` are (state, event) roots;
    `stake` voted for `other`. `fatal` when our own roots can no longer become final, or others' already are."""

    block: bytes
    height: int
    own: tuple[bytes, bytes]
    other: tuple[bytes, bytes]
    signers: tuple[int, ...]
    fatal: bool


class Misbehaved(Struct, frozen=True, gc=False):
    """A peer sent something that no honest peer sends; `detail` says what. For scoring and logs."""

    peer: int
    detail: str


Effect = (
    Broadcast | SendTo | Propose | Persist | Resume | Build | Check | Notarized | Finalized | Accuse | Diverged
    | Misbehaved
)  # fmt: skip


class Engine(Protocol):
    """An ordering engine."""

    view: int
    """The view that the engine is in."""

    def start(self, now_us: int) -> list[Effect]:
        """Begin, or go on after a restart. Called once, before any `step`."""

    def step(self, event: Event, now_us: int) -> list[Effect]:
        """Take one event."""

    def deadline(self) -> int | None:
        """When the engine next wants a `Tick`, in microseconds."""

    def unmute(self, through_view: int) -> None:
        """From now on, sign in views above this one. For an engine that began mute."""

    def queues(self) -> dict[str, int]:
        """Name of each table that grows → how much it holds."""
