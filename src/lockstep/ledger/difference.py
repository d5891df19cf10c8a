"""What differs between two states: tables by their hashes, chunks by walking two trees down, rows and fields in those.

The walk compares nodes from the top and follows only those that differ, so it costs as much as the difference times
the height of the tree, however large the state is. Where the trees are not in memory yet (a folder), only tables whose
hashes differ are read at all.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol

import numpy as np

from lockstep.base.errors import Reason, Refused
from lockstep.ledger.constants import VALUE_WORDS
from lockstep.ledger.manifest import Manifest, TableEntry
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.ledger.tree import Trees, new_trees, refresh

ROWS_MAX: Final = 1_000
"""Differing rows that are listed; all are counted."""
_FIELD: Final = re.compile(r"([a-z_0-9]+):([<|][iu]\d+)(?:\[(\d+)\])?@(\d+)")
Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Value = int | list[int] | None


class HashTree:
    """A table's bytes and the nodes above them, as of the last refresh."""

    def __init__(self, data: Bytes, trees: Trees, number: int) -> None:
        """`data` are the used bytes, (n,) uint8; `trees` has their nodes as table `number`."""
        self.data = data
        self._trees = trees
        self._number = number
        self.chunks = -(-len(data) // CHUNK_BYTES)
        self.top = max(self.chunks - 1, 0).bit_length()
        """The level of the one node above all."""

    def size(self, level: int) -> int:
        """Nodes on a level."""
        return -(-self.chunks // (1 << level))

    def node(self, level: int, place: int) -> bytes:
        """A node's value; level 0 are the chunks."""
        at = (int(self._trees.base[self._number, level]) + place) * VALUE_WORDS
        return self._trees.values[at : at + VALUE_WORDS].tobytes()

    def chunk(self, number: int) -> bytes:
        """A chunk's bytes; fewer than 1024 at the end, none beyond."""
        return self.data[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES].tobytes()


def tree_of_bytes(data: Bytes) -> HashTree:
    """Hash a table's bytes."""
    chunks = max(1, -(-len(data) // CHUNK_BYTES))
    words = np.zeros(chunks * CHUNK_BYTES // 4, np.uint32)
    words.view(np.uint8)[: len(data)] = data
    trees = new_trees([chunks], [0])
    refresh(trees, words, np.array([len(data)], np.int64))
    return HashTree(words.view(np.uint8)[: len(data)], trees, 0)


def differing_chunks(one: HashTree, other: HashTree) -> tuple[list[int], int]:
    """(numbers of the chunks that differ, nodes looked at)."""
    top = max(one.top, other.top)
    pending, found, visited = [(top, 0)], list[int](), 0
    while pending:
        level, place = pending.pop()
        ours, theirs = place < one.size(level), place < other.size(level)
        if not ours and not theirs:
            continue
        visited += 1
        both = ours and theirs and level <= min(one.top, other.top)
        if both and one.node(level, place) == other.node(level, place):
            continue
        if level == 0:
            found.append(place)
        else:
            pending += [(level - 1, 2 * place + 1), (level - 1, 2 * place)]
    return found, visited


class StateView(Protocol):
    """A state as far as comparing needs it."""

    manifest: Manifest

    def tree(self, number: int) -> HashTree:
        """A table's tree."""


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """A field with both values; None where the row does not exist."""

    name: str
    one: Value
    other: Value


@dataclass(frozen=True, slots=True)
class RowDifference:
    """A row that differs."""

    table: str
    row: int
    fields: tuple[FieldDifference, ...]


@dataclass(frozen=True, slots=True)
class StateDifference:
    """What differs between two states."""

    tables: tuple[tuple[str, int, int, int], ...]
    """(name, rows in one, rows in the other, differing rows) of each table that differs."""
    rows: tuple[RowDifference, ...]
    """The first of them, ROWS_MAX at most."""
    visited: int
    """Nodes of the trees that were looked at."""


def compare(one: StateView, other: StateView) -> StateDifference:
    """Find all differences; raises `Refused` when the two states do not have the same tables."""
    described = [[(e.name, e.layout, e.row_bytes) for e in view.manifest.tables] for view in (one, other)]
    if described[0] != described[1]:
        raise Refused(Reason.MALFORMED, "the two states have different tables or row layouts: other versions made them")
    tables: list[tuple[str, int, int, int]] = []
    rows: list[RowDifference] = []
    visited = 0
    for number, (mine, theirs) in enumerate(zip(one.manifest.tables, other.manifest.tables, strict=True)):
        if mine.hash == theirs.hash and mine.rows == theirs.rows:
            continue
        trees = one.tree(number), other.tree(number)
        chunks, looked = differing_chunks(*trees)
        visited += looked
        differing = _rows(mine, trees, chunks)
        tables.append((mine.name, mine.rows, theirs.rows, len(differing)))
        dtype = dtype_of(mine)
        rows += [_row(mine, dtype, trees, row) for row in islice(differing, ROWS_MAX - len(rows))]
    return StateDifference(tuple(tables), tuple(rows), visited)


def _rows(entry: TableEntry, trees: tuple[HashTree, HashTree], chunks: Sequence[int]) -> list[int]:
    """Numbers of the rows that differ, in those chunks."""
    per_chunk, width = CHUNK_BYTES // entry.row_bytes, entry.row_bytes
    found: list[int] = []
    for chunk in chunks:
        one, other = (tree.chunk(chunk) for tree in trees)
        parts = range(0, max(len(one), len(other)), width)
        found += [chunk * per_chunk + at // width for at in parts if one[at : at + width] != other[at : at + width]]
    return found


def _row(entry: TableEntry, dtype: "np.dtype[np.void]", trees: tuple[HashTree, HashTree], row: int) -> RowDifference:
    one, other = (row_values(tree, dtype, row) for tree in trees)
    names = dtype.names or ()
    fields = [FieldDifference(name, one.get(name), other.get(name)) for name in names]
    return RowDifference(entry.name, row, tuple(field for field in fields if field.one != field.other))


def row_values(tree: HashTree, dtype: "np.dtype[np.void]", row: int) -> dict[str, Value]:
    """A row's fields; none when there is no such row."""
    raw = tree.data[row * dtype.itemsize : (row + 1) * dtype.itemsize].tobytes()
    if len(raw) < dtype.itemsize:
        return {}
    record = np.frombuffer(raw, dtype)[0]
    return {name: record[name].tolist() for name in dtype.names or ()}


def dtype_of(entry: TableEntry) -> "np.dtype[np.void]":
    """The row layout that a manifest's text describes; raises `Refused`. The inverse of `manifest.layout_text`."""
    names, formats, offsets = list[str](), list[Any](), list[int]()
    for text in re.split(r",(?![^\[]*\])", entry.layout):
        found = _FIELD.fullmatch(text)
        if found is None:
            raise Refused(Reason.MALFORMED, f"table {entry.name}: the field {text!r} cannot be read")
        name, base, shape, offset = found.groups()
        names.append(name)
        formats.append((base, (int(shape),)) if shape else base)
        offsets.append(int(offset))
    try:
        return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": entry.row_bytes})
    except (ValueError, TypeError) as error:
        raise Refused(Reason.MALFORMED, f"table {entry.name}: its layout cannot be read: {error}") from error
