"""One table of a checkpoint, as a store keeps it: its upper nodes in memory, its leaves read where they are looked at.

The kept nodes of `PAGE_LEVEL` count when they lead to the table's hash, which is certified. Else they are worked out
from all leaves, and when those don't lead there either, from the chunks. So a damaged value costs time, and is told to
nobody. Leaves that are read are compared with the node above them, and hashed again from their chunks where they are
not what it says.
"""

from typing import Any, Final, Protocol

import numpy as np

from lockstep.base.marks import reached
from lockstep.ledger.subtree import ChunkTree, known, leaf_values
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.sync.state_hash import nodes_above
from lockstep.sync.state_request import GAP_CHUNKS, PAGE_LEVEL, as_slice, base_level, firsts, places_below, spans

Array = np.ndarray[Any, Any]
_AT_ONCE: Final = 4_096
"""Chunks that are hashed at a time."""


class KeptTables(Protocol):
    """What a store keeps of one checkpoint."""

    def read(self, table: int, first: int, count: int) -> bytes:
        """So many chunks of a table, 1024 bytes each; one that was never written is zeros."""

    def leaves(self, table: int, first: int, count: int) -> Array:
        """Their chaining values, (count, 8) uint32; zeros of one that was never written."""

    def page_values(self, table: int, pages: int) -> Array:
        """The nodes on `PAGE_LEVEL` as they are kept, (pages, 8) uint32; zeros where none is."""


class StoredTable:
    """One table with so many used bytes."""

    def __init__(self, kept: KeptTables, table: int, used: int, table_hash: bytes) -> None:
        self._kept = kept
        self._table = table
        self._used = used
        self.chunks = -(-used // CHUNK_BYTES)
        self.base = base_level(self.chunks)
        """The lowest level that is in memory."""
        self.tree = self._checked_tree(table_hash)
        """From that level upwards."""

    def _checked_tree(self, table_hash: bytes) -> ChunkTree:
        if self.base:
            tree = ChunkTree(self._kept.page_values(self._table, -(-self.chunks >> PAGE_LEVEL)))
            if tree.hash == table_hash:
                return tree
            reached("stored table: kept nodes are worked out again")
        tree = self._tree_of(self.kept_leaves(0, self.chunks))
        if tree.hash != table_hash:
            reached("stored table: leaves are hashed again")
            tree = self._tree_of(self._hashed(0, self.chunks))
        return tree

    def _tree_of(self, leaves: Array) -> ChunkTree:
        only = self._kept.read(self._table, 0, 1)[: self._used] if self.chunks == 1 else b""
        return ChunkTree(nodes_above(leaves, self.base), only)

    def nodes(self, level: int, places: Array) -> Array:
        """The nodes at these ascending places of a level, (k, 8) uint32."""
        if level >= self.base:
            return self.tree.levels[level - self.base][places]
        return nodes_above(self.leaves(places_below(places, level, self.chunks)), level)

    def leaves(self, numbers: Array) -> Array:
        """Chaining values of these chunks, (k, 8) uint32; their numbers (k,) int64 ascend."""
        if not self.base or not len(numbers):
            return self.tree.levels[0][numbers]
        above = numbers >> PAGE_LEVEL
        pages = firsts(above)
        leaves = self._page_leaves(pages)
        if len(leaves) == len(numbers):
            return leaves
        return leaves[(np.searchsorted(pages, above) << PAGE_LEVEL) + (numbers & (1 << PAGE_LEVEL) - 1)]

    def _page_leaves(self, pages: Array) -> Array:
        """All leaves below these nodes of `PAGE_LEVEL`: so many each, but for the table's last."""
        parts: list[Array] = []
        for first, end in spans(pages, GAP_CHUNKS >> PAGE_LEVEL):
            begin, stop = np.searchsorted(pages, [first, end])
            here, last = first << PAGE_LEVEL, min(end << PAGE_LEVEL, self.chunks)
            part = self.kept_leaves(here, last - here)
            parts.append(part[as_slice(places_below(pages[begin:stop] - first, PAGE_LEVEL, len(part)))])
        leaves = parts[0] if len(parts) == 1 else np.concatenate(parts)
        wrong = (nodes_above(leaves, PAGE_LEVEL) != self.tree.levels[0][pages]).any(axis=1)
        for place in np.flatnonzero(wrong).tolist():
            reached("stored table: a page of leaves is hashed again")
            first = int(pages[place]) << PAGE_LEVEL
            found = self._hashed(first, min(1 << PAGE_LEVEL, self.chunks - first))
            leaves[place << PAGE_LEVEL : (place << PAGE_LEVEL) + len(found)] = found
        return leaves

    def kept_leaves(self, first: int, count: int) -> Array:
        """See the function of this name."""
        return kept_leaves(self._kept, self._table, first, count, self._used)

    def _hashed(self, first: int, count: int) -> Array:
        """The same, from the chunks."""
        leaves = np.empty((count, 8), np.uint32)
        for at in range(0, count, _AT_ONCE):
            some = min(_AT_ONCE, count - at)
            data = np.frombuffer(self._kept.read(self._table, first + at, some), np.uint8).reshape(-1, CHUNK_BYTES)
            leaves[at : at + some] = leaf_values(data, np.arange(first + at, first + at + some), self._used)
        return leaves


def kept_leaves(kept: KeptTables, table: int, first: int, count: int, used: int) -> Array:
    """So many leaves from `first` on as they are kept, with those of chunks that were never written: those are zeros,
    and are as much here as others."""
    leaves = kept.leaves(table, first, count)
    absent = np.flatnonzero(np.logical_not(known(leaves)))
    if len(absent):
        leaves[absent] = leaf_values(np.zeros((len(absent), CHUNK_BYTES), np.uint8), first + absent, used)
    return leaves
