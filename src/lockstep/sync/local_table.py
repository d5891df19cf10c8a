"""What is here of one table of a state that is fetched: nodes under the shape of that state, beside which the walk
goes.

The nodes from `base` upwards are in memory. Leaves are too, if `base` is 0; else they are read a range at a time, when
the walk comes to one that is not the same.
"""

import numpy as np

from lockstep.ledger.subtree import ChunkTree, known
from lockstep.sync.state_hash import nodes_above
from lockstep.sync.state_request import RANGE_LEVEL, Array, covered, places_below


class LocalTable:
    """Nodes whose chunks are not all here are nobody's hash."""

    def __init__(self, chunks: int, base: int, nodes: Array, here: Array, first_chunk: bytes = b"") -> None:
        """`nodes` (n, 8) uint32 on level `base`; zeros for a chunk that is not here, and for a node with one. `here`
        (ranges,): how many chunks of each range are. `first_chunk`: the used bytes of a table of a single chunk."""
        self.chunks = chunks
        self._base = base
        self._here: list[int] = here.tolist()
        self._read: dict[int, Array] = {}
        self._tree = ChunkTree(nodes, first_chunk)
        self.hash = self._tree.hash
        """The table's hash, if all is here."""

    @property
    def has_some(self) -> bool:
        """Anything is here."""
        return any(self._here)

    def is_read(self, index: int) -> bool:
        """Whether the leaves of a range are in memory."""
        return self._base == 0 or index in self._read

    def read(self, index: int, leaves: Array) -> None:
        """The leaves of a range: (k, 8) uint32; zeros for a chunk that is not here."""
        first, end = covered(index, RANGE_LEVEL, self.chunks)
        assert leaves.shape == (end - first, 8), "leaves of a range"
        self._read[index] = leaves

    def leaves(self, places: Array) -> Array:
        """Those of ranges that are read, (k, 8) uint32; the places ascend."""
        if self._base == 0:
            return self._tree.levels[0][places]
        ranges = places >> RANGE_LEVEL
        begins = np.flatnonzero(np.diff(ranges, prepend=-1)).tolist()
        parts = []
        for index, begin, end in zip(ranges[begins].tolist(), begins, [*begins[1:], len(places)], strict=True):
            whole = self._read[index]
            is_all = end - begin == len(whole)
            parts.append(whole if is_all else whole[places[begin:end] - (index << RANGE_LEVEL)])
        return np.concatenate(parts)

    def nodes(self, level: int, places: Array) -> Array:
        """The nodes at these ascending places of a level, (k, 8) uint32; below `base`, in ranges that are read."""
        if level >= self._base:
            return self._tree.levels[level - self._base][places]
        return nodes_above(self.leaves(places_below(places, level, self.chunks)), level)

    def is_absent(self, level: int, index: int) -> bool:
        """Nothing is here below a node of a range."""
        return self._count(level, index) == 0

    def is_mostly_here(self, level: int, index: int) -> bool:
        """At least three quarters are."""
        first, end = covered(index, level, self.chunks)
        return 4 * self._count(level, index) >= 3 * (end - first)

    def _count(self, level: int, index: int) -> int:
        first, end = covered(index, level, self.chunks)
        begin, stop = covered(first >> RANGE_LEVEL, RANGE_LEVEL, self.chunks)
        here = self._here[first >> RANGE_LEVEL]
        if here == 0 or (first, end) == (begin, stop):
            return here
        if here == stop - begin:
            return end - first
        return int(known(self.leaves(np.arange(first, end))).sum())


def table_of(leaves: Array, first_chunk: bytes = b"") -> LocalTable:
    """All leaves of a table are in memory, (chunks, 8) uint32; zeros for a chunk that is not here."""
    ranges = np.arange(0, len(leaves), 1 << RANGE_LEVEL)
    here = np.add.reduceat(known(leaves).astype(np.int64), ranges) if len(ranges) else ranges
    return LocalTable(len(leaves), 0, leaves, here, first_chunk)
