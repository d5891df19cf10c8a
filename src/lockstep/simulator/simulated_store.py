"""The checkpoint store of a simulated node: one durable transaction a checkpoint, as LMDB gives it.

It also keeps the index of final blocks and bundles: durable up to the checkpoint, in memory above it.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec
import numpy as np

from lockstep.ledger.changes import Checkpoint as State
from lockstep.ledger.changes import ChunkSet
from lockstep.ledger.manifest import Manifest, parse_manifest
from lockstep.ledger.subtree import leaf_values
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.node.retention import Floors
from lockstep.sync.local_state import LocalState
from lockstep.sync.local_table import LocalTable
from lockstep.sync.state_walk import Arrived
from lockstep.wire.certificate import Finalization
from lockstep.wire.message import CheckpointOffer

_finalization = msgspec.msgpack.Decoder(Finalization)


class BlockPlace(NamedTuple):
    """Positions in the log; `certificate` is 0 when the block has none of its own."""

    block: int
    certificate: int


class FatePlace(NamedTuple):
    """Where a final bundle's outcome is."""

    height: int
    place: int
    first: int
    events: int


class Meta(NamedTuple):
    """What a restart needs beside the state."""

    height: int
    header: bytes
    manifest: bytes
    log_position: int
    certificate: bytes = b""
    is_rebuilt: bool = False


Chunks = dict[int, dict[int, np.ndarray]]
"""Table → chunk → its bytes."""
_FULL: Final = 1 << 62


class KeptChunks:
    """The chunks of a checkpoint, as `KeptTables`."""

    def __init__(self, manifest: Manifest | None, chunks: Chunks) -> None:
        self._used = [] if manifest is None else [entry.used_bytes for entry in manifest.tables]
        self._chunks = chunks

    def read(self, table: int, first: int, count: int) -> bytes:
        """So many chunks of a table."""
        rows = self._chunks.get(table, {})
        return b"".join(
            rows[number].tobytes() if number in rows else bytes(CHUNK_BYTES) for number in range(first, first + count)
        )

    def leaves(self, table: int, first: int, count: int) -> np.ndarray:
        """Chaining values of so many chunks; zeros of one that was never written."""
        values, rows = np.zeros((count, 8), np.uint32), self._chunks.get(table, {})
        here = np.array([number for number in range(first, first + count) if number in rows], np.int64)
        if len(here):
            data = np.stack([rows[number] for number in here.tolist()])
            values[here - first] = leaf_values(data, here, self._used[table])
        return values

    def page_values(self, table: int, pages: int) -> np.ndarray:
        """None is kept."""
        return np.zeros((pages, 8), np.uint32)


class PinnedStore(KeptChunks):
    """A checkpoint as it was."""

    def __init__(self, meta: Meta, chunks: Chunks) -> None:
        super().__init__(parse_manifest(meta.manifest), chunks)
        self.height = meta.height
        self.offer = CheckpointOffer(meta.header, _finalization.decode(meta.certificate), meta.manifest)

    def close(self) -> None:
        """Nothing is to be given back."""


class StagedRows:
    """Chunks of a newer state."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks

    def numbers(self) -> dict[int, np.ndarray]:
        """Table → numbers of the chunks that are here, ascending."""
        return {table: np.array(sorted(rows), np.int64) for table, rows in sorted(self._chunks.items())}

    def leaves_of(self, table: int, numbers: np.ndarray) -> np.ndarray:
        """Their chaining values, as if all were full."""
        rows = self._chunks[table]
        return leaf_values(np.stack([rows[number] for number in numbers.tolist()]), numbers, _FULL)

    def read(self, table: int, first: int, count: int) -> bytes:
        """So many chunks, all of them here."""
        return b"".join(self._chunks[table][number].tobytes() for number in range(first, first + count))


@dataclass(slots=True)
class SimulatedStore:
    """Survives crashes; `index_lost` forgets what was in memory only."""

    meta: Meta | None = None
    chunks: Chunks = field(default_factory=dict)
    _blocks: dict[int, BlockPlace] = field(default_factory=dict)
    _fates: dict[bytes, FatePlace] = field(default_factory=dict)
    lowest: int = 1
    """Blocks below this height were pruned."""
    lowest_header: int = 1
    """Their headers from here on stay. Below it they were pruned too, or never came: a state was installed above."""
    _pruned: dict[int, BlockPlace] = field(default_factory=dict)
    """Where the headers of pruned blocks are."""
    staged: Chunks = field(default_factory=dict)
    """Chunks of a state that is being fetched."""
    fresh_blocks: dict[int, BlockPlace] = field(default_factory=dict)
    fresh_fates: dict[bytes, FatePlace] = field(default_factory=dict)

    def write(self, meta: Meta, state: State) -> None:
        """One transaction."""
        self.staged = {}
        for part in state.sets:
            rows = self.chunks.setdefault(part.table, {})
            for place, number in enumerate(part.chunks.tolist()):
                rows[number] = part.data[place]
        self._settle(meta)

    def _settle(self, meta: Meta) -> None:
        self.meta = meta
        for height in [h for h in self.fresh_blocks if h <= meta.height]:
            self._blocks[height] = self.fresh_blocks.pop(height)
        for bundle in [b for b, place in self.fresh_fates.items() if place.height <= meta.height]:
            self._fates[bundle] = self.fresh_fates.pop(bundle)

    def stage(self, arrived: Arrived) -> None:
        """Keep chunks of a newer state."""
        rows = self.staged.setdefault(arrived.table, {})
        for number, row in zip(arrived.numbers.tolist(), arrived.data, strict=True):
            rows[number] = row

    def local(self, manifest: Manifest) -> list[LocalTable | None]:
        """What is here of a state, staged chunks before the checkpoint's; None for a table that is the same here."""
        return self._look().tables(manifest)

    def local_leaves(self, manifest: Manifest, table: int, ranges: list[int]) -> np.ndarray:
        """The leaves of these ascending ranges of a table; zeros for a chunk that is not here."""
        return self._look().leaves(manifest, table, ranges)

    def _look(self) -> LocalState:
        own = None if self.meta is None else parse_manifest(self.meta.manifest)
        return LocalState(own, KeptChunks(own, self.chunks), StagedRows(self.staged))

    def install(self, meta: Meta) -> dict[int, np.ndarray]:
        """Everything of this state is here: make it the checkpoint. One transaction. Returns table → numbers of the
        chunks that were fetched."""
        fetched = StagedRows(self.staged).numbers()
        for table, entry in enumerate(parse_manifest(meta.manifest).tables):
            rows = self.chunks.get(table, {}) | self.staged.get(table, {})
            full, rest = divmod(entry.used_bytes, CHUNK_BYTES)
            self.chunks[table] = {number: row for number, row in rows.items() if number < full}
            if rest:
                last = np.zeros(CHUNK_BYTES, np.uint8)
                last[:rest] = rows.get(full, last)[:rest]
                self.chunks[table][full] = last
        self.chunks = {table: rows for table, rows in self.chunks.items() if rows}
        self.staged = {}
        self._settle(meta)
        self.lowest = self.lowest_header = meta.height + 1
        return fetched

    def prune(self, kept: int) -> bool:
        """Serve no blocks that lie more than so many below the checkpoint; whether there were any. All headers stay."""
        below = 0 if self.meta is None else self.meta.height - kept
        return self.forget_below(Floors(max(1, below + 1), 1))

    def forget_below(self, floors: Floors) -> bool:
        """Blocks below one height go, and their headers below another; whether there were any blocks. Neither comes
        back."""
        self.lowest = max(self.lowest, floors.blocks)
        self.lowest_header = max(self.lowest_header, min(floors.headers, self.lowest))
        pruned = [height for height in self._blocks if height < self.lowest]
        for height in pruned:
            self._pruned[height] = self._blocks.pop(height)
        for height in [height for height in self._pruned if height < self.lowest_header]:
            del self._pruned[height]
        return bool(pruned)

    def newest_height(self) -> int | None:
        """Height of the newest checkpoint."""
        return None if self.meta is None else self.meta.height

    def pin(self) -> "PinnedStore | None":
        """The newest checkpoint, held."""
        return None if self.meta is None else PinnedStore(self.meta, {t: dict(rows) for t, rows in self.chunks.items()})

    def state(self) -> tuple[bytes, list[ChunkSet]] | None:
        """Manifest and chunks of the newest checkpoint."""
        if self.meta is None:
            return None
        sets = [
            ChunkSet(table, np.array(sorted(rows), np.int32), np.stack([rows[number] for number in sorted(rows)]))
            for table, rows in sorted(self.chunks.items())
        ]
        return self.meta.manifest, sets

    def block(self, height: int) -> BlockPlace | None:
        """Where the final block at this height is."""
        return None if height < self.lowest else self.fresh_blocks.get(height) or self._blocks.get(height)

    def header(self, height: int) -> BlockPlace | None:
        """Where its header is, which stays when the block is pruned."""
        return None if height < self.lowest_header else self.block(height) or self._pruned.get(height)

    def fate(self, bundle: bytes) -> FatePlace | None:
        """Where a bundle's outcome is."""
        place = self.fresh_fates.get(bundle) or self._fates.get(bundle)
        return None if place is None or place.height < self.lowest else place

    def index_lost(self) -> None:
        """The process is gone."""
        self.fresh_blocks.clear()
        self.fresh_fates.clear()

    def copy(self) -> "SimulatedStore":
        """What is durable, as of now."""
        return SimulatedStore(
            self.meta,
            {table: dict(rows) for table, rows in self.chunks.items()},
            dict(self._blocks),
            dict(self._fates),
            self.lowest,
            self.lowest_header,
            dict(self._pruned),
            {table: dict(rows) for table, rows in self.staged.items()},
        )
