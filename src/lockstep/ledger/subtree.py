"""Subtrees of a table's BLAKE3 tree by themselves: hashed from chunks that came from elsewhere, and compared.

Node (level, index) of a table of n chunks stands over chunks index << level up to ((index + 1) << level) - 1, as far
as the table goes. The shape is `tree`'s: neighbours pair, an odd last node moves up unchanged. Because of that, a list
of subtrees of one level in ascending order, of which only the last may be cut short by the table's end, can be reduced
together: pairing never crosses from one into the next.
"""

from typing import Any

import numpy as np

from lockstep.base.digest import digest
from lockstep.ledger.blake3 import add_job, chunk_value, new_jobs, parent_value, run_jobs
from lockstep.ledger.constants import BLOCK_BYTES, CHUNK_END, JOBS_MAX, PARENT, VALUE_WORDS
from lockstep.ledger.kernel import Int, entry_kernel
from lockstep.ledger.table import CHUNK_BYTES

Array = np.ndarray[Any, Any]


def top_level(chunks: int) -> int:
    """The level of the table's root; 0 for a table of one chunk or none."""
    return max(chunks - 1, 0).bit_length()


def width(chunks: int, level: int) -> int:
    """How many nodes a level has."""
    return -(-chunks // (1 << level))


def leaf_values(data: Array, numbers: Array, used_bytes: int) -> Array:
    """Chaining values, (k, 8) uint32, of chunks. `data` is (k, 1024) uint8, zero beyond the table's used bytes;
    `numbers` (k,) int64 says which chunks of the table they are."""
    values = np.empty((len(numbers), VALUE_WORDS), np.uint32)
    words = _flat(data).view(np.uint32)
    _hash_leaves(words, numbers, used_bytes, values.reshape(-1), new_jobs())
    return values


def known(values: Array) -> Array:
    """(n,) bool: which of the chaining values (n, 8), contiguous, are not all zeros, which stand for one not known."""
    found: Array = values.view(np.uint64)[:, 0] != 0
    rest = np.flatnonzero(np.logical_not(found))  # hardly any begins with eight zeros
    found[rest] = values[rest].any(axis=1)
    return found


def parent_values(values: Array) -> Array:
    """The level above: (ceil(n / 2), 8) from (n, 8)."""
    above = np.empty(((len(values) + 1) // 2, VALUE_WORDS), np.uint32)
    _hash_parents(_flat(values), above.reshape(-1), new_jobs())
    return above


def _flat(array: Array) -> Array:
    """One row of contiguous memory, writeable: kernels are compiled for nothing else."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat if flat.flags.writeable else flat.copy()


def reduce_values(values: Array, levels: int) -> Array:
    """So many levels above."""
    for _ in range(levels):
        values = parent_values(values)
    return values


def table_hash(top: Array, chunk: bytes) -> bytes:
    """A table's hash, given the two nodes below its root, or, when it has one chunk or none, that chunk's bytes."""
    if len(top) == 2:
        return parent_value(top[0].tobytes(), top[1].tobytes(), root=True)
    return chunk_value(chunk, 0, root=True) if chunk else digest(b"")


def warm_up() -> None:
    """Compile, or load from the cache, what serving and fetching a state need."""
    ChunkTree(leaf_values(np.zeros((3, CHUNK_BYTES), np.uint8), np.arange(3), 3 * CHUNK_BYTES))


class ChunkTree:
    """All nodes of one table: `levels[k]` is (width, 8) uint32. Built from its leaves."""

    def __init__(self, leaves: Array, first_chunk: bytes = b"") -> None:
        """`first_chunk`: the used bytes of a table that has one chunk only."""
        self.levels = [leaves]
        while len(self.levels[-1]) > 1:
            self.levels.append(parent_values(self.levels[-1]))
        below = self.levels[-2] if len(self.levels) > 1 else leaves[:0]
        self.hash = table_hash(below, first_chunk)
        """The table's BLAKE3 hash."""

    @property
    def chunks(self) -> int:
        """How many leaves there are."""
        return len(self.levels[0])


@entry_kernel
def _hash_leaves(words: Any, numbers: Any, used: Int, values: Any, jobs: Any) -> None:
    """Chunk i of `words` is the table's chunk numbers[i]; the table has `used` bytes."""
    count = np.int64(0)
    for i in range(len(numbers)):
        length = min(used - numbers[i] * CHUNK_BYTES, np.int64(CHUNK_BYTES))
        source = np.int64(i * (CHUNK_BYTES // 4))
        count = add_job(jobs, count, source, np.int64(i * VALUE_WORDS), numbers[i], length, np.int64(CHUNK_END))
        if count >= JOBS_MAX - 1:
            run_jobs(words, values, jobs, count, np.int64(16))
            count = np.int64(0)
    run_jobs(words, values, jobs, count, np.int64(16))


@entry_kernel
def _hash_parents(values: Any, above: Any, jobs: Any) -> None:
    """Pairs of `values` give `above`; an odd last one is copied."""
    count, nodes = np.int64(0), len(values) // VALUE_WORDS
    for i in range(nodes // 2):
        source, target = np.int64(2 * i * VALUE_WORDS), np.int64(i * VALUE_WORDS)
        count = add_job(jobs, count, source, target, np.int64(0), np.int64(BLOCK_BYTES), np.int64(PARENT))
        if count >= JOBS_MAX - 1:
            run_jobs(values, above, jobs, count, np.int64(1))
            count = np.int64(0)
    run_jobs(values, above, jobs, count, np.int64(1))
    if nodes % 2:
        for i in range(VALUE_WORDS):
            above[(nodes // 2) * VALUE_WORDS + i] = values[(nodes - 1) * VALUE_WORDS + i]
