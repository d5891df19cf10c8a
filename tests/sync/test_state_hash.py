"""A fetched part's hashes, as `ledger.subtree` has them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.ledger.subtree import leaf_values, reduce_values
from lockstep.sync.state_hash import hash_part, nodes_above
from lockstep.wire.message import FetchState


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 1_500), st.integers(0, 12), st.integers(0, 1_000))
def test_nodes_are_those_of_the_tree(count: int, levels: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 1 << 32, (count, 8), dtype=np.uint32)
    before = values.copy()
    assert (nodes_above(values, levels) == reduce_values(values, levels)).all()
    assert (values == before).all()


def test_a_part_is_hashed_where_its_chunks_stand() -> None:
    rows = np.random.default_rng(2).integers(0, 256, (8, 1024), dtype=np.uint8)
    indices = b"".join(number.to_bytes(4, "little") for number in (3, 9))
    request = FetchState(1, 512, 0, 2, indices, True)
    found = hash_part(request, rows.tobytes())
    numbers = np.array([12, 13, 14, 15, 36, 37, 38, 39])
    assert found is not None and (found == leaf_values(rows, numbers, 1 << 30)).all()
    assert hash_part(request, rows.tobytes()[:-1]) is None
    assert hash_part(request, rows.tobytes()[:-1024]) is None
