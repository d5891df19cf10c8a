"""The BLAKE3 trees of all tables, kept up to date together.

Level 0 of a table's tree holds the chaining values of its chunks; each further level pairs neighbours, and an odd
last node moves up unchanged, which is exactly BLAKE3's tree for any number of chunks. Inner nodes are stored
without the ROOT flag, for a table may grow beyond them; the table's hash is a separate value.

`mark_stale` queues a chunk; `refresh` re-hashes the queued chunks and each of their ancestors once. Lane groups
mix the chunks and nodes of all tables, so that a dozen small tables cost no more than one. The queue is turned, in
place, from a list of chunks to a list of their parents, and so on up; stamps say what is already listed.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

from lockstep.ledger.blake3 import (
    BLOCK_BYTES,
    CHUNK_BLOCKS,
    CHUNK_END,
    CHUNK_START,
    CHUNK_U32,
    JOBS_MAX,
    PARENT,
    ROOT,
    VALUE_U32,
    Lanes,
    add_job,
    new_lanes,
    run_jobs,
    run_partial,
)
from lockstep.ledger.compress import LANES
from lockstep.ledger.table import CHUNK_BYTES, page_aligned

STAMP_MAX: Final = (1 << 32) - 1


class Trees(NamedTuple):
    """What the kernels see. T tables; sizes are for the tables' capacity, and untouched memory costs nothing."""

    values: np.ndarray[Any, Any]
    """(nodes * 8,) uint32: all chaining values, then the T table hashes."""
    base: np.ndarray[Any, Any]
    """(T + 1, levels) int64: first node of each table's levels; in row T, first the node number of table 0's hash."""
    start: np.ndarray[Any, Any]
    """(T,) int64: first word of each table in the state's memory (uint32 words)."""
    stamp: np.ndarray[Any, Any]
    """(nodes,) uint32: the refresh that last listed the node."""
    refreshes: np.ndarray[Any, Any]
    """(1,) uint32: the number of the coming refresh, from 1."""
    queue: np.ndarray[Any, Any]
    """(chunks, 2) int32: table and chunk (or node) still to be hashed."""
    queued: np.ndarray[Any, Any]
    """(1,) int64."""
    used: np.ndarray[Any, Any]
    """(T,) int64: used bytes of each table as of the last refresh."""
    size: np.ndarray[Any, Any]
    """(T,) int64: nodes of each table on the level in work."""
    lanes: Lanes


def new_trees(capacity_chunks: list[int], start_words: list[int]) -> Trees:
    """Trees for tables of these capacities, all of them empty. `start_words` says where each table lies."""
    tables = len(capacity_chunks)
    levels = max(max(c - 1, 0).bit_length() for c in capacity_chunks) + 1
    base = np.zeros((tables + 1, levels), np.int64)
    nodes = 0
    for table, chunks in enumerate(capacity_chunks):
        for level in range(levels):
            base[table, level] = nodes
            nodes += -(-chunks // (1 << level))
    base[tables, 0] = nodes
    trees = Trees(
        values=page_aligned((nodes + tables) * 4 * VALUE_U32).view(np.uint32),
        base=base,
        start=np.array(start_words, np.int64),
        stamp=page_aligned(4 * nodes).view(np.uint32),
        refreshes=np.ones(1, np.uint32),
        queue=page_aligned(8 * sum(capacity_chunks)).view(np.int32).reshape(-1, 2),
        queued=np.zeros(1, np.int64),
        used=np.full(tables, -1, np.int64),
        size=np.zeros(tables, np.int64),
        lanes=new_lanes(),
    )
    refresh(trees, np.zeros(CHUNK_U32, np.uint32), np.zeros(tables, np.int64))
    return trees


def table_hashes(trees: Trees) -> bytes:
    """The tables' hashes as of the last refresh, 32 bytes each, one after the other."""
    first, tables = int(trees.base[-1, 0]), len(trees.used)
    return trees.values[first * VALUE_U32 : (first + tables) * VALUE_U32].tobytes()


@njit(cache=True, nogil=True)
def mark_stale(trees: Trees, table: int, chunk: int) -> None:
    """Queue a chunk for the next refresh, once."""
    node = trees.base[table, 0] + chunk
    if trees.stamp[node] == trees.refreshes[0]:
        return
    trees.stamp[node] = trees.refreshes[0]
    at = trees.queued[0]
    trees.queue[at, 0] = table
    trees.queue[at, 1] = chunk
    trees.queued[0] = at + 1


@njit(cache=True, nogil=True)
def mark_places_stale(trees: Trees, places: Any, used: int) -> None:
    """Queue the first `used` of an undo segment's places."""
    for i in range(used):
        mark_stale(trees, places[i, 0], places[i, 1])


@njit(cache=True, nogil=True)
def refresh(trees: Trees, words: Any, used: Any) -> int:
    """Bring nodes and table hashes up to date with `words`, of which table t uses `used[t]` bytes.

    Returns -1, or the number of a table that has a queued chunk with bytes other than zero beyond the used ones.
    """
    fault = -1
    for table in range(len(used)):
        _queue_resized(trees, table, used[table])
        trees.used[table] = used[table]
        trees.size[table] = _chunks(used[table])
    full, partial, fault = _hash_full_chunks(trees, words)
    count = full + partial
    _hash_partial_chunks(trees, words, full, count)
    level = 0
    while count > 0:
        count = _climb(trees, level, count)
        level += 1
        for table in range(len(used)):
            trees.size[table] = (trees.size[table] + 1) >> 1
    trees.queued[0] = 0
    if trees.refreshes[0] == STAMP_MAX:
        trees.stamp[:] = 0
        trees.refreshes[0] = 0
    trees.refreshes[0] += 1
    return fault


@njit(cache=True, nogil=True)
def _chunks(used: int) -> int:
    return (used + CHUNK_BYTES - 1) // CHUNK_BYTES


@njit(cache=True, nogil=True)
def _queue_resized(trees: Trees, table: int, used: int) -> None:
    """A table that grew or shrank: the chunks that grew, and the last one, whose ancestors' shape has changed."""
    if trees.used[table] == used:
        return
    chunks = _chunks(used)
    for chunk in range(max(trees.used[table], 0) // CHUNK_BYTES, chunks):
        mark_stale(trees, table, chunk)
    if chunks > 0:
        mark_stale(trees, table, chunks - 1)
        return
    for i in range(BLOCK_BYTES // 4):
        trees.lanes.partial[i] = 0
    add_job(trees.lanes, 0, 0, (trees.base[-1, 0] + table) * VALUE_U32, 0, ROOT)
    run_partial(trees.values, trees.lanes, 1)


@njit(cache=True, nogil=True)
def _zero_beyond(words: Any, start: int, used: int) -> bool:
    """Whether the chunk at word `start` is all zero from byte `used` on."""
    whole = (used + 3) // 4
    if used % 4 and words[start + whole - 1] >> (8 * (used % 4)):
        return False
    rest = np.uint32(0)
    for i in range(whole, CHUNK_U32):
        rest |= words[start + i]
    return bool(rest == 0)


@njit(cache=True, nogil=True)
def _hash_full_chunks(trees: Trees, words: Any) -> tuple[int, int, int]:
    """Hash the queued full chunks; (chunks hashed, chunks left for `_hash_partial_chunks`, fault or -1).

    Both kinds end up at the head of the queue, in that order. A lone chunk counts as partial, because its table's
    hash is the chunk's own value with the ROOT flag. Chunks that a table has shed are only checked to be zero.
    """
    full, partial, fault, jobs = 0, 0, -1, 0
    for at in range(trees.queued[0]):
        table, chunk = int(trees.queue[at, 0]), int(trees.queue[at, 1])
        start = trees.start[table] + chunk * CHUNK_U32
        left = trees.used[table] - chunk * CHUNK_BYTES
        if left < CHUNK_BYTES and not _zero_beyond(words, start, max(left, 0)):
            fault = table
        if left <= 0:
            continue
        # Keep partial ones behind the full ones: the first partial gives way to a new full one.
        head = full + partial
        if left < CHUNK_BYTES or trees.size[table] == 1:
            trees.queue[head, 0], trees.queue[head, 1] = table, chunk
            partial += 1
            continue
        trees.queue[head, 0], trees.queue[head, 1] = trees.queue[full, 0], trees.queue[full, 1]
        trees.queue[full, 0], trees.queue[full, 1] = table, chunk
        full += 1
        jobs = add_job(trees.lanes, jobs, start, (trees.base[table, 0] + chunk) * VALUE_U32, chunk, 0)
        if jobs == JOBS_MAX:
            run_jobs(words, trees.values, trees.lanes, jobs, CHUNK_BLOCKS, CHUNK_START, CHUNK_END)
            jobs = 0
    run_jobs(words, trees.values, trees.lanes, jobs, CHUNK_BLOCKS, CHUNK_START, CHUNK_END)
    return full, partial, fault


@njit(cache=True, nogil=True)
def _hash_partial_chunks(trees: Trees, words: Any, first: int, end: int) -> None:
    """Hash the chunks at places `first` … `end` of the queue: partial ones, and those alone in their table."""
    jobs = 0
    for at in range(first, end):
        table, chunk = int(trees.queue[at, 0]), int(trees.queue[at, 1])
        length = min(trees.used[table] - chunk * CHUNK_BYTES, CHUNK_BYTES)
        node = trees.base[table, 0] + chunk
        for final in range(2 if trees.size[table] == 1 else 1):
            start = trees.start[table] + chunk * CHUNK_U32
            for i in range(CHUNK_U32):
                trees.lanes.partial[jobs * CHUNK_U32 + i] = words[start + i]
            to = trees.base[-1, 0] + table if final else node
            jobs = add_job(trees.lanes, jobs, length, to * VALUE_U32, chunk, ROOT if final else 0)
            if jobs == LANES:
                run_partial(trees.values, trees.lanes, jobs)
                jobs = 0
    if jobs:
        run_partial(trees.values, trees.lanes, jobs)


@njit(cache=True, nogil=True)
def _climb(trees: Trees, level: int, count: int) -> int:
    """Hash the parents of the `count` listed nodes of `level`, and list them instead; how many there are."""
    values, listed, jobs = trees.values, 0, 0
    for at in range(count):
        table, node = int(trees.queue[at, 0]), int(trees.queue[at, 1])
        size = trees.size[table]
        if size == 1:
            continue
        parent = node >> 1
        child = (trees.base[table, level] + 2 * parent) * VALUE_U32
        to = trees.base[table, level + 1] + parent
        if trees.stamp[to] == trees.refreshes[0]:
            continue
        trees.stamp[to] = trees.refreshes[0]
        trees.queue[listed, 0], trees.queue[listed, 1] = table, parent
        listed += 1
        if 2 * parent + 1 == size:
            for i in range(VALUE_U32):
                values[to * VALUE_U32 + i] = values[child + i]
            continue
        jobs = add_job(trees.lanes, jobs, child, to * VALUE_U32, 0, PARENT)
        if size == 2:
            jobs = add_job(trees.lanes, jobs, child, (trees.base[-1, 0] + table) * VALUE_U32, 0, PARENT | ROOT)
        if jobs >= JOBS_MAX - 1:
            run_jobs(values, values, trees.lanes, jobs, 1, 0, 0)
            jobs = 0
    run_jobs(values, values, trees.lanes, jobs, 1, 0, 0)
    return listed
