"""Tables of fixed-width rows, and the one way to write to them.

A row's width is a power of two of at most 1024 bytes, so that a row never crosses a 1 KiB chunk. Rows live in
page-aligned, zeroed memory reserved for `capacity` rows; the first `count` of them are the table ("used bytes").

Kernels get a table as a `Table` (a NamedTuple of arrays, so that Numba can take it apart). Before a kernel
writes to row `r` it calls `touch(table, undo, r)`: the first touch of a chunk in an epoch saves the chunk's
pre-image in the epoch's `Undo` and records the chunk as dirty. There is no other way to write.
"""

import mmap
from typing import Any, Final, NamedTuple

import numpy as np

from lockstep.ledger.kernel import Int, copy_chunk, entry_kernel

CHUNK_BYTES: Final = 1024
CHUNK_WORDS: Final = CHUNK_BYTES // 8
_HUGE_PAGE: Final = 1 << 21


class Table(NamedTuple):
    """What a kernel sees of one table."""

    rows: np.ndarray[Any, Any]
    """(capacity,) structured rows."""
    words: np.ndarray[Any, Any]
    """(chunks, 128) uint64: the same memory, chunk by chunk."""
    mark: np.ndarray[Any, Any]
    """(chunks,) uint32: the last epoch that saved the chunk's pre-image."""
    count: np.ndarray[Any, Any]  # type: ignore[assignment]  # hides tuple.count, which nobody needs
    """(1,) int64: rows in use. Kernels append by raising it, after touching the new row."""
    shape: np.ndarray[Any, Any]
    """(2,) int64: the table's number, and log2 of rows in a chunk."""


class Undo(NamedTuple):
    """The pre-images of one epoch: everything needed to take it back, and the list of dirty chunks."""

    epoch: np.ndarray[Any, Any]
    """(1,) uint32."""
    images: np.ndarray[Any, Any]
    """(capacity, 128) uint64: chunk pre-images."""
    places: np.ndarray[Any, Any]
    """(capacity, 2) int32: table number and chunk of each pre-image."""
    used: np.ndarray[Any, Any]
    """(1,) int64."""


@entry_kernel
def touch(table: Table, undo: Undo, row: Int) -> None:
    """Announce a write to `row`. The caller has made sure that `undo` has room (see `room`)."""
    chunk = row >> table.shape[1]
    if table.mark[chunk] == undo.epoch[0]:
        return
    table.mark[chunk] = undo.epoch[0]
    at = undo.used[0]
    undo.places[at, 0] = table.shape[0]
    undo.places[at, 1] = chunk
    copy_chunk(undo.images, at, table.words, chunk)
    undo.used[0] = at + 1


@entry_kernel
def room(undo: Undo) -> Int:
    """How many more chunks the epoch's undo can hold. Kernels check it between commands, never during one."""
    return len(undo.places) - undo.used[0]


def page_aligned(size: int) -> np.ndarray[Any, Any]:
    """Zeroed uint8 memory of at least `size` bytes, page-aligned and not touched until used.

    Large memory asks for huge pages: rows are visited in random order, and with small pages most visits would wait
    for a page table walk."""
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # the default, shared, is accounted as a file and ages badly
    huge = size >= _HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE")
    page = _HUGE_PAGE if huge else mmap.PAGESIZE
    pages = max(1, -(-size // page))
    memory = mmap.mmap(-1, (pages + huge) * page, flags=private)
    if huge:
        memory.madvise(mmap.MADV_HUGEPAGE)
    rows = np.frombuffer(memory, dtype=np.uint8)
    return rows[-rows.ctypes.data % page :][: pages * page]
