"""The arithmetic of asking for parts of a table's tree, the same on both sides of the wire."""

from typing import Final

STEP: Final = 4
"""Levels between a node and what is shown of it."""


def children_level(level: int) -> int:
    """The level of the nodes that are shown of a node on `level`, which is not 0."""
    return (level - 1) // STEP * STEP


def covered(index: int, levels: int, size: int) -> tuple[int, int]:
    """First and end of what lies so many levels below node `index`, where there are `size` nodes."""
    return index << levels, min(index + 1 << levels, size)
