"""A slice of a table and the nodes beside it, against the blake3 package."""

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.base.errors import Refused
from lockstep.ledger.outline import beside, range_hash
from lockstep.ledger.subtree import ChunkTree, leaf_values
from lockstep.ledger.table import CHUNK_BYTES


def table(size: int) -> tuple[bytes, np.ndarray, ChunkTree]:
    """Bytes, (chunks, 1024) uint8 and tree of a table."""
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    chunks = -(-size // CHUNK_BYTES)
    rows = np.frombuffer(data.ljust(chunks * CHUNK_BYTES, b"\0"), np.uint8).reshape(-1, CHUNK_BYTES)
    leaves = leaf_values(rows, np.arange(chunks), size)
    return data, leaves, ChunkTree(leaves, data if chunks == 1 else b"")


@settings(max_examples=150)
@given(size=st.integers(1, 70 * CHUNK_BYTES), ends=st.tuples(st.integers(0, 1 << 20), st.integers(0, 1 << 20)))
def test_a_range_and_the_nodes_beside_it_lead_to_the_hash(size: int, ends: tuple[int, int]) -> None:
    data, leaves, tree = table(size)
    chunks = len(leaves)
    first, last = sorted(end % chunks for end in ends)
    nodes = beside(chunks, first, last + 1)
    siblings = b"".join(tree.levels[level][index].tobytes() for level, index in nodes)
    only = data if chunks == 1 else b""
    part = leaves[first : last + 1]
    assert range_hash(part, first, chunks, siblings, only) == blake3(data).digest()
    if siblings:
        changed = bytes([siblings[0] ^ 1]) + siblings[1:]
        assert range_hash(part, first, chunks, changed, only) != blake3(data).digest()
        with pytest.raises(Refused):
            range_hash(part, first, chunks, siblings[32:], only)
    other = part.copy()
    other[0, 0] ^= 1
    if chunks > 1:
        assert range_hash(other, first, chunks, siblings, only) != blake3(data).digest()


def test_a_range_that_the_table_does_not_have_is_refused() -> None:
    _, leaves, _ = table(5 * CHUNK_BYTES)
    for first, chunks in ((-1, 5), (3, 5), (0, 4)):
        with pytest.raises(Refused):
            range_hash(leaves, first, chunks, b"")


def test_a_whole_table_has_nothing_beside_it() -> None:
    assert all(beside(chunks, 0, chunks) == [] for chunks in range(1, 40))
