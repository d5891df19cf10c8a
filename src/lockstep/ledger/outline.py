"""A range of a table's chunks by itself: which nodes beside it lead from it to the table's hash.

Going up from chunks [first, end), a range that begins at an odd node lacks the node before it, and one that ends before
an odd node lacks that: at most two on a level. With those, in the order in which they are needed (from below; on a
level the one before first), the range leads to the hash and to no other. It is the Bao idea for a slice.
"""

from typing import Any

import numpy as np

from lockstep.base.errors import Reason, Refused
from lockstep.ledger.subtree import parent_values, table_hash, top_level, width

Array = np.ndarray[Any, Any]


def beside(chunks: int, first: int, end: int) -> list[tuple[int, int]]:
    """(level, index) of each node beside the range [first, end) of a table of so many chunks, as they are needed."""
    nodes: list[tuple[int, int]] = []
    for level in range(top_level(chunks)):
        if first & 1:
            nodes.append((level, first - 1))
        if end & 1 and end < width(chunks, level):
            nodes.append((level, end))
        first, end = first >> 1, (end + 1) >> 1
    return nodes


def range_hash(leaves: Array, first: int, chunks: int, siblings: bytes, only: bytes = b"") -> bytes:
    """The hash of the table that has these leaves, (k, 8) uint32, from chunk `first` on, and these nodes beside them,
    32 bytes each. `only`: the used bytes of a table of one chunk. Raises `Refused` when the nodes are not as many as
    the shape asks for."""
    end = first + len(leaves)
    if not 0 <= first < end <= chunks:
        raise Refused(Reason.BAD_PROOF, f"a table of {chunks} chunks has no chunks {first} to {end - 1}")
    needed = beside(chunks, first, end)
    if len(siblings) != 32 * len(needed):
        raise Refused(Reason.BAD_PROOF, f"{len(siblings)} bytes of nodes lie beside the range, not {32 * len(needed)}")
    nodes = iter(np.frombuffer(siblings, np.uint32).reshape(-1, 1, 8))
    values, top = leaves, top_level(chunks)
    for level in range(top):
        if first & 1:
            values = np.concatenate((next(nodes), values))
        if end & 1 and end < width(chunks, level):
            values = np.concatenate((values, next(nodes)))
        first, end = first >> 1, (end + 1) >> 1
        if level < top - 1:
            values = parent_values(values)
    return table_hash(values, only)
