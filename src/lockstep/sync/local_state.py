"""What a store holds of a state that is fetched: its newest checkpoint, and staged chunks before that one's, as the
walk wants to see them (`local_table`).

A table that is the same here is found by its hash. Of others, kept nodes of the checkpoint are taken as they are, and
worked out where something else lies below them: a staged chunk, or one that is (or was) the table's last, whose leaf
depends on how much of it is used.
"""

from typing import Protocol

import numpy as np

from lockstep.ledger.manifest import Manifest, TableEntry
from lockstep.ledger.subtree import known, leaf_values
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.sync.local_table import LocalTable, table_of
from lockstep.sync.state_hash import nodes_above
from lockstep.sync.state_request import (
    GAP_CHUNKS,
    PAGE_LEVEL,
    RANGE_LEVEL,
    Array,
    as_slice,
    base_level,
    firsts,
    places_below,
    runs,
    spans,
)
from lockstep.sync.stored_table import KeptTables, StoredTable, kept_leaves


class StagedChunks(Protocol):
    """Chunks of a newer state."""

    def numbers(self) -> dict[int, Array]:
        """Table → numbers of the chunks that are here, ascending."""

    def leaves_of(self, table: int, numbers: Array) -> Array:
        """Their chaining values, (k, 8) uint32."""

    def read(self, table: int, first: int, count: int) -> bytes:
        """So many chunks."""


class LocalState:
    """For one look: nothing is written meanwhile."""

    def __init__(self, own: Manifest | None, kept: KeptTables, staged: StagedChunks) -> None:
        """`own`: of the newest checkpoint, if there is one, and `kept` what the store keeps of it."""
        self._own = () if own is None else own.tables
        self._kept = kept
        self._staged = staged
        self._numbers = staged.numbers()

    def tables(self, manifest: Manifest) -> list[LocalTable | None]:
        """Of each table of `manifest`: what is here; None when it is the same here."""
        return [self._table(number, entry) for number, entry in enumerate(manifest.tables)]

    def leaves(self, manifest: Manifest, table: int, ranges: list[int]) -> Array:
        """The leaves of these ascending ranges of a table, one after the other, (k, 8) uint32; zeros for a chunk that
        is not here."""
        part = _Part(self, table, manifest.tables[table])
        wanted = np.array(ranges, np.int64)
        found = []
        for first, end in spans(wanted, GAP_CHUNKS >> RANGE_LEVEL):
            begin, stop = np.searchsorted(wanted, [first, end])
            leaves = part.leaves(first << RANGE_LEVEL, min(end << RANGE_LEVEL, part.chunks))
            found.append(leaves[as_slice(places_below(wanted[begin:stop] - first, RANGE_LEVEL, len(leaves)))])
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _table(self, number: int, entry: TableEntry) -> LocalTable | None:
        part = _Part(self, number, entry)
        own = part.own
        if own is not None and not len(part.staged) and (own.hash, own.used_bytes) == (entry.hash, entry.used_bytes):
            return None
        if base_level(part.chunks) == 0:
            return table_of(*part.whole())
        return LocalTable(part.chunks, PAGE_LEVEL, part.nodes(), part.here())


class _Part:
    """One table."""

    def __init__(self, state: LocalState, table: int, entry: TableEntry) -> None:
        self._kept, self._all_staged, self._table = state._kept, state._staged, table
        self._used = entry.used_bytes
        self.chunks = _chunks(entry)
        self.own = state._own[table] if table < len(state._own) else None
        self._own_chunks = 0 if self.own is None else _chunks(self.own)
        numbers = state._numbers.get(table, np.zeros(0, np.int64))
        self.staged = numbers[: np.searchsorted(numbers, self.chunks)]

    def whole(self) -> tuple[Array, bytes]:
        """All leaves, and the used bytes of a table of one chunk."""
        leaves = self.leaves(0, self.chunks)
        is_here = self.chunks == 1 and bool(leaves.any())
        return leaves, self._chunk(0).tobytes()[: self._used] if is_here else b""

    def here(self) -> Array:
        """How many chunks of each range are here."""
        ranges = np.arange(-(-self.chunks >> RANGE_LEVEL)) << RANGE_LEVEL
        ends = np.minimum(ranges + (1 << RANGE_LEVEL), self.chunks)
        here: Array = np.clip(np.minimum(ends, self._own_chunks) - ranges, 0, None)
        beyond = self.staged[self.staged >= self._own_chunks]
        return here + np.bincount(beyond >> RANGE_LEVEL, minlength=len(ranges))

    def nodes(self) -> Array:
        """The nodes on `PAGE_LEVEL`, (n, 8) uint32; zeros for one below which something is not here."""
        values = np.zeros((-(-self.chunks >> PAGE_LEVEL), 8), np.uint32)
        both = min(self.chunks, self._own_chunks)
        full, rest = both >> PAGE_LEVEL, both & (1 << PAGE_LEVEL) - 1
        if full and self.own is not None:
            stored = StoredTable(self._kept, self._table, self.own.used_bytes, self.own.hash)
            values[:full] = stored.nodes(PAGE_LEVEL, np.arange(full))
        renewed = np.append(self.staged, self._edges()).astype(np.int64) >> PAGE_LEVEL
        if rest:
            renewed = np.append(renewed, full)
        for first, end in runs(firsts(np.sort(renewed))):
            values[first:end] = self._worked_out(first << PAGE_LEVEL, min(end << PAGE_LEVEL, self.chunks))
        return values

    def _worked_out(self, first: int, end: int) -> Array:
        leaves = self.leaves(first, end)
        values = nodes_above(leaves, PAGE_LEVEL)
        absent = np.flatnonzero(np.logical_not(known(leaves)))
        values[firsts(absent >> PAGE_LEVEL)] = 0
        return values

    def leaves(self, first: int, end: int) -> Array:
        """Those of so many chunks; zeros for one that is not here."""
        leaves, own = np.zeros((0, 8), np.uint32), min(end, self._own_chunks) - first
        if own > 0 and self.own is not None:
            leaves = kept_leaves(self._kept, self._table, first, own, self.own.used_bytes)
        if len(leaves) < end - first:
            leaves = np.concatenate((leaves, np.zeros((end - first - len(leaves), 8), np.uint32)))
        begin, stop = np.searchsorted(self.staged, [first, end])
        staged = self.staged[begin:stop]
        if len(staged):
            leaves[staged - first] = self._all_staged.leaves_of(self._table, staged)
        for edge in self._edges():
            if first <= edge < end and leaves[edge - first].any():
                leaves[edge - first] = leaf_values(self._chunk(edge), np.array([edge]), self._used)[0]
        return leaves

    def _edges(self) -> list[int]:
        """Chunks that are the table's last, or were."""
        return [edge for edge in sorted({self.chunks - 1, self._own_chunks - 1}) if 0 <= edge < self.chunks]

    def _chunk(self, number: int) -> Array:
        """One chunk as it is here, (1, 1024) uint8, without what lies beyond the used bytes."""
        source = self._all_staged if number in self.staged else self._kept
        row = np.frombuffer(source.read(self._table, number, 1), np.uint8).reshape(1, CHUNK_BYTES).copy()
        row[0, max(0, self._used - number * CHUNK_BYTES) :] = 0
        return row


def _chunks(entry: TableEntry) -> int:
    return -(-entry.used_bytes // CHUNK_BYTES)
