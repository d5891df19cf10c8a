"""Hashing lists of jobs: inputs of one chunk or one pair of nodes, in any order and number."""

from typing import Any

import numpy as np

from lockstep.ledger.compress import compress
from lockstep.ledger.constants import (
    BLOCK_BYTES,
    CHUNK_BLOCKS,
    CHUNK_END,
    CHUNK_START,
    COUNTER,
    FLAGS,
    JOB_COLUMNS,
    LANES,
    LENGTH,
    PARENT,
    ROOT,
    SOURCE,
    TARGET,
    VALUE_WORDS,
)
from lockstep.ledger.kernel import Int, entry_kernel, kernel


def new_jobs() -> "np.ndarray[Any, np.dtype[np.int64]]":
    """An empty job list."""
    return np.zeros((FLAGS + 1, JOB_COLUMNS), np.int64)


@kernel
def add_job(jobs: Any, count: Int, source: Int, target: Int, counter: Int, length: Int, flags: Int) -> Int:
    """Append a job to the list of `count` (below JOBS_MAX); the new count."""
    jobs[SOURCE, count] = source
    jobs[TARGET, count] = target
    jobs[COUNTER, count] = counter
    jobs[LENGTH, count] = length
    jobs[FLAGS, count] = flags
    return count + 1


@kernel
def run_jobs(words: Any, values: Any, jobs: Any, count: Int, blocks: Int) -> None:
    """Hash the listed inputs, found in `words`, into `values` (perhaps the same array).

    `blocks` is 16 when the inputs are chunks of 0 … 1024 bytes, and 1 when they are pairs of adjacent nodes.
    """
    full = (count + LANES - 1) // LANES * LANES
    for at in range(count, full):  # the last lane group is filled up by repeating the last job
        for row in range(len(jobs)):
            jobs[row, at] = jobs[row, count - 1]
    compress(words, values, jobs, full, blocks, CHUNK_START if blocks == CHUNK_BLOCKS else 0)


def chunk_value(chunk: bytes, number: int, root: bool) -> bytes:
    """Chaining value of chunk `number`, 0 … 1024 bytes; with `root`, the hash of an input that is this chunk alone."""
    padded = chunk.ljust(CHUNK_BLOCKS * BLOCK_BYTES, b"\0")
    return _value(padded, number, len(chunk), CHUNK_END | (ROOT if root else 0), CHUNK_BLOCKS)


def parent_value(left: bytes, right: bytes, root: bool) -> bytes:
    """Chaining value of the node above two nodes; with `root`, the hash of the whole input."""
    return _value(left + right, 0, BLOCK_BYTES, PARENT | (ROOT if root else 0), 1)


def _value(data: bytes, counter: int, length: int, flags: int, blocks: int) -> bytes:
    jobs, value = new_jobs(), np.zeros(VALUE_WORDS, np.uint32)
    jobs[:, 0] = 0, 0, counter, length, flags
    _run_one(np.frombuffer(data, np.uint32).copy(), value, jobs, blocks)
    return value.tobytes()


@entry_kernel
def _run_one(words: Any, values: Any, jobs: Any, blocks: Int) -> None:
    run_jobs(words, values, jobs, np.int64(1), blocks)
