"""Reading the committed state while later epochs are open, and knowing what of it has changed.

Memory holds the newest state. What an open epoch has overwritten is in its pre-images, so the committed state is
memory seen through the pre-images of all open epochs, where the oldest epoch's image counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from lockstep.ledger.kernel import Int, copy_chunk, entry_kernel
from lockstep.ledger.table import Undo, page_aligned

Chunks = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class ChunkSet:
    """Chunks of one table, in ascending order."""

    table: int
    chunks: Chunks
    """(k,) int32: chunk numbers."""
    data: Chunks
    """(k, 1024) uint8."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A committed state, as what has changed since the checkpoint before."""

    root: bytes
    manifest: bytes
    sets: tuple[ChunkSet, ...]
    """One for each table with changes, in the order of tables."""

    @property
    def changed_chunks(self) -> int:
        """How many chunks there are in all."""
        return sum(len(part.chunks) for part in self.sets)


class Changes:
    """The chunks that committed epochs have changed since the last checkpoint."""

    def __init__(self, first: Chunks, total: int) -> None:
        """`first` (T,) int64: each table's first chunk in the state's memory of `total` chunks."""
        self._first = first
        self._slot = page_aligned(total * 4).view(np.int32)[:total]
        self._changed = page_aligned(total * 4).view(np.int32)[:total]
        self._count = 0

    def note(self, segments: Iterable[Undo]) -> None:
        """Add the chunks that a committed epoch has written."""
        for segment in segments:
            self._count = int(note_changed(self._slot, self._changed, self._count, self._first, segment))

    def take(self, memory: Chunks, newest_first: Iterable[Undo]) -> tuple[ChunkSet, ...]:
        """Copy the changed chunks of the committed state, and begin anew. `memory` is (chunks, 128) uint64."""
        changed = np.sort(self._changed[: self._count])
        copies = np.empty((self._count, memory.shape[1]), np.uint64)
        gather(memory, changed, self._slot, copies)
        for segment in newest_first:
            overlay(copies, self._slot, self._first, segment)
        self.forget()
        data = copies.view(np.uint8)
        return tuple(
            ChunkSet(table, changed[begin:end] - np.int32(self._first[table]), data[begin:end])
            for table, begin, end in self._by_table(changed)
        )

    def numbers(self) -> dict[int, Chunks]:
        """Table → (k,) int32, ascending: the chunks that are noted."""
        changed = np.sort(self._changed[: self._count])
        return {
            table: changed[begin:end] - np.int32(self._first[table]) for table, begin, end in self._by_table(changed)
        }

    def forget(self) -> None:
        """Begin anew."""
        self._slot[self._changed[: self._count]] = 0
        self._count = 0

    def _by_table(self, changed: Chunks) -> list[tuple[int, int, int]]:
        """(table, begin, end) of each table's part of ascending numbers, where there is any."""
        bounds = [*np.searchsorted(changed, self._first).tolist(), len(changed)]
        return [(table, begin, end) for table, (begin, end) in enumerate(pairwise(bounds)) if begin < end]


def committed_copy(chunks: Chunks, table: int, newest_first: Iterable[Undo]) -> Chunks:
    """A copy of a table's `chunks` (k, 128) as committed."""
    copies = chunks.copy()
    for segment in newest_first:
        overlay_table(copies, table, segment)
    return copies


@entry_kernel
def note_changed(slot: Any, changed: Any, count: Int, first: Any, undo: Undo) -> Int:
    """Add a segment's chunks to the `count` ones in `changed`, each once: `slot` is its place there plus one."""
    for i in range(undo.used[0]):
        chunk = first[undo.places[i, 0]] + undo.places[i, 1]
        if slot[chunk] == 0:
            changed[count] = chunk
            count += 1
            slot[chunk] = count
    return count


@entry_kernel
def gather(memory: Any, chunks: Any, slot: Any, out: Any) -> None:
    """Copy `chunks` of `memory` to `out`; afterwards `slot` of each is its place in `out` plus one."""
    for i in range(len(chunks)):
        copy_chunk(out, i, memory, chunks[i])
        slot[chunks[i]] = i + 1


@entry_kernel
def overlay(out: Any, slot: Any, first: Any, undo: Undo) -> None:
    """Replace gathered chunks by their pre-images. From the newest epoch to the oldest, the oldest image stays."""
    for i in range(undo.used[0]):
        place = slot[first[undo.places[i, 0]] + undo.places[i, 1]]
        if place:
            copy_chunk(out, place - 1, undo.images, i)


@entry_kernel
def overlay_table(out: Any, table: Int, undo: Undo) -> None:
    """The same for the first chunks of one table."""
    for i in range(undo.used[0]):
        if undo.places[i, 0] == table and undo.places[i, 1] < len(out):
            copy_chunk(out, undo.places[i, 1], undo.images, i)
