"""What a store holds of a state, as the walk wants to see it: leaves under the shape of the state that is fetched."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lockstep.ledger.subtree import known, leaf_values
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.sync.state_walk import LocalTable

Array = np.ndarray[Any, Any]


def local_table(used: int, leaves: Array, chunks: "Mapping[int, bytes | memoryview]") -> LocalTable:
    """A table that shall have `used` bytes. `leaves` (n, 8) are those of chunks that are here, zeros for others; they
    are right but for chunks that are (or were) a table's last, and staged ones. Those are given as they are, in
    `chunks`, and hashed."""
    numbers = np.array(sorted(chunks), np.int64)
    first_chunk = b""
    if len(numbers):
        data = np.frombuffer(b"".join([chunks[number] for number in numbers.tolist()]), np.uint8)
        rows = data.reshape(-1, CHUNK_BYTES).copy()
        if numbers[-1] == len(leaves) - 1:
            rows[-1, used - (len(leaves) - 1) * CHUNK_BYTES :] = 0  # rows that the state here has, and that one has not
        leaves[numbers] = leaf_values(rows, numbers, used)
        if len(leaves) == 1:
            first_chunk = rows[0].tobytes()[:used]
    return LocalTable(leaves, known(leaves), first_chunk)
