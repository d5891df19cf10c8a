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
from lockstep.ledger.kernel import Int, kernel


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
