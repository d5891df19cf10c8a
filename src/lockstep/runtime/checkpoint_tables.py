"""The chunks of the checkpoint that a transaction sees: what has changed, in LMDB, over tables in flat files.

The flat files (`flat_tables`) come from a fetch or a fold, and are as they were then; LMDB has every chunk that was
written since. Each table's flat part only ever shrinks: when a table gets shorter than it, what it had beyond is
forgotten for good. While there was neither a fetch nor a fold, all is in LMDB.
"""

import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

import lmdb
import numpy as np

from lockstep.base.marks import reached
from lockstep.ledger.changes import ChunkSet
from lockstep.ledger.manifest import Manifest, TableEntry
from lockstep.ledger.subtree import ChunkTree, leaf_values
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.runtime.block_index import PUTS_AT_ONCE
from lockstep.runtime.flat_tables import FlatTables, Span
from lockstep.runtime.leaf_pages import PAGE_LEAVES, LeafPages
from lockstep.sync.state_hash import nodes_above
from lockstep.sync.state_request import PAGE_LEVEL, base_level

Array = np.ndarray[Any, Any]
CHUNK_KEY: Final = struct.Struct(">HI")
FULL: Final = 1 << 62
"""More bytes than any table has."""


class Databases(NamedTuple):
    """Where LMDB has chunks and pages of leaves."""

    chunks: "lmdb._Database"
    leaves: LeafPages


class CheckpointTables:
    """One transaction's view; with a write transaction, writing too."""

    def __init__(self, transaction: "lmdb.Transaction", databases: Databases, flat: FlatTables | None) -> None:
        self._transaction = transaction
        self._chunks, self._pages = databases
        self._flat = flat

    def close(self) -> None:
        """Give the flat files back. The transaction is the caller's."""
        if self._flat is not None:
            self._flat.close()

    @property
    def limits(self) -> tuple[int, ...]:
        """How many chunks of each table in flat files count."""
        return () if self._flat is None else tuple(self._flat.limits)

    # -- reading --------------------------------------------------------------------------------------

    def read(self, table: int, first: int, count: int) -> bytes:
        """So many chunks; one that was never written is zeros."""
        changed = self._changed(table, first, count)
        if len(changed) == count:
            return b"".join([value for _, value in changed])
        data = bytes(count * CHUNK_BYTES) if self._flat is None else self._flat.read(table, first, count)
        if not changed:
            return data
        patched = bytearray(data)
        for number, value in changed:
            at = (number - first) * CHUNK_BYTES
            patched[at : at + CHUNK_BYTES] = value
        return bytes(patched)

    def spans(self, table: int, first: int, count: int) -> list[bytes | Span]:
        """The same, as far as possible as places in files."""
        span = None if self._flat is None else self._flat.span(table, first, count)
        if span is None or self._has_changed(table, first, count):
            return [self.read(table, first, count)]
        return [span]

    def leaves(self, table: int, first: int, count: int) -> Array:
        """Chaining values, (count, 8) uint32, of the chunks from `first` on; zeros of one that was never written."""
        values = np.zeros((count, 8), np.uint32) if self._flat is None else self._flat.leaves(table, first, count)
        self._pages.read(self._transaction, table, first, values)
        return values

    def page_values(self, table: int, pages: int) -> Array:
        """The nodes on `PAGE_LEVEL` as they are kept, (pages, 8) uint32; zeros where none is."""
        return self._pages.values(self._transaction, table, pages)

    def sets(self) -> list[ChunkSet]:
        """All chunks: those in flat files, then those that were written later."""
        below = [
            ChunkSet(table, np.arange(chunks, dtype=np.int32), self._flat.rows(table))
            for table, chunks in enumerate(self.limits)
            if chunks and self._flat is not None
        ]
        return below + _sets(self._transaction.cursor(self._chunks))

    def changed_chunks(self) -> int:
        """How many there are in LMDB."""
        return int(self._transaction.stat(self._chunks)["entries"])

    def _has_changed(self, table: int, first: int, count: int) -> bool:
        cursor = self._transaction.cursor(self._chunks)
        return bool(cursor.set_range(CHUNK_KEY.pack(table, first))) and (
            bytes(cursor.key()) < CHUNK_KEY.pack(table, first + count)
        )

    def _changed(self, table: int, first: int, count: int) -> "list[tuple[int, bytes | memoryview]]":
        found: list[tuple[int, bytes | memoryview]] = []
        cursor = self._transaction.cursor(self._chunks)
        if cursor.set_range(CHUNK_KEY.pack(table, first)):
            for key, value in islice(cursor.iternext(), count):
                at, number = CHUNK_KEY.unpack(key)
                if at != table or number >= first + count:
                    break
                found.append((number, value))
        return found

    # -- writing --------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Forget all chunks in LMDB."""
        self._transaction.drop(self._chunks, delete=False)
        self._pages.clear(self._transaction)

    def forget(self) -> None:
        """Forget all chunks, those in flat files too."""
        self.clear()
        if self._flat is not None:
            for table in range(len(self._flat.limits)):
                self._flat.cut(table, 0)

    def put(self, table: int, numbers: Array, rows: Array, leaves: Array | None = None) -> None:
        """Chunks in ascending order, and their leaves; as if all were full, if those are not given."""
        if not len(numbers):
            return
        cursor = self._transaction.cursor(self._chunks)
        is_behind = not cursor.last() or bytes(cursor.key()) < CHUNK_KEY.pack(table, int(numbers[0]))
        put_all(cursor, _items(table, numbers, rows), is_behind)
        values = leaf_values(rows, numbers, FULL) if leaves is None else leaves
        self._pages.write(self._transaction, self._flat, table, numbers, values)

    def cut(self, manifest: Manifest) -> None:
        """Take away what lies beyond the tables' used bytes."""
        cursor = self._transaction.cursor(self._chunks)
        for table, entry in enumerate(manifest.tables):
            last, rest = divmod(entry.used_bytes, CHUNK_BYTES)
            if rest and self._is_here(table, last):
                cut = self.read(table, last, 1)[:rest].ljust(CHUNK_BYTES, b"\0")
                cursor.put(CHUNK_KEY.pack(table, last), cut)
            key = CHUNK_KEY.pack(table, last + (rest > 0))
            there = cursor.set_range(key)
            while there and cursor.key()[:2] == key[:2]:
                there = cursor.delete()

    def end(self, manifest: Manifest, before: Manifest | None) -> None:
        """Set the leaves of chunks that are a table's last, or were (the one before it, or that of the state `before`):
        a leaf says how much of its chunk is used, which changes without a write to it."""
        for table, entry in enumerate(manifest.tables):
            self._pages.cut(self._transaction, table, chunks_of(entry))
            if self._flat is not None:
                self._flat.cut(table, chunks_of(entry))
            for number in edges(table, manifest, before):
                row, at = np.frombuffer(self.read(table, number, 1), np.uint8).reshape(1, -1), np.array([number])
                leaf = leaf_values(row, at, entry.used_bytes)
                self._pages.write(self._transaction, self._flat, table, at, leaf)

    def fill(self, manifest: Manifest, before: Manifest | None) -> None:
        """Set the leaves of chunks that tables have got since `before` without a write, which are zeros: without
        a leaf they would count as not here, and be fetched."""
        zeros = np.zeros((PUTS_AT_ONCE, CHUNK_BYTES), np.uint8)
        for table, entry in enumerate(manifest.tables):
            had = chunks_of(before.tables[table]) if before is not None and table < len(before.tables) else 0
            for first in range(had, chunks_of(entry), len(zeros)):
                count = min(len(zeros), chunks_of(entry) - first)
                numbers = first + np.flatnonzero(np.logical_not(self.leaves(table, first, count).any(axis=1)))
                leaves = leaf_values(zeros[: len(numbers)], numbers, entry.used_bytes)
                self._pages.write(self._transaction, self._flat, table, numbers, leaves)

    def seal(self, manifest: Manifest) -> None:
        """Once everything is written: see that the values of pages lead to the tables' hashes, and work them out from
        all leaves where they don't (a home of an older version has none)."""
        for table, entry in enumerate(manifest.tables):
            chunks = chunks_of(entry)
            if base_level(chunks) == 0:
                continue  # held as a whole by whoever looks at it
            pages = -(-chunks // PAGE_LEAVES)
            begin = (pages - 1) * PAGE_LEAVES
            last = nodes_above(self.leaves(table, begin, chunks - begin), PAGE_LEVEL)
            self._pages.write_values(self._transaction, table, np.array([pages - 1]), last)
            if ChunkTree(self.page_values(table, pages)).hash != entry.hash:
                reached("checkpoint: the values of pages are worked out from all leaves")
                self.fill(manifest, None)
                self.put_values(table, nodes_above(self.leaves(table, 0, chunks), PAGE_LEVEL))

    def put_values(self, table: int, values: Array) -> None:
        """The nodes on `PAGE_LEVEL`, all."""
        self._pages.write_values(self._transaction, table, np.arange(len(values)), values)

    def _is_here(self, table: int, number: int) -> bool:
        is_below = self._flat is not None and number < self._flat.chunks(table)
        return is_below or self._transaction.get(CHUNK_KEY.pack(table, number), db=self._chunks) is not None


def chunks_of(entry: TableEntry) -> int:
    """How many chunks a table has."""
    return -(-entry.used_bytes // CHUNK_BYTES)


def edges(table: int, manifest: Manifest, before: Manifest | None) -> list[int]:
    """The chunks of a table that are its last one in `manifest` or the one before that, or were its last one."""
    chunks = chunks_of(manifest.tables[table])
    found = {chunks - 1, chunks - 2}
    if before is not None and table < len(before.tables):
        found.add(chunks_of(before.tables[table]) - 1)
    return [number for number in sorted(found) if 0 <= number < chunks]


def put_all(cursor: "lmdb.Cursor", items: Iterable[tuple[bytes, bytes | memoryview]], is_behind: bool = False) -> None:
    """Put many; `is_behind`: they are ascending, and come behind everything that is there, so they fill its pages."""
    remaining = iter(items)
    while batch := list(islice(remaining, PUTS_AT_ONCE)):
        cursor.putmulti(batch, append=is_behind)


def _items(table: int, numbers: Array, rows: Array) -> Iterator[tuple[bytes, memoryview]]:
    data = np.ascontiguousarray(rows).reshape(-1).data
    for place, number in enumerate(numbers.tolist()):
        yield CHUNK_KEY.pack(table, number), data[place * CHUNK_BYTES : (place + 1) * CHUNK_BYTES]


def _sets(cursor: "lmdb.Cursor") -> list[ChunkSet]:
    """All chunks, by table. Joined in one go: one array row at a time would take seconds."""
    numbers: dict[int, list[int]] = {}
    rows: dict[int, list[bytes]] = {}
    for key, value in cursor:
        table, number = CHUNK_KEY.unpack(key)
        numbers.setdefault(table, []).append(number)
        rows.setdefault(table, []).append(bytes(value))
    return [
        ChunkSet(
            table, np.array(numbers[table], np.int32),
            np.frombuffer(b"".join(rows[table]), np.uint8).reshape(-1, CHUNK_BYTES),
        )
        for table in numbers
    ]  # fmt: skip
