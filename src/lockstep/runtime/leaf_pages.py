"""The chaining values of the checkpoint's chunks, beside them in the store, 32 to a page: of the pages that are not as
in the flat files. And the *value* of each page, which is the node five levels above its leaves: of all pages,
themselves 32 to a page. A page and its value are written together.

They are what makes a tree quick to have: a megabyte of values for a gigabyte of state, and leaves only where something
is looked for, so a peer can be served, and a difference found, without reading or hashing the rest.
"""

import struct
from itertools import pairwise
from typing import Any, Final

import lmdb
import numpy as np

from lockstep.runtime.flat_tables import FlatTables
from lockstep.sync.state_hash import nodes_above
from lockstep.sync.state_request import PAGE_LEVEL, firsts

Array = np.ndarray[Any, Any]
PAGE_LEAVES: Final = 1 << PAGE_LEVEL
_PAGE_BYTES: Final = 32 * PAGE_LEAVES
_KEY: Final = struct.Struct(">HI")
_VALUES: Final = 0x8000
"""Added to a table's number: the values of its pages."""


class LeafPages:
    """Pages in one LMDB database."""

    def __init__(self, database: "lmdb._Database") -> None:
        self._database = database

    def clear(self, transaction: "lmdb.Transaction") -> None:
        """Forget all."""
        transaction.drop(self._database, delete=False)

    def write(
        self, transaction: "lmdb.Transaction", flat: FlatTables | None, table: int, numbers: Array, leaves: Array
    ) -> None:
        """Set the leaves, (k, 8) uint32, of some chunks, (k,) int64, ascending. A page that is not here yet begins as
        the flat files have it. The value of a table's last page is right after `end`."""
        pages = numbers // PAGE_LEAVES
        written: list[Array] = []
        begins = np.concatenate(([0], np.flatnonzero(np.diff(pages)) + 1, [len(pages)])).tolist()
        for begin, end in pairwise(begins):
            if begin == end:
                continue
            key = _KEY.pack(table, int(pages[begin]))
            value = transaction.get(key, db=self._database)
            if value is None and flat is not None:
                rows = flat.leaves(table, int(pages[begin]) * PAGE_LEAVES, PAGE_LEAVES)
            else:
                rows = _page(value)
            rows[numbers[begin:end] % PAGE_LEAVES] = leaves[begin:end]
            transaction.put(key, rows.tobytes(), db=self._database)
            written.append(rows)
        if written and table < _VALUES:
            values = nodes_above(np.concatenate(written), PAGE_LEVEL)
            self.write_values(transaction, table, firsts(pages), values)

    def write_values(self, transaction: "lmdb.Transaction", table: int, pages: Array, values: Array) -> None:
        """Set the values, (k, 8) uint32, of some pages, (k,) int64, ascending."""
        self.write(transaction, None, table | _VALUES, pages, values)

    def values(self, transaction: "lmdb.Transaction", table: int, pages: int) -> Array:
        """The values of a table's pages, (pages, 8) uint32; zeros of those that are not known."""
        found = np.zeros((pages, 8), np.uint32)
        self.read(transaction, table | _VALUES, 0, found)
        return found

    def cut(self, transaction: "lmdb.Transaction", table: int, chunks: int) -> None:
        """Forget what lies beyond a table's chunks."""
        if table < _VALUES:
            self.cut(transaction, table | _VALUES, -(-chunks // PAGE_LEAVES))
        page, rest = divmod(chunks, PAGE_LEAVES)
        key = _KEY.pack(table, page)
        value = transaction.get(key, db=self._database)
        if rest and value is not None:
            rows = _page(value)
            rows[rest:] = 0
            transaction.put(key, rows.tobytes(), db=self._database)
        cursor = transaction.cursor(self._database)
        there = cursor.set_range(_KEY.pack(table, page + (rest > 0)))
        while there and cursor.key()[:2] == key[:2]:
            there = cursor.delete()

    def read(self, transaction: "lmdb.Transaction", table: int, first: int, values: Array) -> None:
        """Lay the pages that are here over a table's leaves from `first` on, (count, 8) uint32."""
        cursor, stop = transaction.cursor(self._database), first + len(values)
        if len(values) and cursor.set_range(_KEY.pack(table, first // PAGE_LEAVES)):
            for key, value in cursor.iternext():
                at, page = _KEY.unpack(key)
                begin = page * PAGE_LEAVES
                if at != table or begin >= stop:
                    break
                start, end = max(begin, first), min(begin + PAGE_LEAVES, stop)
                rows = np.frombuffer(value, np.uint32).reshape(-1, 8)
                values[start - first : end - first] = rows[start - begin : end - begin]


def _page(value: "bytes | memoryview | None") -> Array:
    if value is None:
        return np.zeros((PAGE_LEAVES, 8), np.uint32)
    return np.frombuffer(value, np.uint32).reshape(-1, 8).copy()
