"""The ledger: tables, their commitment, and a stack of speculative epochs that can be taken back.

An epoch is the writing of one block. `begin` opens it and hands out the `Undo` that kernels write through; `seal`
closes it and returns the state root; then either `commit` (oldest first) makes it final, or `rollback` (newest
first) restores every byte, count and root. Nothing here touches a disk, a clock or a random source.

Rules for the kernels: write only after `touch`, and touch every row that `count` is raised over; bytes beyond a
table's `count` rows are zero, so a kernel that lowers `count` first zeroes the rows it gives up. `seal` checks the
last rule on every chunk it hashes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import gt
from typing import Any, Final

import numpy as np

from lockstep.base.digest import digest
from lockstep.base.errors import InvariantBroken, Refused, StorageFailed
from lockstep.base.limits import EMPTY_DEPTH_MAX
from lockstep.ledger.changes import Changes, Checkpoint, ChunkSet, committed_copy
from lockstep.ledger.difference import HashTree
from lockstep.ledger.manifest import ROW_BYTES_MAX, ManifestWriter, parse_manifest
from lockstep.ledger.proof import RowProof
from lockstep.ledger.table import CHUNK_BYTES, CHUNK_WORDS, Table, Undo, page_aligned
from lockstep.ledger.tree import mark_places_stale, new_trees, path, refresh, table_hashes
from lockstep.ledger.undo import SEGMENT_CHUNKS, SEGMENT_CHUNKS_MAX, new_undo, restore

EPOCHS_MAX: Final = EMPTY_DEPTH_MAX + 2
EPOCH_NUMBER_MAX: Final = (1 << 32) - 1
Array = np.ndarray[Any, Any]
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
        self._capacity = [layout.capacity_rows for layout in layouts]
        self._width = np.array([layout.dtype.itemsize for layout in layouts], np.int64)
        total = sum(reserved)
        self._memory = page_aligned(total * CHUNK_BYTES).view(np.uint64)[: total * CHUNK_WORDS]
        self._chunks = self._memory.reshape(total, CHUNK_WORDS)
        self._words = self._memory.view(np.uint32)
        self._marks = page_aligned(total * 4).view(np.uint32)[:total]
        self._counts = np.zeros(len(reserved), np.int64)
        self._trees = new_trees(reserved, [int(first) * CHUNK_BYTES // 4 for first in self._first])
        self._hashes = table_hashes(self._trees)
        self._writer = ManifestWriter([(layout.name, layout.dtype) for layout in layouts])
        self._changes = Changes(self._first, total)
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
        self._changes.note(epoch.segments)
        self._committed = epoch.sealed
        self._release(epoch)

    def prove_row(self, number: int, row: int) -> RowProof:
        """Prove a row of the newest sealed state: against `root`, which becomes final when its block does.

        Raises `InvariantBroken` while an epoch is being written, `IndexError` when there is no such row.
        """
        return self.prove_rows([(number, row)])[0]

    def prove_rows(self, rows: Iterable[tuple[int, int]]) -> list[RowProof]:
        """The same for several rows, as (table number, row)."""
        if self._epochs and self._epochs[-1].sealed is None:
            raise InvariantBroken("no row can be proven while an epoch is being written")
        if self._state().root != self.state.root:  # hashes what a rollback left to be hashed
            raise InvariantBroken("a rollback did not restore the state")
        return [self._prove(number, row) for number, row in rows]

    def _prove(self, number: int, row: int) -> RowProof:
        state = self.state
        if not 0 <= row < state.counts[number]:
            raise IndexError(f"table {self.layouts[number].name} has {state.counts[number]} rows, and no row {row}")
        width, used = int(self._width[number]), int(state.counts[number] * self._width[number])
        chunk = row * width // CHUNK_BYTES
        image = self._chunks[self._first[number] + chunk].tobytes()[: used - chunk * CHUNK_BYTES]
        return RowProof(state.manifest, self.layouts[number].name, row, image, path(self._trees, number, chunk))

    def hash_tree(self, number: int) -> HashTree:
        """A table's used bytes and nodes, of the newest sealed state: a view, until the next block.

        Raises `InvariantBroken` while an epoch is being written."""
        if self._epochs and self._epochs[-1].sealed is None:
            raise InvariantBroken("a state cannot be compared while an epoch is being written")
        self._state()  # hashes what a rollback left to be hashed
        used, first = int(self._counts[number] * self._width[number]), int(self._first[number]) * CHUNK_WORDS
        return HashTree(self._memory[first:].view(np.uint8)[:used], self._trees, number)

    # -- leaving and entering memory -----------------------------------------------------------------

    def checkpoint(self) -> Checkpoint:
        """The committed state, as the chunks changed since the last call; open epochs leave no trace in it."""
        sets = self._changes.take(self._chunks, self._open_segments())
        return Checkpoint(self._committed.root, self._committed.manifest, sets)

    def committed_bytes(self, number: int) -> bytes:
        """The used bytes of a table as committed: what its hash in the committed manifest covers."""
        used = int(self._committed.counts[number] * self._width[number])
        first = int(self._first[number])
        chunks = self._chunks[first : first - (-used // CHUNK_BYTES)]
        return committed_copy(chunks, number, self._open_segments()).tobytes()[:used]

    def load(self, manifest: bytes, sets: Iterable[ChunkSet]) -> None:
        """Fill a new ledger with the chunks of all checkpoints so far, of which `manifest` is the last one's.

        Raises `StorageFailed` when that does not give the manifest's hashes; the ledger is then of no use.
        """
        if self._epoch_number or self._counts.any():
            raise InvariantBroken("a state can only be loaded into a new ledger")
        self._fill(manifest, sets)

    def changed_chunks(self) -> dict[int, Array]:
        """Table → (k,) int32, ascending: what committed epochs have changed since the last checkpoint."""
        return self._changes.numbers()

    def replace(self, manifest: bytes, sets: Iterable[ChunkSet]) -> None:
        """Make another state the committed one, and the last checkpoint, in place. `sets` has all of its chunks that
        may differ from the committed ones here; whatever else differed would give another root.

        Raises `StorageFailed` when the manifest's hashes don't come out (the ledger is then of no use), and
        `InvariantBroken` while an epoch is open.
        """
        if self._epochs:
            raise InvariantBroken("a state can only be replaced while no epoch is open")
        self._fill(manifest, sets)
        self._changes.forget()

    def _fill(self, manifest: bytes, sets: Iterable[ChunkSet]) -> None:
        try:
            entries = parse_manifest(manifest).tables
            for layout, entry in zip(self.layouts, entries, strict=True):
                if entry.rows > layout.capacity_rows:
                    raise ValueError(f"table {layout.name} has room for {layout.capacity_rows} rows, not {entry.rows}")
            self._clear_beyond([entry.rows for entry in entries])
            for part in sets:
                self._load_set(part)
            self._counts[:] = [entry.rows for entry in entries]
            state = self._state()
        except (Refused, InvariantBroken, ValueError) as error:
            raise StorageFailed(f"the stored state cannot be loaded: {error}") from error
        if state.manifest != manifest:
            raise StorageFailed("the stored chunks do not have the hashes that the stored manifest gives")
        self._committed = state

    def _clear_beyond(self, rows: list[int]) -> None:
        """Zero what tables have beyond so many rows; hashing finds by itself the chunks of tables that shrink."""
        for number, count in enumerate(rows):
            first, width = int(self._first[number]) * CHUNK_BYTES, int(self._width[number])
            self._memory.view(np.uint8)[first + count * width : first + int(self._counts[number]) * width] = 0

    def _load_set(self, part: ChunkSet) -> None:
        if not 0 <= part.table < len(self.layouts):
            raise ValueError(f"there is no table {part.table}")
        capacity = self.layouts[part.table].capacity_chunks
        if len(part.chunks) and not 0 <= part.chunks.min() <= part.chunks.max() < capacity:
            raise ValueError(f"table {part.table} has {capacity} chunks")
        data = np.ascontiguousarray(part.data).view(np.uint64).reshape(len(part.chunks), CHUNK_WORDS)
        self._chunks[self._first[part.table] + part.chunks] = data
        places = np.empty((len(part.chunks), 2), np.int32)
        places[:, 0], places[:, 1] = part.table, part.chunks
        trees = self._trees
        mark_places_stale(trees.stale, trees.summary, trees.bits, places, len(places))

    def _open_segments(self) -> list[Undo]:
        """Segments of all open epochs, the newest first."""
        return [segment for epoch in reversed(self._epochs) for segment in reversed(epoch.segments)]

    # -- inside --------------------------------------------------------------------------------------

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
        trees = self._trees
        for segment in segments:
            mark_places_stale(trees.stale, trees.summary, trees.bits, segment.places, segment.used[0])

    def _state(self) -> State:
        """Hash what is stale, and describe the present state. Raises `InvariantBroken` when a rule was broken."""
        counts = self._counts.copy()
        rows = counts.tolist()
        if min(rows) < 0 or any(map(gt, rows, self._capacity)):
            have = [f"{of.name} has {n} rows of {of.capacity_rows}" for of, n in zip(self.layouts, rows, strict=True)]
            raise InvariantBroken(f"a table is too long: {', '.join(have)}")
        fault = refresh(self._trees, self._words, counts * self._width)
        if fault >= 0:
            raise InvariantBroken(f"table {self.layouts[fault].name} has bytes other than zero beyond its rows")
        manifest = self._writer.write(rows, self._hashes.tobytes())
        return State(digest(manifest), manifest, counts)
