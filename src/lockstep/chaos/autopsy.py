"""A run's history, read from what the nodes left on their disks, for the simulator's checkers.

What a disk cannot tell is when things happened inside a process. So the durability check asks less than in the
simulator: whether a quorum's disks have the votes for every block that was called final, not whether they had them
before. The state roots of heights for which a log has neither an own vote nor a certificate come from executing the
chain once more, and the tables are those of the checkpoint, which is what a restart would begin from.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lockstep.base.digest import digest
from lockstep.node.checks import observation_rows
from lockstep.node.executor import Executor
from lockstep.node.record import StoredBlock, decode_record
from lockstep.runtime.home import Home
from lockstep.runtime.store import Store
from lockstep.runtime.stored_chain import records
from lockstep.simulator.history import Durable, Final, History, Loss, NodeHistory, SeenEvidence
from lockstep.venue.schema import TABLES
from lockstep.venue.venue import Venue
from lockstep.wire.block import decode_header, genesis_header
from lockstep.wire.certificate import Finalization
from lockstep.wire.codec import encode
from lockstep.wire.evidence import Evidence
from lockstep.wire.genesis import Genesis
from lockstep.wire.observation import Observation
from lockstep.wire.vote import Finalize

Roots = tuple[bytes, bytes]
_HEIGHT_BYTES, _HEAD_BYTES = 8, 40
"""A history record: height u64, the block's digest, then EVENT rows (`runtime.history`)."""


def log_records(home: Home) -> list[bytes]:
    """Everything that a home's log holds, in order; nothing when there is no log yet."""
    return list(records(home.log, None)) if home.log.is_dir() else []


@dataclass(slots=True)
class _Disk:
    """What one home's files hold."""

    raw: list[bytes]
    blocks: dict[bytes, StoredBlock] = field(default_factory=dict)
    certificates: dict[bytes, Finalization] = field(default_factory=dict)
    own: dict[bytes, Roots] = field(default_factory=dict)
    evidence: list[Evidence] = field(default_factory=list)
    events: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    """Height → (block, EVENT rows)."""


def _read(home: Home) -> _Disk:
    disk = _Disk(log_records(home))
    for raw in disk.raw:
        match decode_record(raw):
            case StoredBlock() as stored:
                disk.blocks[stored.block.digest] = stored
            case Finalization() as certificate:
                disk.certificates.setdefault(certificate.block, certificate)
            case Finalize() as vote:
                disk.own[vote.block] = vote.state_root, vote.event_root
            case Evidence() as evidence:
                disk.evidence.append(evidence)
            case _:
                pass
    for raw in records(home.history, None) if home.history.is_dir() else ():
        height = int.from_bytes(raw[:_HEIGHT_BYTES], "little")
        disk.events[height] = raw[_HEIGHT_BYTES:_HEAD_BYTES], raw[_HEAD_BYTES:]
    return disk


class Executed:
    """The chain of a run, executed once more: each block's roots, computed when first asked for, in order."""

    def __init__(self, genesis: Genesis) -> None:
        header = genesis_header(genesis.chain_id, genesis.time_ms)
        self._executor = Executor(Venue(genesis), header.digest, 0)
        self._roots: dict[bytes, Roots] = {}

    def roots(self, stored: StoredBlock) -> Roots | None:
        """The roots after a block; None when it is not on the chain that was executed."""
        block = stored.block
        if block.digest not in self._roots and block.header.parent == self._executor.top[0]:
            observations = [Observation(raw) for raw in block.payload.observations]
            execution = self._executor.execute(stored, observation_rows(observations))
            self._executor.commit(block.digest)
            self._roots[block.digest] = execution.state_root, execution.event_root
        return self._roots.get(block.digest)


@dataclass(frozen=True, slots=True)
class Life:
    """What the harness saw of a node while it lived."""

    starts: int
    is_up: bool
    """Until it was told to stop, at the end."""
    stopped: str
    logs: Sequence[list[bytes]]
    """What its log held each time that it was found dead."""
    seen_us: dict[int, int]
    """Height → when it told of that block first."""
    levels_max: dict[str, int]


def examine(homes: Sequence[Home], lives: Sequence[Life], seed: int, started_us: int, ended_us: int) -> History:
    """The history of a run whose processes have ended, without clients, faults and phases."""
    genesis = homes[0].genesis
    executed = Executed(genesis)
    history = History(genesis, seed, [], started_us=started_us, ended_us=ended_us)
    for home, life in zip(homes, lives, strict=True):
        disk = _read(home)
        history.nodes.append(_node(home, life, disk, executed, started_us))
        for digest_, stored in disk.blocks.items():
            history.blocks.setdefault(digest_, encode(stored.to_wire()))
        for evidence in disk.evidence:
            seen = SeenEvidence(home.index, ended_us, evidence.signer, evidence.view, encode(evidence))
            history.evidence.append(seen)
    return history


def _node(home: Home, life: Life, disk: _Disk, executed: Executed, started_us: int) -> NodeHistory:
    node = NodeHistory(home.index, starts=life.starts, is_up_at_end=life.is_up, stopped=life.stopped)
    node.records_at_end = disk.raw
    node.durable = [Durable(0, raw, place) for place, raw in enumerate(disk.raw)]
    node.losses = [Loss(0, "restart", _common(log, disk.raw), len(log)) for log in life.logs]
    node.queues_max = dict(life.levels_max)
    node.log_bytes_at_end = sum(path.stat().st_size for path in home.log.glob("*.log"))
    for height, (block, events) in sorted(disk.events.items()):
        stored = disk.blocks.get(block)
        if stored is None:
            node.losses.append(Loss(0, f"log that lacks block {height}, which was called final", 0, 1))
            continue
        certificate = disk.certificates.get(block)
        again = executed.roots(stored)
        if again is not None:
            node.executed[block] = again
        if block in disk.own:
            roots = disk.own[block]
        elif certificate is not None:
            roots = certificate.state_root, certificate.event_root
        else:
            roots = again or (b"", digest(events))
        node.finals[height] = Final(
            height, stored.block.header.view, block, stored.block.header.encode(), *roots, events,
            None if certificate is None else encode(certificate), life.seen_us.get(height, started_us),
        )  # fmt: skip
    _take_tables(home, node)
    return node


def _take_tables(home: Home, node: NodeHistory) -> None:
    """The checkpoint's tables, out of the node's own store."""
    store = Store(home.checkpoints, read_only=True) if Path(home.checkpoints).is_dir() else None
    saved = None if store is None else store.state()
    if store is None or saved is None:
        return
    meta, sets = saved
    venue = Venue(home.genesis, (meta.manifest, sets))
    node.final_height_at_end = decode_header(meta.header).height
    node.tables_at_end = {table: venue.rows(table).tobytes() for table in range(TABLES)}
    store.close()


def _common(one: Sequence[bytes], other: Sequence[bytes]) -> int:
    """How many records from the beginning are the same."""
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return count
