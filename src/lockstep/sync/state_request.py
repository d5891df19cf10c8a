"""The arithmetic of asking for parts of a table's tree, the same on both sides of the wire."""

from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, Any]
STEP: Final = 4
"""Levels between a node and what is shown of it."""
RANGE_LEVEL: Final = 8
"""Chunks are fetched in ranges of at most 1 << 8."""
PAGE_LEVEL: Final = 5
"""Stores keep the nodes of this level beside the leaves."""
GAP_CHUNKS: Final = 2_048
"""Leaves that are read along with others, rather than one by one more time."""


def base_level(chunks: int) -> int:
    """The lowest level of which a table's nodes are all held in memory; below it they are read when they are looked at.
    A table of one range is held as a whole."""
    return PAGE_LEVEL if chunks > 1 << RANGE_LEVEL else 0


def children_level(level: int) -> int:
    """The level of the nodes that are shown of a node on `level`, which is not 0."""
    return (level - 1) // STEP * STEP


def covered(index: int, levels: int, size: int) -> tuple[int, int]:
    """First and end of what lies so many levels below node `index`, where there are `size` nodes."""
    return index << levels, min(index + 1 << levels, size)


def places_below(indices: "Array | list[int]", levels: int, size: int) -> Array:
    """All places so many levels below these ascending nodes, where there are `size`."""
    if indices[-1] - indices[0] + 1 == len(indices):
        return np.arange(indices[0] << levels, min(indices[-1] + 1 << levels, size))
    spread = (np.array(indices, np.int64)[:, None] << levels) + np.arange(1 << levels)
    flat = spread.reshape(-1)
    return flat[flat < size]


def firsts(ascending: Array) -> Array:
    """Each of these ascending numbers once."""
    return ascending[np.flatnonzero(np.diff(ascending, prepend=-1))]


def runs(numbers: Array) -> list[tuple[int, int]]:
    """First and end of each run of neighbours in ascending `numbers`."""
    return spans(numbers, 1)


def spans(numbers: Array, gap: int) -> list[tuple[int, int]]:
    """Runs of ascending numbers, those together that are not more than `gap` apart: what lies between is soon read."""
    if not len(numbers):
        return []
    breaks = np.flatnonzero(np.diff(numbers) > gap) + 1
    begins = numbers[np.concatenate(([0], breaks))].tolist()
    lasts = numbers[np.concatenate((breaks, [len(numbers)])) - 1].tolist()
    return [(first, last + 1) for first, last in zip(begins, lasts, strict=True)]


def as_slice(numbers: Array) -> "Array | slice":
    """Ascending numbers as an index: a slice, which is quicker, if they are neighbours all."""
    if len(numbers) and int(numbers[-1]) - int(numbers[0]) + 1 == len(numbers):
        return slice(int(numbers[0]), int(numbers[-1]) + 1)
    return numbers
