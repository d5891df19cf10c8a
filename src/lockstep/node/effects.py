"""What a replica wants done. Worlds carry effects out in the order given; `Persist` says what must wait for it."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from lockstep.node.event_batch import FinalEvents
from lockstep.node.events import Event, Question
from lockstep.node.record import Record, StoredBlock
from lockstep.sync.state_sync import Target
from lockstep.sync.state_walk import Arrived
from lockstep.wire.client import ClientReply
from lockstep.wire.light import AskLight, AskOutcome
from lockstep.wire.message import FetchCheckpoint, FetchState, PeerMessage
from lockstep.wire.stream import AskEvents, EventBatch
from lockstep.wire.validators import ValidatorSet


@dataclass(frozen=True, slots=True)
class Send:
    """Send to one validator. Dropped if its queue is full or it is not connected: every protocol re-sends."""

    peer: int
    message: PeerMessage


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send to every other validator. Encoded once."""

    message: PeerMessage


@dataclass(frozen=True, slots=True)
class Persist:
    """Append `records` to the log. With `then`: make them durable (fdatasync; group commit with whatever else is
    queued), and only then carry out `then`. Without: written in order, nobody waits. A failed write or sync stops
    the process."""

    records: tuple[Record, ...]
    then: tuple["Effect", ...] = ()


@dataclass(frozen=True, slots=True)
class Resume:
    """Step the replica with this event."""

    event: Event


@dataclass(frozen=True, slots=True)
class Execute:
    """Run this block's bundles on the state of its parent, off the event loop, and answer `Executed`. Requests are
    carried out in order; the executor rolls back whatever was executed beyond the parent."""

    stored: StoredBlock
    observations: np.ndarray


@dataclass(frozen=True, slots=True)
class Commit:
    """This block, the oldest executed one not yet committed, is final: drop its undo, index its log record under
    its height, append its events to the history, record its bundles' fates. In order with `Execute`."""

    block: bytes
    height: int
    events: np.ndarray
    fates: tuple[tuple[bytes, int, int, int], ...]
    """(bundle digest, place in the block, first event, number of events)."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All blocks up to this height are committed: write what changed to the checkpoint store, with what a restart
    needs. `certificate` is the canonical encoding of the finalization that made it final."""

    height: int
    header: bytes
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer a client."""

    client: int
    message: ClientReply


@dataclass(frozen=True, slots=True)
class ServeChain:
    """Send `peer` a `Chain` of final blocks from the log, from this height on, within the limits of the message."""

    peer: int
    from_height: int
    final_height: int


@dataclass(frozen=True, slots=True)
class ServeFate:
    """Look up an old bundle's fate in the index and the history, and answer the client (`unknown` if not there)."""

    client: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class ServeProof:
    """Answer a light client from the log, the history and the index: an older finalization, or a bundle's outcome."""

    client: int
    request: AskLight | AskOutcome
    validators: ValidatorSet
    final_height: int


@dataclass(frozen=True, slots=True)
class ServeEvents:
    """Answer a reader of events: `event_batch.fill` the head with the newest blocks, given here, or older ones from the
    log and the history."""

    client: int
    request: AskEvents
    head: EventBatch
    recent: tuple[FinalEvents, ...]


@dataclass(frozen=True, slots=True)
class ServeState:
    """Answer a peer that fetches the state, or a client: from a checkpoint, off the event loop, and only so many
    requests of a peer at a time. One that no honest peer makes is answered with `DropPeer`, or `Goodbye`."""

    peer: int
    """With `is_client`, a client's number."""
    request: FetchCheckpoint | FetchState
    is_client: bool = False


@dataclass(frozen=True, slots=True)
class ReadState:
    """Hash what the store holds of this state, fetched chunks included, and answer `StateRead`. In order with
    `Checkpoint`, `StoreChunks` and `InstallState`."""

    target: Target


@dataclass(frozen=True, slots=True)
class StoreChunks:
    """Keep these chunks of the state that is being fetched, durably, beside the checkpoint; answer `ChunksStored`."""

    chunks: Arrived
    effort: int
    """Comes back."""


@dataclass(frozen=True, slots=True)
class InstallState:
    """The store holds everything of this state: make it the checkpoint, in one transaction, and begin anew from it, as
    at a restart. The log goes on: own votes in it bind as ever. Nothing is asked of this replica any more."""

    target: Target
    is_rebuilt: bool
    """This home was empty at start: see `rejoin`."""


@dataclass(frozen=True, slots=True)
class Prove:
    """Prove the rows that answer a query, in the state of the newest executed block, and answer `Proved`. In order with
    `Execute`."""

    question: Question


@dataclass(frozen=True, slots=True)
class DropPeer:
    """Close the connection to this validator; it may reconnect later. `detail` says what it did."""

    peer: int
    detail: str


class Severity(StrEnum):
    """How loud a note is."""

    INFO = "info"
    WARNING = "warning"
    ALARM = "alarm"


@dataclass(frozen=True, slots=True)
class Note:
    """One line for the operator's log."""

    severity: Severity
    text: str


@dataclass(frozen=True, slots=True)
class Halt:
    """This node must not take part any more: its state may be wrong. It keeps answering status questions. The text
    says what happened and what to do. With `block`: keep the state after this executed block for study."""

    text: str
    block: bytes = b""
    height: int = 0


Effect = (
    Send | Broadcast | Persist | Resume | Execute | Commit | Checkpoint | Reply | ServeChain | ServeFate | ServeProof
    | ServeEvents | ServeState | ReadState | StoreChunks | InstallState | Prove | DropPeer | Note | Halt
)  # fmt: skip
