"""What a store tells about a state that is fetched, spelt out."""

from typing import Protocol

import numpy as np

from lockstep.ledger.manifest import Manifest
from lockstep.ledger.subtree import ChunkTree
from lockstep.sync.local_table import LocalTable


class Looked(Protocol):
    """A store of either world, or what looks into one."""

    def local(self, manifest: Manifest) -> list[LocalTable | None]: ...

    def local_leaves(self, manifest: Manifest, table: int, ranges: list[int]) -> np.ndarray: ...


def local_leaves(store: Looked, manifest: Manifest, wanted: list[np.ndarray]) -> list[np.ndarray]:
    """The leaves of each table that are here, zeros for a chunk that is not; `wanted`: those of the state, which a
    table that is the same has. What the store says of nodes must be what it says of the leaves below them."""
    found = []
    for number, (local, whole) in enumerate(zip(store.local(manifest), wanted, strict=True)):
        ranges = list(range(-(-len(whole) // 256)))
        if local is None:
            leaves = whole
        else:
            leaves = store.local_leaves(manifest, number, ranges) if ranges else whole
            _check(local, leaves, ranges)
        found.append(leaves)
    return found


def _check(local: LocalTable, leaves: np.ndarray, ranges: list[int]) -> None:
    known = leaves.any(axis=1)
    for index in ranges:
        part = known[index << 8 : index + 1 << 8]
        level = 8 if len(leaves) > 256 else max(len(leaves) - 1, 0).bit_length()
        assert local.is_absent(level, index) == (not part.any())
        assert local.is_mostly_here(level, index) == (4 * part.sum() >= 3 * len(part))
    if len(leaves) > 256:
        for index in ranges:
            assert not local.is_read(index)
            local.read(index, leaves[index << 8 : index + 1 << 8])
    for level, nodes in enumerate(ChunkTree(leaves).levels):
        places = np.arange(len(nodes))
        whole = np.array([known[place << level : place + 1 << level].all() for place in places], bool)
        assert (local.nodes(level, places)[whole] == nodes[whole]).all(), f"level {level}"
        absent = np.logical_not(whole) if level <= 5 else np.zeros(len(nodes), bool)
        if level == 5 and len(leaves) > 256:
            assert not local.nodes(level, places)[absent].any()
