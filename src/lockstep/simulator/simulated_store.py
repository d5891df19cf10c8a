"""The checkpoint store of a simulated node: one durable transaction a checkpoint, as LMDB gives it.

It also keeps the index of final blocks and bundles: durable up to the checkpoint, in memory above it.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from lockstep.ledger.changes import Checkpoint as State
from lockstep.ledger.changes import ChunkSet


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


@dataclass(slots=True)
class SimulatedStore:
    """Survives crashes; `index_lost` forgets what was in memory only."""

    meta: Meta | None = None
    chunks: dict[int, dict[int, np.ndarray]] = field(default_factory=dict)
    """Table → chunk → its bytes."""
    _blocks: dict[int, BlockPlace] = field(default_factory=dict)
    _fates: dict[bytes, FatePlace] = field(default_factory=dict)
    fresh_blocks: dict[int, BlockPlace] = field(default_factory=dict)
    fresh_fates: dict[bytes, FatePlace] = field(default_factory=dict)

    def write(self, meta: Meta, state: State) -> None:
        """One transaction."""
        self.meta = meta
        for part in state.sets:
            rows = self.chunks.setdefault(part.table, {})
            for place, number in enumerate(part.chunks.tolist()):
                rows[number] = part.data[place]
        for height in [h for h in self.fresh_blocks if h <= meta.height]:
            self._blocks[height] = self.fresh_blocks.pop(height)
        for bundle in [b for b, place in self.fresh_fates.items() if place.height <= meta.height]:
            self._fates[bundle] = self.fresh_fates.pop(bundle)

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
        return self.fresh_blocks.get(height) or self._blocks.get(height)

    def fate(self, bundle: bytes) -> FatePlace | None:
        """Where a bundle's outcome is."""
        return self.fresh_fates.get(bundle) or self._fates.get(bundle)

    def index_lost(self) -> None:
        """The process is gone."""
        self.fresh_blocks.clear()
        self.fresh_fates.clear()

    def copy(self) -> "SimulatedStore":
        """What is durable, as of now."""
        return SimulatedStore(
            self.meta, {table: dict(rows) for table, rows in self.chunks.items()}, dict(self._blocks), dict(self._fates)
        )
