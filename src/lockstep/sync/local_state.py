"""What a store holds of a state, as the walk wants to see it: leaves under the shape of the state that is fetched."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from lockstep.ledger.manifest import Manifest
from lockstep.ledger.subtree import leaf_values
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.sync.state_walk import LocalTable

Array = np.ndarray[Any, Any]
Read = Callable[[int, int, int], tuple[list[int], bytes]]
"""(table, first chunk, count) → the numbers of those that are here, ascending, and their bytes, 1024 each."""
_READ_CHUNKS: Final = 8_192


def read_local(manifest: Manifest, read: Read) -> list[LocalTable]:
    """Hash everything that is here of the manifest's tables."""
    return [_table(number, entry.used_bytes, read) for number, entry in enumerate(manifest.tables)]


def _table(table: int, used: int, read: Read) -> LocalTable:
    chunks = -(-used // CHUNK_BYTES)
    leaves, present, first_chunk = np.zeros((chunks, 8), np.uint32), np.zeros(chunks, bool), b""
    for first in range(0, chunks, _READ_CHUNKS):
        found, data = read(table, first, min(_READ_CHUNKS, chunks - first))
        if not found:
            continue
        numbers = np.array(found, np.int64)
        rows = np.frombuffer(data, np.uint8).reshape(-1, CHUNK_BYTES).copy()
        if numbers[-1] == chunks - 1:
            rows[-1, used - (chunks - 1) * CHUNK_BYTES :] = 0  # rows that the state here has, and that one has not
        leaves[numbers], present[numbers] = leaf_values(rows, numbers, used), True
        if chunks == 1:
            first_chunk = rows[0].tobytes()[:used]
    return LocalTable(leaves, present, first_chunk)
