"""Nodes of a table's tree as a server of state tells them: checked against what stands above them."""

from typing import Any

import numpy as np

from lockstep.ledger.subtree import reduce_values, table_hash, top_level
from lockstep.sync.state_request import children_level, covered

Nodes = dict[tuple[int, int], bytes]
"""(level, index) → value; for the root of a table, the table's hash."""


def spans_below(level: int, indices: list[int], chunks: int) -> list[tuple[int, int]]:
    """Of each node of a level: first and end of what is shown below it, at `children_level(level)`."""
    below = children_level(level)
    return [covered(index, level - below, -(-chunks // (1 << below))) for index in indices]


def learn(known: Nodes, data: bytes, level: int, indices: list[int], chunks: int) -> bool:
    """Add the values that stand below these nodes, which are known; False, and nothing is added, when they don't."""
    below, spans = children_level(level), spans_below(level, indices, chunks)
    if len(data) != 32 * sum(end - begin for begin, end in spans):
        return False
    values: np.ndarray[Any, Any] = np.frombuffer(data, np.uint32).reshape(-1, 8)
    found: Nodes = {}
    at = 0
    for index, (begin, end) in zip(indices, spans, strict=True):
        part = values[at : at + end - begin]
        if level == top_level(chunks):
            value = table_hash(reduce_values(part, level - below - 1), b"")
        else:
            value = reduce_values(part, level - below)[0].tobytes()
        if value != known[level, index]:
            return False
        found.update(((below, place), values[at + place - begin].tobytes()) for place in range(begin, end))
        at += end - begin
    known.update(found)
    return True


def node_value(known: Nodes, level: int, index: int, chunks: int) -> bytes:
    """A node's value, from those that are known at the next lower level divisible by four."""
    base = level // 4 * 4
    begin, end = covered(index, level - base, -(-chunks // (1 << base)))
    values = b"".join(known[base, place] for place in range(begin, end))
    value: bytes = reduce_values(np.frombuffer(values, np.uint32).reshape(-1, 8), level - base)[0].tobytes()
    return value
