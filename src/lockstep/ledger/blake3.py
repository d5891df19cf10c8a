"""BLAKE3 over many chunks and tree nodes, in lane groups of sixteen.

A *job* is one input for one lane: where its words begin, where its chaining value goes, and the counter and
flags that go with it. Jobs may come in any order and number; lanes without a job repeat the last one. All
chaining values live in one flat uint32 array, eight words each, so that two sibling nodes are one 64-byte block.
Source: the BLAKE3 paper, sections 2.1 (chunks and tree), 2.4 (flags) and 2.6 (root).
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

from lockstep.ledger.compress import (
    BLOCK_BYTES_ROW,
    COUNTER_HIGH,
    COUNTER_LOW,
    FLAGS_ROW,
    IV,
    LANES,
    STATE_ROWS,
    compress,
)

CHUNK_START: Final = 1
CHUNK_END: Final = 2
PARENT: Final = 4
ROOT: Final = 8

BLOCK_BYTES: Final = 64
CHUNK_BLOCKS: Final = 16
CHUNK_U32: Final = 256
VALUE_U32: Final = 8
"""uint32 words of a chaining value."""
JOBS_MAX: Final = 4096

# Columns of a job.
FROM: Final = 0
"""First input word; for a partial chunk its length in bytes."""
TO: Final = 1
"""First output word in the array of chaining values."""
COUNTER: Final = 2
FLAGS: Final = 3


class Lanes(NamedTuple):
    """Working memory of the kernels, allocated once (kernels allocate nothing)."""

    jobs: np.ndarray[Any, Any]
    """(JOBS_MAX, 4) int64: FROM, TO, COUNTER, FLAGS."""
    at: np.ndarray[Any, Any]
    """(16,) int64: first words of the present lane group."""
    upcoming: np.ndarray[Any, Any]
    """(16,) int64: first words of the next one."""
    state: np.ndarray[Any, Any]
    """(12, 16) uint32: see `compress`."""
    partial: np.ndarray[Any, Any]
    """(16 * 256,) uint32: one zero-padded chunk a lane, for chunks that are not full."""


def new_lanes() -> Lanes:
    """Fresh working memory."""
    return Lanes(
        jobs=np.zeros((JOBS_MAX, 4), np.int64),
        at=np.zeros(LANES, np.int64),
        upcoming=np.zeros(LANES, np.int64),
        state=np.zeros((STATE_ROWS, LANES), np.uint32),
        partial=np.zeros(LANES * CHUNK_U32, np.uint32),
    )


@njit(cache=True, nogil=True)
def add_job(lanes: Lanes, jobs: int, start: int, to: int, counter: int, flags: int) -> int:
    """Append a job to the list of `jobs`; the new number of jobs."""
    lanes.jobs[jobs, FROM] = start
    lanes.jobs[jobs, TO] = to
    lanes.jobs[jobs, COUNTER] = counter
    lanes.jobs[jobs, FLAGS] = flags
    return jobs + 1


@njit(cache=True, nogil=True)
def _fill_lanes(lanes: Lanes, base: int, jobs: int) -> None:
    """Initial chaining value, counter, length and flags of the lane group that begins with job `base`."""
    for i in range(8):
        for lane in range(LANES):
            lanes.state[i, lane] = IV[i]
    for lane in range(LANES):
        job = min(base + lane, jobs - 1)
        lanes.state[COUNTER_LOW, lane] = lanes.jobs[job, COUNTER] & 0xFFFFFFFF
        lanes.state[COUNTER_HIGH, lane] = lanes.jobs[job, COUNTER] >> 32
        lanes.state[BLOCK_BYTES_ROW, lane] = BLOCK_BYTES
        lanes.state[FLAGS_ROW, lane] = lanes.jobs[job, FLAGS]


@njit(cache=True, nogil=True)
def run_jobs(words: Any, values: Any, lanes: Lanes, jobs: int, blocks: int, start: int, end: int) -> None:
    """Hash `jobs` inputs of `blocks` full blocks each, read from `words`, into `values` (which may be the same).

    Chunks have 16 blocks and start and end flags; parents have one block and their flags in the job.
    """
    for base in range(0, jobs, LANES):
        _fill_lanes(lanes, base, jobs)
        for lane in range(LANES):
            lanes.at[lane] = lanes.jobs[min(base + lane, jobs - 1), FROM]
            lanes.upcoming[lane] = lanes.jobs[min(base + lane + LANES, jobs - 1), FROM]
        compress(words, lanes.at, lanes.upcoming, lanes.state, blocks, start, end)
        for lane in range(min(LANES, jobs - base)):
            to = lanes.jobs[base + lane, TO]
            for i in range(VALUE_U32):
                values[to + i] = lanes.state[i, lane]


@njit(cache=True, nogil=True)
def run_partial(values: Any, lanes: Lanes, jobs: int) -> None:
    """Hash at most 16 chunks of 0 … 1024 bytes that lie zero-padded in `lanes.partial`, job by job.

    FROM is the length in bytes. Lanes end at different blocks: each value is taken when its last block is done.
    """
    _fill_lanes(lanes, 0, jobs)
    for block in range(CHUNK_BLOCKS):
        left = 0
        for lane in range(jobs):
            last = max(lanes.jobs[lane, FROM] - 1, 0) // BLOCK_BYTES
            left += 1 if last >= block else 0
            flags = CHUNK_START if block == 0 else 0
            if block == last:
                flags |= CHUNK_END | lanes.jobs[lane, FLAGS]
                lanes.state[BLOCK_BYTES_ROW, lane] = lanes.jobs[lane, FROM] - last * BLOCK_BYTES
            lanes.state[FLAGS_ROW, lane] = flags
        if left == 0:
            break
        for lane in range(LANES):
            lanes.at[lane] = lane * CHUNK_U32 + block * BLOCK_BYTES // 4
        compress(lanes.partial, lanes.at, lanes.at, lanes.state, 1, 0, 0)
        for lane in range(jobs):
            if max(lanes.jobs[lane, FROM] - 1, 0) // BLOCK_BYTES == block:
                for i in range(VALUE_U32):
                    values[lanes.jobs[lane, TO] + i] = lanes.state[i, lane]
