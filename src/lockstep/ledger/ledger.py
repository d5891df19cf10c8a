"""The ledger: tables, their commitment, and a stack of speculative epochs that can be taken back.

An epoch is the writing of one block. `begin` opens it and hands out the `Undo` that kernels write through; `seal`
closes it and returns the state root; then either `commit` (oldest first) makes it final, or `rollback` (newest
first) restores every byte, count and root. Nothing here touches a disk, a clock or a random source.

Rules for the kernels: write only after `touch`; bytes beyond a table's `count` rows are zero, so a kernel that
lowers `count` first zeroes the rows it gives up. `seal` checks the second rule on every chunk it hashes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from lockstep.base.digest import digest
from lockstep.base.errors import InvariantBroken
from lockstep.base.limits import SPECULATIVE_DEPTH_MAX
from lockstep.ledger.manifest import ROW_BYTES_MAX, ManifestWriter
from lockstep.ledger.table import CHUNK_BYTES, CHUNK_WORDS, Table, Undo, page_aligned
from lockstep.ledger.tree import mark_places_stale, new_trees, refresh, table_hashes
from lockstep.ledger.undo import SEGMENT_CHUNKS, SEGMENT_CHUNKS_MAX, new_undo, note_changed, restore

EPOCHS_MAX: Final = SPECULATIVE_DEPTH_MAX + 2
EPOCH_NUMBER_MAX: Final = (1 << 32) - 1
PAGE_CHUNKS: Final = 4
"""Tables begin on a page, so that a table can be mapped or written out by itself."""


@dataclass(frozen=True, slots=True)
class TableLayout:
    """A table's name, row layout (a structured dtype whose width is a power of two) and largest number of rows."""

    name: str
    dtype: "np.dtype[np.void]"
    capacity_rows: int

    def __post_init__(self) -> None:
        width = self.dtype.itemsize
        if not 0 < width <= ROW_BYTES_MAX or width & (width - 1):
            raise ValueError(f"table {self.name}: a row of {width} bytes is not a power of two up to {ROW_BYTES_MAX}")
        if self.capacity_rows < 1 or self.capacity_chunks >= 1 << 31:
            raise ValueError(f"table {self.name}: capacity of {self.capacity_rows} rows is out of range")

    @property
    def capacity_chunks(self) -> int:
        """Chunks that the capacity fills."""
        return -(-self.capacity_rows * self.dtype.itemsize // CHUNK_BYTES)


@dataclass(frozen=True, slots=True)
class State:
    """A sealed state: its root, its manifest, and the rows of each table."""

    root: bytes
    manifest: bytes
    counts: "np.ndarray[tuple[int], np.dtype[np.int64]]"


@dataclass(slots=True)
class _Epoch:
    before: State
    segments: list[Undo] = field(default_factory=list)
    sealed: State | None = None


class Ledger:
    """Owns the memory of all tables. One thread at a time."""

    def __init__(self, layouts: Sequence[TableLayout]) -> None:
        self.layouts = tuple(layouts)
        reserved = [-(-layout.capacity_chunks // PAGE_CHUNKS) * PAGE_CHUNKS for layout in layouts]
        self._first = np.cumsum([0, *reserved[:-1]], dtype=np.int64)
        self._width = np.array([layout.dtype.itemsize for layout in layouts], np.int64)
        total = sum(reserved)
        self._memory = page_aligned(total * CHUNK_BYTES).view(np.uint64)[: total * CHUNK_WORDS]
        self._chunks = self._memory.reshape(total, CHUNK_WORDS)
        self._words = self._memory.view(np.uint32)
        self._marks = page_aligned(total * 4).view(np.uint32)[:total]
        self._counts = np.zeros(len(reserved), np.int64)
        self._trees = new_trees(reserved, [int(first) * CHUNK_BYTES // 4 for first in self._first])
        self._writer = ManifestWriter([(layout.name, layout.dtype) for layout in layouts])
        self._slot = page_aligned(total * 4).view(np.int32)[:total]
        self._changed = page_aligned(total * 4).view(np.int32)[:total]
        self._changed_count = 0
        self._epoch_number = 0
        self._epochs: list[_Epoch] = []
        self._spare: list[Undo] = []
        self._committed = self._state()
        self.tables: tuple[Table, ...] = tuple(self._table(number) for number in range(len(reserved)))

    def _table(self, number: int) -> Table:
        layout, first = self.layouts[number], int(self._first[number])
        chunks = slice(first, first + layout.capacity_chunks)
        rows_per_chunk = CHUNK_BYTES // layout.dtype.itemsize
        return Table(
            rows=self._chunks[chunks].reshape(-1).view(layout.dtype)[: layout.capacity_rows],
            words=self._chunks[chunks],
            mark=self._marks[chunks],
            count=self._counts[number : number + 1],
            shape=np.array([number, rows_per_chunk.bit_length() - 1], np.int64),
        )

    # -- reading ---------------------------------------------------------------------------------------

    @property
    def depth(self) -> int:
        """Epochs that are open: sealed but not committed, and the one in writing."""
        return len(self._epochs)

    @property
    def state(self) -> State:
        """The newest sealed state."""
        for epoch in reversed(self._epochs):
            if epoch.sealed is not None:
                return epoch.sealed
        return self._committed

    @property
    def committed(self) -> State:
        """The state after the last committed epoch."""
        return self._committed

    @property
    def root(self) -> bytes:
        """State root of the newest sealed state, 32 bytes."""
        return self.state.root

    def manifest(self) -> bytes:
        """Manifest of the newest sealed state; its BLAKE3 hash is `root`."""
        return self.state.manifest

    # -- writing ---------------------------------------------------------------------------------------

    def begin(self) -> Undo:
        """Open an epoch. Raises `InvariantBroken` when too many are open or the newest is still being written."""
        if self._epochs and self._epochs[-1].sealed is None:
            raise InvariantBroken("an epoch was begun while the one before is still being written")
        if len(self._epochs) >= EPOCHS_MAX:
            raise InvariantBroken(f"more than {EPOCHS_MAX} epochs would be open")
        if self._epoch_number == EPOCH_NUMBER_MAX:
            self._marks[:] = 0  # numbers start again: no old mark may pass for a new one
            self._epoch_number = 0
        self._epoch_number += 1
        self._epochs.append(_Epoch(self.state))
        return self._add_segment(SEGMENT_CHUNKS)

    def grow_undo(self) -> Undo:
        """Another segment for the epoch in writing, twice as large, for a kernel that ran out of room."""
        epoch = self._writing()
        return self._add_segment(min(2 * len(epoch.segments[-1].places), SEGMENT_CHUNKS_MAX))

    def seal(self) -> bytes:
        """Close the epoch in writing; returns the new state root. Raises `InvariantBroken` when a rule was broken."""
        epoch = self._writing()
        for number, layout in enumerate(self.layouts):
            if not 0 <= self._counts[number] <= layout.capacity_rows:
                raise InvariantBroken(f"table {layout.name} has {self._counts[number]} rows of {layout.capacity_rows}")
        self._mark_stale(epoch.segments)
        epoch.sealed = self._state()
        return epoch.sealed.root

    def rollback(self) -> None:
        """Take back the newest epoch, sealed or not. Its chunks are hashed again at the next seal."""
        if not self._epochs:
            raise InvariantBroken("there is no open epoch to roll back")
        epoch = self._epochs.pop()
        for segment in reversed(epoch.segments):
            restore(self._chunks, self._first, segment)
        self._mark_stale(epoch.segments)
        self._counts[:] = epoch.before.counts
        self._release(epoch)

    def commit(self) -> None:
        """Make the oldest open epoch final. Raises `InvariantBroken` when none is open and sealed."""
        if not self._epochs or self._epochs[0].sealed is None:
            raise InvariantBroken("there is no sealed epoch to commit")
        epoch = self._epochs.pop(0)
        assert epoch.sealed is not None
        for segment in epoch.segments:
            self._changed_count = note_changed(self._slot, self._changed, self._changed_count, self._first, segment)
        self._committed = epoch.sealed
        self._release(epoch)

    def _writing(self) -> _Epoch:
        if not self._epochs or self._epochs[-1].sealed is not None:
            raise InvariantBroken("no epoch is being written")
        return self._epochs[-1]

    def _add_segment(self, chunks: int) -> Undo:
        """A spare segment with room for at least `chunks`, else a new one; the last used is taken first."""
        for i in reversed(range(len(self._spare))):
            if len(self._spare[i].places) >= chunks:
                segment = self._spare.pop(i)
                break
        else:
            segment = new_undo(chunks)
        segment.epoch[0] = self._epoch_number
        segment.used[0] = 0
        self._epochs[-1].segments.append(segment)
        return segment

    def _release(self, epoch: _Epoch) -> None:
        self._spare.extend(reversed(epoch.segments))

    def _mark_stale(self, segments: Iterable[Undo]) -> None:
        for segment in segments:
            mark_places_stale(self._trees, segment.places, segment.used[0])

    def _state(self) -> State:
        """Hash what is stale, and describe the present state."""
        counts = self._counts.copy()
        fault = refresh(self._trees, self._words, counts * self._width)
        if fault >= 0:
            raise InvariantBroken(f"table {self.layouts[fault].name} has bytes other than zero beyond its rows")
        manifest = self._writer.write(counts.tolist(), table_hashes(self._trees))
        return State(digest(manifest), manifest, counts)
