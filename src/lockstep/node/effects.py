"""What a replica wants done. Worlds carry effects out in the order given; `Persist` says what must wait for it."""

from enum import StrEnum

import numpy as np
from msgspec import Struct

from lockstep.node.event_batch import FinalEvents
from lockstep.node.events import Event, Question
from lockstep.node.record import Record, StoredBlock
from lockstep.sync.state_offer import Target
from lockstep.sync.state_walk import Arrived
from lockstep.wire.client import ClientReply
from lockstep.wire.light import AskLight, AskOutcome
from lockstep.wire.message import FetchCheckpoint, FetchState, PeerMessage
from lockstep.wire.roster import Roster
from lockstep.wire.stream import AskEvents, EventBatch


class Send(Struct, frozen=True, gc=False):
    """Send to one validator. Dropped if its queue is full or it is not connected: every protocol re-sends."""

    peer: int
    message: PeerMessage


class Broadcast(Struct, frozen=True, gc=False):
    """Send to every other validator. Encoded once."""

    message: PeerMessage


class Persist(Struct, frozen=True, gc=False):
    """Append `records` to the log. With `then`: make them durable (fdatasync; group commit with whatever else is
    queued), and only then carry out `then`. Without: written in order, nobody waits. A failed write or sync stops
    the process."""

    records: tuple[Record, ...]
    then: tuple["Effect", ...] = ()


class Resume(Struct, frozen=True, gc=False):
    """Step the replica with this event."""

    event: Event


class Execute(Struct, frozen=True, gc=False):
    """Run this block's bundles on the state of its parent, off the event loop, and answer `Executed`. Requests are
    carried out in order; the executor rolls back whatever was executed beyond the parent."""

    stored: StoredBlock
    observations: np.ndarray


class Commit(Struct, frozen=True, gc=False):
    """This block, the oldest executed one not yet committed, is final: drop its undo, index its log record under
    its height, append its events to the history, record its bundles' fates. In order with `Execute`."""

    block: bytes
    height: int
    events: np.ndarray
    fates: tuple[tuple[bytes, int, int, int], ...]
    """(bundle digest, place in the block, first event, number of events)."""


class Checkpoint(Struct, frozen=True, gc=False):
    """All blocks up to this height are committed: write what changed to the checkpoint store, with what a restart
    needs. `certificate` is the canonical encoding of the finalization that made it final."""

    height: int
    header: bytes
    certificate: bytes


class RosterChanged(Struct, frozen=True, gc=False):
    """A change of validators is final, or took effect: connect to those that are on the roster now."""

    roster: Roster


class Reply(Struct, frozen=True, gc=False):
    """Answer a client."""

    client: int
    message: ClientReply


class ServeChain(Struct, frozen=True, gc=False):
    """Send `peer` a `Chain` of final blocks from the log, from this height on, within the limits of the message."""

    peer: int
    from_height: int
    final_height: int


class ServeFate(Struct, frozen=True, gc=False):
    """Look up an old bundle's fate in the index and the history, and answer the client (`unknown` if not there)."""

    client: int
    digest: bytes


class ServeProof(Struct, frozen=True, gc=False):
    """Answer a light client from the log, the history and the index: an older finalization, or a bundle's outcome.
    With `is_peer`: a peer, so many requests of it at a time."""

    client: int
    """With `is_peer`, a peer's number."""
    request: AskLight | AskOutcome
    final_height: int
    is_peer: bool = False


class ServeEvents(Struct, frozen=True, gc=False):
    """Answer a reader of events: `event_batch.fill` the head with the newest blocks, given here, or older ones from the
    log and the history."""

    client: int
    request: AskEvents
    head: EventBatch
    recent: tuple[FinalEvents, ...]


class ServeState(Struct, frozen=True, gc=False):
    """Answer a peer that fetches the state, or a client: from a checkpoint, off the event loop, and only so many
    requests of a peer at a time. One that no honest peer makes is answered with `DropPeer`, or `Goodbye`."""

    peer: int
    """With `is_client`, a client's number."""
    request: FetchCheckpoint | FetchState
    is_client: bool = False


class ReadState(Struct, frozen=True, gc=False):
    """Look up what the store holds of this state, fetched chunks included, and answer `StateRead`. In order with
    `Checkpoint`, `StoreChunks` and `InstallState`."""

    target: Target


class ReadLeaves(Struct, frozen=True, gc=False):
    """The same for the leaves of some ranges of a table; answer `LeavesRead`."""

    target: Target
    table: int
    ranges: list[int]
    """Ascending."""


class StoreChunks(Struct, frozen=True, gc=False):
    """Keep these chunks of the state that is being fetched, durably, beside the checkpoint; answer `ChunksStored`."""

    chunks: Arrived
    effort: int
    """Comes back."""


class InstallState(Struct, frozen=True, gc=False):
    """The store holds everything of this state: make it the checkpoint, in one transaction, and begin anew from it, as
    at a restart. The log goes on: own votes in it bind as ever. Nothing is asked of this replica any more."""

    target: Target
    is_rebuilt: bool
    """This home was empty at start: see `rejoin`."""


class Prove(Struct, frozen=True, gc=False):
    """Prove the rows that answer a query, in the state of the newest executed block, and answer `Proved`. In order with
    `Execute`."""

    question: Question


class LeavePlain(Struct, frozen=True, gc=False):
    """Close the plain connection on which this peer sends parts of the state, if there is one; for a while, they come
    over the connection that proves who speaks."""

    peer: int


class DropPeer(Struct, frozen=True, gc=False):
    """Close the connection to this validator; it may reconnect later. `detail` says what it did."""

    peer: int
    detail: str


class Severity(StrEnum):
    """How loud a note is."""

    INFO = "info"
    WARNING = "warning"
    ALARM = "alarm"


class Note(Struct, frozen=True, gc=False):
    """One line for the operator's log."""

    severity: Severity
    text: str


class Halt(Struct, frozen=True, gc=False):
    """This node must not take part any more: its state may be wrong. It keeps answering status questions. The text
    says what happened and what to do. With `block`: keep the state after this executed block for study."""

    text: str
    block: bytes = b""
    height: int = 0


Effect = (
    Send | Broadcast | Persist | Resume | Execute | Commit | Checkpoint | RosterChanged | Reply | ServeChain | ServeFate
    | ServeProof | ServeEvents | ServeState | ReadState | ReadLeaves | StoreChunks | InstallState | Prove
    | LeavePlain | DropPeer | Note | Halt
)  # fmt: skip
