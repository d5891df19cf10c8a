"""The BLAKE3 trees of all tables, kept up to date together.

Level 0 of a table's tree holds the chaining values of its chunks; each further level pairs neighbours, and an odd
last node moves up unchanged, which is exactly BLAKE3's tree for any number of chunks. Inner nodes are stored
without the ROOT flag, for a table may grow beyond them; the table's hash is a separate value.

`mark_stale` notes a chunk in a bitmap; `refresh` hashes the noted chunks and each of their ancestors once. The
bitmap yields the chunks in ascending order, so memory is read forwards, and siblings stand side by side when the
list of nodes becomes, in place, the list of their parents. Lane groups mix the chunks and nodes of all tables, so
that a dozen small tables cost no more than one.
"""

from typing import Any, Final, NamedTuple

import numpy as np

from lockstep.ledger.blake3 import add_job, new_jobs, run_jobs
from lockstep.ledger.constants import BLOCK_BYTES, CHUNK_BLOCKS, CHUNK_END, JOBS_MAX, PARENT, ROOT, VALUE_WORDS
from lockstep.ledger.kernel import Int, entry_kernel, kernel
from lockstep.ledger.table import CHUNK_BYTES, page_aligned

CHUNK_U32: Final = CHUNK_BYTES // 4
BITS: Final = 32
"""Bits used of a word of the bitmap."""
_FIRST_BIT: Final = np.zeros(BITS, np.int64)
_DE_BRUIJN: Final = 0x077C_B531
for _bit in range(BITS):
    _FIRST_BIT[(_DE_BRUIJN << _bit & 0xFFFF_FFFF) >> 27] = _bit


class Trees(NamedTuple):
    """What the kernels see. T tables; sizes are for the tables' capacity, and untouched memory costs nothing."""

    values: np.ndarray[Any, Any]
    """(nodes * 8,) uint32: all chaining values, then the T table hashes."""
    base: np.ndarray[Any, Any]
    """(T + 1, levels) int64: first node of each table's levels; in row T, first the node number of table 0's hash."""
    start: np.ndarray[Any, Any]
    """(T,) int64: first word of each table in the state's memory (uint32 words)."""
    stale: np.ndarray[Any, Any]
    """(words,) int64: bitmap of the chunks to be hashed, 32 a word; a table begins at a multiple of 32 words."""
    summary: np.ndarray[Any, Any]
    """(words / 32,) int64: a bitmap of the words of `stale` that are not zero."""
    bits: np.ndarray[Any, Any]
    """(T + 1,) int64: first word of each table in `stale`, and the end."""
    listed: np.ndarray[Any, Any]
    """(chunks, 2) int32: table and node in work, in ascending order."""
    used: np.ndarray[Any, Any]
    """(T,) int64: used bytes of each table as of the last refresh."""
    size: np.ndarray[Any, Any]
    """(T,) int64: nodes of each table on the level in work."""
    jobs: np.ndarray[Any, Any]
    """Working memory: see `blake3`."""


def new_trees(capacity_chunks: list[int], start_words: list[int]) -> Trees:
    """Trees for tables of these capacities, never hashed yet. `start_words` says where each table lies in memory."""
    tables = len(capacity_chunks)
    levels = max(max(c - 1, 0).bit_length() for c in capacity_chunks) + 1
    base = np.zeros((tables + 1, levels), np.int64)
    nodes = 0
    for table, chunks in enumerate(capacity_chunks):
        for level in range(levels):
            base[table, level] = nodes
            nodes += -(-chunks // (1 << level))
    base[tables, 0] = nodes
    bits = np.cumsum([0, *(-(-chunks // BITS**2) * BITS for chunks in capacity_chunks)], dtype=np.int64)
    trees = Trees(
        values=page_aligned((nodes + tables) * 4 * VALUE_WORDS).view(np.uint32),
        base=base,
        start=np.array(start_words, np.int64),
        stale=np.zeros(bits[-1], np.int64),
        summary=np.zeros(bits[-1] // BITS, np.int64),
        bits=bits,
        listed=page_aligned(8 * sum(capacity_chunks)).view(np.int32).reshape(-1, 2),
        used=np.zeros(tables, np.int64),
        size=np.zeros(tables, np.int64),
        jobs=new_jobs(),
    )
    trees.stale[bits[:-1]] = 1  # an empty table, too, has a hash to be computed
    trees.summary[bits[:-1] // BITS] = 1
    return trees


def table_hashes(trees: Trees) -> np.ndarray[Any, Any]:
    """The tables' hashes as of the last refresh, (T * 8,) uint32: a view of always the same memory."""
    first, tables = np.int64(trees.base[-1, 0]), len(trees.used)
    return trees.values[first * VALUE_WORDS : (first + tables) * VALUE_WORDS]


def path(trees: Trees, table: int, chunk: int) -> bytes:
    """The siblings on the way from a chunk up to its table's hash, 32 bytes each, as of the last refresh."""
    siblings, node, level = [], chunk, 0
    size = -(-int(trees.used[table]) // CHUNK_BYTES)
    while size > 1:
        if node ^ 1 < size:
            at = (int(trees.base[table, level]) + (node ^ 1)) * VALUE_WORDS
            siblings.append(trees.values[at : at + VALUE_WORDS].tobytes())
        node, size, level = node >> 1, (size + 1) >> 1, level + 1
    return b"".join(siblings)


@kernel
def mark_stale(stale: Any, summary: Any, bits: Any, table: Int, chunk: Int) -> None:
    """Have a chunk hashed at the next refresh."""
    word = bits[table] + chunk // BITS
    stale[word] |= 1 << (chunk % BITS)
    summary[word // BITS] |= 1 << (word % BITS)


@entry_kernel
def mark_places_stale(stale: Any, summary: Any, bits: Any, places: Any, used: Int) -> None:
    """Have the first `used` of an undo segment's places hashed at the next refresh. The first three are those of the
    trees: Python hands over each array of a tuple by itself, and all ten would take longer than the work."""
    for i in range(used):
        mark_stale(stale, summary, bits, np.int64(places[i, 0]), np.int64(places[i, 1]))


@entry_kernel
def refresh(trees: Trees, words: Any, used: Any) -> Int:
    """Bring nodes and table hashes up to date with `words`, of which table t uses `used[t]` bytes.

    Returns -1, or the number of a table that has a stale chunk with bytes other than zero beyond the used ones.
    """
    for table in range(len(used)):
        _mark_resized(trees, table, used[table])
        trees.size[table] = _chunks(used[table])
    listed = _list_stale(trees)
    fault = _zero_beyond(trees, words, listed)
    listed = _hash_leaves(trees, words, listed)
    level = np.int64(0)
    while listed > 0:
        listed = _climb(trees, level, listed)
        level += 1
        for table in range(len(used)):
            trees.size[table] = (trees.size[table] + 1) >> 1
    return fault


@kernel
def _chunks(used: Int) -> Int:
    return (used + CHUNK_BYTES - 1) // CHUNK_BYTES


@kernel
def _mark_resized(trees: Trees, table: Int, used: Int) -> None:
    """A table that grew or shrank: the chunks that grew, and the last one, whose ancestors' shape has changed."""
    if trees.used[table] == used:
        return
    chunks = _chunks(used)
    for chunk in range(trees.used[table] // CHUNK_BYTES, chunks):
        mark_stale(trees.stale, trees.summary, trees.bits, table, chunk)
    mark_stale(trees.stale, trees.summary, trees.bits, table, max(chunks - 1, 0))
    trees.used[table] = used


@kernel
def _list_stale(trees: Trees) -> Int:
    """Turn the bitmap into a list, in ascending order; its length."""
    listed = 0
    for table in range(len(trees.used)):
        first = trees.bits[table]
        for group in range(first // BITS, trees.bits[table + 1] // BITS):
            busy = np.int64(trees.summary[group])
            trees.summary[group] = 0
            while busy:
                word = group * BITS + _first_bit(busy)
                busy &= busy - 1
                chunks = np.int64(trees.stale[word])
                trees.stale[word] = 0
                while chunks:
                    trees.listed[listed, 0] = table
                    trees.listed[listed, 1] = (word - first) * BITS + _first_bit(chunks)
                    listed += 1
                    chunks &= chunks - 1
    return listed


@kernel
def _first_bit(word: Int) -> Int:
    """Number of the lowest bit set: De Bruijn's multiplication, as no bit-scan is at hand."""
    return int(_FIRST_BIT[((word & -word) * _DE_BRUIJN & 0xFFFFFFFF) >> 27])


@kernel
def _zero_beyond(trees: Trees, words: Any, listed: Int) -> Int:
    """-1, or a table of which a stale chunk is not zero beyond the used bytes."""
    for at in range(listed):
        table, chunk = np.int64(trees.listed[at, 0]), np.int64(trees.listed[at, 1])
        used = trees.used[table] - chunk * CHUNK_BYTES
        if used >= CHUNK_BYTES:
            continue
        start, used = trees.start[table] + chunk * CHUNK_U32, max(used, 0)
        rest = np.int64(words[start + used // 4]) >> (8 * (used % 4))
        for i in range(used // 4 + 1, CHUNK_U32):
            rest |= words[start + i]
        if rest:
            return table
    return -1


@kernel
def _hash_leaves(trees: Trees, words: Any, listed: Int) -> Int:
    """Hash the listed chunks, and drop from the list those that a table has shed; how many are left.

    The hash of a table with one chunk or none is that chunk's own value with the ROOT flag. (A last chunk that is
    not full needs no padding, for the bytes beyond the used ones are zero.)
    """
    left, jobs = np.int64(0), np.int64(0)
    for at in range(listed):
        table, chunk = np.int64(trees.listed[at, 0]), np.int64(trees.listed[at, 1])
        source = trees.start[table] + chunk * CHUNK_U32
        length = min(trees.used[table] - chunk * CHUNK_BYTES, CHUNK_BYTES)
        if trees.size[table] <= 1 and chunk == 0:
            target = (trees.base[-1, 0] + table) * VALUE_WORDS
            jobs = add_job(trees.jobs, jobs, source, target, np.int64(chunk), length, np.int64(CHUNK_END | ROOT))
        if length > 0:
            target = (trees.base[table, 0] + chunk) * VALUE_WORDS
            jobs = add_job(trees.jobs, jobs, source, target, np.int64(chunk), length, np.int64(CHUNK_END))
            trees.listed[left, 0], trees.listed[left, 1] = table, chunk
            left += 1
        if jobs >= JOBS_MAX - 1:
            run_jobs(words, trees.values, trees.jobs, jobs, np.int64(CHUNK_BLOCKS))
            jobs = np.int64(0)
    run_jobs(words, trees.values, trees.jobs, jobs, np.int64(CHUNK_BLOCKS))
    return left


@kernel
def _climb(trees: Trees, level: Int, listed: Int) -> Int:
    """Hash the parents of the `listed` nodes of `level`, and list them instead; how many there are."""
    values, parents, jobs = trees.values, np.int64(0), np.int64(0)
    for at in range(listed):
        table, parent = np.int64(trees.listed[at, 0]), np.int64(trees.listed[at, 1]) >> 1
        size = trees.size[table]
        if size == 1:
            continue
        if parents and trees.listed[parents - 1, 1] == parent and trees.listed[parents - 1, 0] == table:
            continue
        trees.listed[parents, 0], trees.listed[parents, 1] = table, parent
        parents += 1
        node = trees.base[table, level + 1] + parent
        child = (trees.base[table, level] + 2 * parent) * VALUE_WORDS
        if 2 * parent + 1 == size:
            for i in range(VALUE_WORDS):
                values[node * VALUE_WORDS + i] = values[child + i]
            continue
        jobs = add_job(
            trees.jobs, jobs, child, node * VALUE_WORDS, np.int64(0), np.int64(BLOCK_BYTES), np.int64(PARENT)
        )
        if size == 2:
            target = (trees.base[-1, 0] + table) * VALUE_WORDS
            jobs = add_job(trees.jobs, jobs, child, target, np.int64(0), np.int64(BLOCK_BYTES), np.int64(PARENT | ROOT))
        if jobs >= JOBS_MAX - 1:
            run_jobs(values, values, trees.jobs, jobs, np.int64(1))
            jobs = np.int64(0)
    run_jobs(values, values, trees.jobs, jobs, np.int64(1))
    return parents
