"""Hashing lists of jobs: inputs of one chunk or one pair of nodes, in any order and number."""

from typing import Any

import numpy as np

from lockstep.ledger.compress import compress
from lockstep.ledger.constants import (
    CHUNK_BLOCKS,
    CHUNK_START,
    COUNTER,
    FLAGS,
    JOB_COLUMNS,
    LANES,
    LENGTH,
    SOURCE,
    TARGET,
)
from lockstep.ledger.kernel import kernel


def new_jobs() -> "np.ndarray[Any, np.dtype[np.int64]]":
    """An empty job list."""
    return np.zeros((FLAGS + 1, JOB_COLUMNS), np.int64)


@kernel
def add_job(jobs: Any, count: int, source: int, target: int, counter: int, length: int, flags: int) -> int:
    """Append a job to the list of `count` (below JOBS_MAX); the new count."""
    jobs[SOURCE, count] = source
    jobs[TARGET, count] = target
    jobs[COUNTER, count] = counter
    jobs[LENGTH, count] = length
    jobs[FLAGS, count] = flags
    return count + 1


@kernel
def hash_chunks(words: Any, values: Any, jobs: Any, count: int) -> None:
    """Run jobs whose inputs are chunks of 0 … 1024 bytes."""
    compress(words, values, jobs, _fill_up(jobs, count), CHUNK_BLOCKS, CHUNK_START)


@kernel
def hash_parents(values: Any, jobs: Any, count: int) -> None:
    """Run jobs whose inputs are two adjacent nodes. Reads and writes the same array."""
    compress(values, values, jobs, _fill_up(jobs, count), 1, 0)


@kernel
def _fill_up(jobs: Any, count: int) -> int:
    """Repeat the last job until the lane group is full; the count with the repetitions."""
    full = (count + LANES - 1) // LANES * LANES
    for at in range(count, full):
        for row in range(len(jobs)):
            jobs[row, at] = jobs[row, count - 1]
    return full
