"""BLAKE3's constants, and the form in which work is handed to the compression function.

Source: the BLAKE3 paper (O'Connor, Aumasson, Neves, Wilcox-O'Hearn, 2020), sections 2.1 to 2.4.
"""

from typing import Final

LANES: Final = 16
BLOCK_WORDS: Final = 16
BLOCK_BYTES: Final = 64
VALUE_WORDS: Final = 8
"""uint32 words of a chaining value."""
CHUNK_BLOCKS: Final = 16
CHUNK_START: Final = 1
CHUNK_END: Final = 2
PARENT: Final = 4
ROOT: Final = 8

JOBS_MAX: Final = 4096
JOB_COLUMNS: Final = JOBS_MAX + 2 * LANES
"""Room for the last lane group to be filled up, and for looking one group ahead."""

# Rows of the job list, an int64 array of shape (5, JOB_COLUMNS).
SOURCE: Final = 0
"""First input word."""
TARGET: Final = 1
"""First of the eight output words."""
COUNTER: Final = 2
"""The chunk's number, below 2^31; zero for a parent."""
LENGTH: Final = 3
"""Input bytes; what the last block has beyond them must be zero in memory."""
FLAGS: Final = 4
"""Flags of the last block."""

IV: Final = (
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
)  # fmt: skip
_PERMUTATION: Final = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)


def _schedule() -> tuple[tuple[int, ...], ...]:
    rounds = [tuple(range(16))]
    for _ in range(6):
        rounds.append(tuple(rounds[-1][p] for p in _PERMUTATION))
    return tuple(rounds)


SCHEDULE: Final = _schedule()
COLUMNS: Final = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
DIAGONALS: Final = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
