"""What a home's files say, read without changing them: its node may be running, or may have halted.

From the newest checkpoint on (or from genesis, while the log goes back that far) it has the final blocks, the roots
that certificates and the node's own votes name, and can execute the blocks again to any height in between.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lockstep.base.errors import ConfigurationError, StorageFailed
from lockstep.log.reader import LogReader
from lockstep.log.segment import (
    HEADER_BYTES,
    RECORD_HEADER_BYTES,
    decode_header,
    mark_at,
    record_at,
    segment_name,
    split_position,
)
from lockstep.node.checks import observation_rows
from lockstep.node.executor import Executor
from lockstep.node.record import Record, StoredBlock, decode_record
from lockstep.runtime.directory import Directory
from lockstep.runtime.in_use import hold_home
from lockstep.runtime.store import Store
from lockstep.runtime.stored_checkpoint import newest_checkpoint
from lockstep.venue.venue import Execution, Venue
from lockstep.wire.block import Header, genesis_header
from lockstep.wire.certificate import Finalization
from lockstep.wire.genesis import load_genesis
from lockstep.wire.observation import Observation
from lockstep.wire.vote import Finalize


@dataclass(frozen=True, slots=True)
class Roots:
    """What a home says that executing a block gave. `is_own`: by its node's own vote, else by a certificate."""

    height: int
    state_root: bytes
    event_root: bytes
    is_own: bool


class HomeMoved(ConfigurationError):
    """The node of this home went on meanwhile."""


class StoredChain:
    """A home's final blocks above `base`, in order."""

    def __init__(self, home: Path, from_genesis: bool = False) -> None:
        """Raises `ConfigurationError` when this is no home, `StorageFailed` when its files are damaged."""
        self.home = home
        hold_home(home, self)
        self.genesis = load_genesis(home / "genesis.json")
        found = None if from_genesis else newest_checkpoint(home, self.genesis)
        self._from_genesis = found is None
        meta, self.base = found or (None, genesis_header(self.genesis.chain_id, self.genesis.time_ms))
        self._base_root = b"" if meta is None else meta.state_root
        self._make_venue = self._venue
        self.roots: dict[bytes, Roots] = {}
        """By block; the node's own vote counts more than a certificate."""
        self.finals: dict[int, Finalization] = {}
        self.blocks: list[StoredBlock] = []
        self._read(None if meta is None else meta.log_position)

    @property
    def newest(self) -> int:
        """Height of the newest final block that is here with all its ancestors."""
        return self.base.height + len(self.blocks)

    def block(self, height: int) -> StoredBlock:
        """A final block above `base`."""
        return self.blocks[height - self.base.height - 1]

    def replay_to(self, height: int) -> "Replay":
        """The state after the final block at this height, by executing again; raises `ConfigurationError` when the
        home cannot have it."""
        if not self.base.height <= height <= self.newest:
            raise ConfigurationError(
                f"{self.home} can give the states of heights {self.base.height} to {self.newest}, not {height}"
            )
        replay = Replay(self._make_venue(), self.base)
        for stored in self.blocks[: height - self.base.height]:
            replay.execute(stored)
        return replay

    def begin_like(self, other: "StoredChain") -> None:
        """Begin at the other's older base: read the blocks in between, and execute them on the other's checkpoint.

        Both checkpoints are certified, so it does not matter whose state is taken. Raises `ConfigurationError` when
        this home has other blocks there, or has them no more."""
        if other.base.height >= self.base.height:
            return
        reader = LogReader(Directory(self.home / "log"))
        blocks: list[StoredBlock] = []
        parent = other.base.digest
        with self._opened_store() as store:
            for height in range(other.base.height + 1, self.base.height + 1):
                place = store.blocks.block(height)
                stored = None if place is None else decode_record(reader.read(place.block))
                if not isinstance(stored, StoredBlock) or stored.block.header.parent != parent:
                    raise ConfigurationError(f"{self.home} has no block {height} that follows those of {other.home}")
                if place is not None and place.certificate:
                    self._note(decode_record(reader.read(place.certificate)))
                blocks.append(stored)
                parent = stored.block.digest
        reader.close()
        self.blocks = blocks + self.blocks
        self.base, self._make_venue = other.base, other._make_venue

    @contextmanager
    def _opened_store(self) -> Iterator[Store]:
        """The checkpoint store, as short as possible: LMDB opens a folder once in a process."""
        store = Store(self.home / "checkpoints", read_only=True)
        try:
            yield store
        finally:
            store.close()

    def _venue(self) -> Venue:
        if self._from_genesis:
            return Venue(self.genesis)
        with self._opened_store() as store:
            saved = store.state()
        if saved is None or saved[0].state_root != self._base_root:
            raise HomeMoved(f"{self.home} has a new checkpoint since it was first looked at: try again")
        return Venue(self.genesis, (saved[0].manifest, saved[1]))

    def _read(self, start: int | None) -> None:
        blocks: dict[bytes, StoredBlock] = {}
        for payload in records(self.home / "log", start):
            record = decode_record(payload)
            if isinstance(record, StoredBlock):
                blocks[record.block.digest] = record
            else:
                self._note(record)
        for height in sorted(self.finals, reverse=True):
            path = _path(blocks, self.finals[height].block, self.base)
            if path is not None:
                self.blocks = path
                return

    def _note(self, record: Record) -> None:
        """Remember what a record says about roots."""
        match record:
            case Finalization():
                self.finals[record.height] = record
                roots = Roots(record.height, record.state_root, record.event_root, is_own=False)
                self.roots.setdefault(record.block, roots)
            case Finalize():
                self.roots[record.block] = Roots(record.height, record.state_root, record.event_root, is_own=True)
            case _:
                pass


def _path(blocks: dict[bytes, StoredBlock], tip: bytes, base: Header) -> list[StoredBlock] | None:
    """Blocks from above `base` up to `tip`; None when one is missing."""
    path: list[StoredBlock] = []
    while tip != base.digest:
        stored = blocks.get(tip)
        if stored is None or stored.block.header.height <= base.height:
            return None
        path.append(stored)
        tip = stored.block.header.parent
    return path[::-1]


class Replay:
    """A state that blocks are executed on, each becoming final at once."""

    def __init__(self, venue: Venue, base: Header) -> None:
        self._executor = Executor(venue, base.digest, base.height)
        self.venue = venue

    @property
    def height(self) -> int:
        """The height of the state."""
        return self._executor.top[1]

    def execute(self, stored: StoredBlock) -> bytes:
        """Execute the next block; its state root."""
        return execute_again(self._executor, stored).state_root


def execute_again(executor: Executor, stored: StoredBlock) -> Execution:
    """Execute a final block, and make it final at once."""
    observations = [Observation(raw) for raw in stored.block.payload.observations]
    execution = executor.execute(stored, observation_rows(observations))
    executor.commit(stored.block.digest)
    return execution


def records(folder: Path, start: int | None) -> Iterator[bytes]:
    """The payloads of a log's records from position `start` on (None: all), up to where it ends or is being written.
    Raises `StorageFailed` when the log does not go back that far."""
    first, offset = (1, HEADER_BYTES) if start is None else split_position(start)
    number = first
    while (path := folder / segment_name(number)).is_file():
        data = memoryview(path.read_bytes())
        header = decode_header(bytes(data[:HEADER_BYTES]))
        if header is None:
            return
        while True:
            record = record_at(data, offset, header.key)
            if record is not None:
                yield bytes(record[1])
                offset += RECORD_HEADER_BYTES + len(record[1])
            elif mark_at(data, offset, header.key) is not None:
                offset += RECORD_HEADER_BYTES
            else:
                break
        number, offset = number + 1, HEADER_BYTES
    if number == first and any(folder.glob("*.log")):
        raise StorageFailed(f"{folder} does not go back to segment {first}: older ones were removed")
