"""What can happen to a replica. Both worlds, the runtime and the simulator, speak in these."""

from msgspec import Struct

from lockstep.consensus.interface import Event as EngineEvent
from lockstep.sync.local_table import LocalTable
from lockstep.sync.state_offer import Target
from lockstep.sync.state_walk import Array
from lockstep.venue.venue import Execution
from lockstep.wire.client import ClientRequest
from lockstep.wire.light import AskState, ShownRow
from lockstep.wire.message import PeerMessage, StatePart


class Tick(Struct, frozen=True, gc=False):
    """A deadline that the replica asked for has come."""


class PeerConnected(Struct, frozen=True, gc=False):
    """An authenticated connection to this validator is up (both directions)."""

    peer: int


class PeerLost(Struct, frozen=True, gc=False):
    """No connection to this validator is left."""

    peer: int


class PeerSaid(Struct, frozen=True, gc=False):
    """A decoded message from an authenticated validator."""

    peer: int
    message: PeerMessage


class ClientAsked(Struct, frozen=True, gc=False):
    """A decoded request. `client` is a number that the world gave to the connection."""

    client: int
    request: ClientRequest


class ClientLeft(Struct, frozen=True, gc=False):
    """The connection is gone."""

    client: int


class Executed(Struct, frozen=True, gc=False):
    """The executor has run this block; the answer to `Execute`, in order."""

    block: bytes
    execution: Execution


class Question(Struct, frozen=True, gc=False):
    """A light client's query of the state, and how often a proof was tried."""

    client: int
    request: AskState
    attempt: int


class Proved(Struct, frozen=True, gc=False):
    """The answer to `Prove`: rows under the state root of this block."""

    question: Question
    block: bytes
    height: int
    manifest: bytes
    rows: tuple[ShownRow, ...]


class StateRead(Struct, frozen=True, gc=False):
    """The answer to `ReadState`."""

    target: Target
    tables: list[LocalTable | None]


class LeavesRead(Struct, frozen=True, gc=False):
    """The answer to `ReadLeaves`: the leaves of these ranges, one after the other, (k, 8) uint32; zeros for a chunk
    that is not here."""

    target: Target
    table: int
    ranges: list[int]
    leaves: Array


class PlainPart(Struct, frozen=True, gc=False):
    """A part of the state came from a peer over a connection that proves nobody's word: whoever is on the way may have
    changed it."""

    peer: int
    part: StatePart
    leaves: Array | None = None
    """The chaining values of its chunks, which the world has hashed as it received them, if they are full chunks."""


class PlainLost(Struct, frozen=True, gc=False):
    """The plain connection with a peer is gone, and what was asked for with it."""

    peer: int


class ChunksStored(Struct, frozen=True, gc=False):
    """The answer to `StoreChunks`: so many bytes."""

    size: int
    effort: int


class EngineResumed(Struct, frozen=True, gc=False):
    """An ordering-engine event that had to wait until something was durable."""

    event: EngineEvent


Event = (
    Tick | PeerConnected | PeerLost | PeerSaid | ClientAsked | ClientLeft | Executed | Proved | EngineResumed
    | StateRead | LeavesRead | ChunksStored | PlainPart | PlainLost
)  # fmt: skip
