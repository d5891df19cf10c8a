"""What can happen to a replica. Both worlds, the runtime and the simulator, speak in these."""

from dataclasses import dataclass

from lockstep.consensus.interface import Event as EngineEvent
from lockstep.sync.state_sync import Target
from lockstep.sync.state_walk import LocalTable
from lockstep.venue.venue import Execution
from lockstep.wire.client import ClientRequest
from lockstep.wire.light import AskState, ShownRow
from lockstep.wire.message import PeerMessage


@dataclass(frozen=True, slots=True)
class Tick:
    """A deadline that the replica asked for has come."""


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """An authenticated connection to this validator is up (both directions)."""

    peer: int


@dataclass(frozen=True, slots=True)
class PeerLost:
    """No connection to this validator is left."""

    peer: int


@dataclass(frozen=True, slots=True)
class PeerSaid:
    """A decoded message from an authenticated validator."""

    peer: int
    message: PeerMessage


@dataclass(frozen=True, slots=True)
class ClientAsked:
    """A decoded request. `client` is a number that the world gave to the connection."""

    client: int
    request: ClientRequest


@dataclass(frozen=True, slots=True)
class ClientLeft:
    """The connection is gone."""

    client: int


@dataclass(frozen=True, slots=True)
class Executed:
    """The executor has run this block; the answer to `Execute`, in order."""

    block: bytes
    execution: Execution


@dataclass(frozen=True, slots=True)
class Question:
    """A light client's query of the state, and how often a proof was tried."""

    client: int
    request: AskState
    attempt: int


@dataclass(frozen=True, slots=True)
class Proved:
    """The answer to `Prove`: rows under the state root of this block."""

    question: Question
    block: bytes
    height: int
    manifest: bytes
    rows: tuple[ShownRow, ...]


@dataclass(frozen=True, slots=True)
class StateRead:
    """The answer to `ReadState`."""

    target: Target
    tables: list[LocalTable]


@dataclass(frozen=True, slots=True)
class ChunksStored:
    """The answer to `StoreChunks`: so many bytes."""

    size: int
    effort: int


@dataclass(frozen=True, slots=True)
class EngineResumed:
    """An ordering-engine event that had to wait until something was durable."""

    event: EngineEvent


Event = (
    Tick | PeerConnected | PeerLost | PeerSaid | ClientAsked | ClientLeft | Executed | Proved | EngineResumed
    | StateRead | ChunksStored
)  # fmt: skip
