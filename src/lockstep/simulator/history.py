"""What happened in one simulated run, as the world saw it: the only thing that checkers look at.

The world fills it; it calls no production code by itself. Times are virtual microseconds since the epoch. Bytes are
canonical encodings as they were on the wire or in the log, so that a checker can decode them in its own way.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from lockstep.wire.genesis import Genesis


class Final(NamedTuple):
    """One block, as one node committed it."""

    height: int
    view: int
    block: bytes
    """Its digest."""
    header: bytes
    state_root: bytes
    event_root: bytes
    events: bytes
    """EVENT rows."""
    certificate: bytes | None
    """The finalization that this node held for this very block; None when one above it proved it."""
    at_us: int


class Durable(NamedTuple):
    """One log record (kind byte and encoding) and when its sync returned."""

    at_us: int
    record: bytes
    position: int = 0
    """In the log."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A restart: of the records that were durable before, the log still held the first `kept` of `durable`."""

    at_us: int
    kind: str
    kept: int
    durable: int = 0


@dataclass(frozen=True, slots=True)
class SeenEvidence:
    """An equivocation that an honest node recorded."""

    node: int
    at_us: int
    signer: int
    view: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Blame:
    """A node called a peer a liar, and dropped it."""

    at_us: int
    peer: int
    detail: str


@dataclass(slots=True)
class NodeHistory:
    """One validator's life. Twins share an index and have a history each; they are faulty."""

    index: int
    is_faulty: bool = False
    """Byzantine, or its disk lied, or it was built anew: whatever it claims does not count."""
    behaviour: str = ""
    """What it does instead of the protocol, if it is Byzantine."""
    finals: dict[int, Final] = field(default_factory=dict)
    """The first commit of each height. A restarted node commits some heights again: see `recommits`."""
    recommits: list[Final] = field(default_factory=list)
    """Later commits of a height that differ from the first in block or roots. Must be empty."""
    executed: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)
    """Block → (state root, event root), of the last execution."""
    durable: list[Durable] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    records_at_end: list[bytes] = field(default_factory=list)
    """What a restart at the end of the run would read."""
    tables_at_end: dict[int, bytes] = field(default_factory=dict)
    """Table number (`venue.schema`) → bytes of its used rows, in the committed state, if the node was up."""
    final_height_at_end: int = 0
    is_up_at_end: bool = False
    installed: list[int] = field(default_factory=list)
    """Heights at which a state was installed that had been fetched: the blocks up to there were not executed here."""
    blamed: list[Blame] = field(default_factory=list)
    starts: int = 0
    stopped: str = ""
    """Why the node stopped by itself, last: halted, refused its own log, a failed write."""
    queues_max: dict[str, int] = field(default_factory=dict)
    """Name of a queue → the most it ever held."""
    queues_at_end: dict[str, int] = field(default_factory=dict)
    log_bytes_at_end: int = 0


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A client was told that its bundle is final."""

    client: int
    bundle: bytes
    """Its digest."""
    node: int
    submitted_us: int
    answered_us: int
    height: int
    place: int
    """In the block."""
    outcomes: bytes
    """EVENT rows of the bundle."""


@dataclass(frozen=True, slots=True)
class Phase:
    """`safety`: everything may happen. `liveness`: `healed` are well for good, the rest of the faults stay."""

    name: str
    from_us: int
    to_us: int
    healed: tuple[int, ...] = ()
    passed: bool = True
    detail: str = ""


@dataclass(slots=True)
class History:
    """All of it."""

    genesis: Genesis
    seed: int
    nodes: list[NodeHistory]
    acknowledged: list[Acknowledgement] = field(default_factory=list)
    bundles: dict[bytes, bytes] = field(default_factory=dict)
    """Every bundle that a client made, by digest."""
    blocks: dict[bytes, bytes] = field(default_factory=dict)
    """Every block that some node committed: digest → canonical encoding of a `ChainBlock`."""
    evidence: list[SeenEvidence] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    """Kind → how often it fired."""
    marks: dict[str, int] = field(default_factory=dict)
    phases: list[Phase] = field(default_factory=list)
    started_us: int = 0
    ended_us: int = 0

    @property
    def honest(self) -> list[NodeHistory]:
        """The nodes whose word counts."""
        return [node for node in self.nodes if not node.is_faulty]


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept. `name` is the checker's."""

    name: str
    text: str
    at_us: int = 0
