"""Hashing a fetched part: its chunks' chaining values, and the few nodes above them that it is checked against."""

from typing import Any, Final

import numpy as np

from lockstep.ledger.blake3 import add_job, new_jobs, run_jobs
from lockstep.ledger.constants import BLOCK_BYTES, JOBS_MAX, PARENT, VALUE_WORDS
from lockstep.ledger.kernel import Int, entry_kernel
from lockstep.ledger.subtree import leaf_values
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.wire.message import FetchState

Array = np.ndarray[Any, Any]
_FULL: Final = 1 << 62
"""More bytes than any table has."""


def nodes_above(values: Array, levels: int) -> Array:
    """(m, 8) uint32, so many levels above `values`, (n, 8) uint32; the same as `ledger.subtree.reduce_values`."""
    if levels == 0:
        return values
    work = np.array(values, np.uint32).reshape(-1)
    count = _reduce(work, np.int64(levels), new_jobs())
    return work.reshape(-1, VALUE_WORDS)[:count]


def hash_part(request: FetchState, data: "bytes | memoryview") -> Array | None:
    """Chaining values, (k, 8) uint32, of the chunks that answer a request, taken as full. None when they are others
    than it names in so many words, as at a table's end."""
    indices = np.frombuffer(request.indices, "<u4").astype(np.int64)
    if len(data) != (len(indices) << request.level) * CHUNK_BYTES:
        return None
    numbers = ((indices[:, None] << request.level) + np.arange(1 << request.level)).reshape(-1)
    return leaf_values(np.frombuffer(data, np.uint8).reshape(-1, CHUNK_BYTES), numbers, _FULL)


def warm_up() -> None:
    """Compile, or load from the cache."""
    nodes_above(np.zeros((3, VALUE_WORDS), np.uint32), 2)


@entry_kernel
def _reduce(values: Any, levels: Int, jobs: Any) -> Int:
    """Replace `values` by what stands above them, level by level; how many they are in the end. Neighbours pair, an odd
    last one moves up unchanged."""
    nodes = np.int64(len(values) // VALUE_WORDS)
    for _ in range(levels):
        count = np.int64(0)
        for i in range(nodes // 2):
            source, target = np.int64(2 * i * VALUE_WORDS), np.int64(i * VALUE_WORDS)
            count = add_job(jobs, count, source, target, np.int64(0), np.int64(BLOCK_BYTES), np.int64(PARENT))
            if count >= JOBS_MAX - 1:
                run_jobs(values, values, jobs, count, np.int64(1))
                count = np.int64(0)
        run_jobs(values, values, jobs, count, np.int64(1))
        if nodes % 2:
            for i in range(VALUE_WORDS):
                values[(nodes // 2) * VALUE_WORDS + i] = values[(nodes - 1) * VALUE_WORDS + i]
        nodes = (nodes + 1) // 2
    return nodes
