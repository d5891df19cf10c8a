"""What differs between two states of which only a few nodes and chunks are looked at: top-down, side by side, four
levels at a time; then the rows in the chunks that differ. Costs what the difference is, however large the state."""

from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np

from lockstep.base.errors import Reason, Refused
from lockstep.gateway.live_state import Side
from lockstep.ledger.difference import (
    ROWS_MAX,
    FieldDifference,
    RowDifference,
    StateDifference,
    Value,
    dtype_of,
)
from lockstep.ledger.manifest import TableEntry
from lockstep.ledger.partial import chunks_of
from lockstep.ledger.subtree import top_level, width
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.sync.state_request import STEP, children_level, covered

CHUNKS_MAX: Final = 16_384
"""Differing chunks of one table that are looked into; there may be more."""


@dataclass(slots=True)
class Looked:
    """What it took."""

    nodes: int = 0
    more: bool = False
    """Some table differs in more chunks than are looked into."""


async def compare(one: Side, other: Side) -> tuple[StateDifference, Looked]:
    """Find all differences; raises `Refused` when the two do not have the same tables, or a node lies."""
    described = [[(e.name, e.layout, e.row_bytes) for e in side.manifest.tables] for side in (one, other)]
    if described[0] != described[1]:
        raise Refused(Reason.MALFORMED, "the two states have different tables or row layouts: other versions made them")
    looked = Looked()
    tables: list[tuple[str, int, int, int]] = []
    rows: list[RowDifference] = []
    for number, (mine, theirs) in enumerate(zip(one.manifest.tables, other.manifest.tables, strict=True)):
        if (mine.hash, mine.rows) == (theirs.hash, theirs.rows):
            continue
        chunks = await _chunks(number, one, other, looked)
        looked.more = looked.more or len(chunks) > CHUNKS_MAX
        found = await _rows(number, (mine, theirs), (one, other), chunks[:CHUNKS_MAX])
        tables.append((mine.name, mine.rows, theirs.rows, len(found)))
        rows += islice(found, ROWS_MAX - len(rows))
    return StateDifference(tuple(tables), tuple(rows), looked.nodes), looked


async def _chunks(table: int, one: Side, other: Side, looked: Looked) -> list[int]:
    """Numbers of the chunks that differ, ascending; a few more than `CHUNKS_MAX` at most."""
    sizes = [chunks_of(side.manifest.tables[table]) for side in (one, other)]
    level = -(-max(top_level(size) for size in sizes) // STEP) * STEP
    frontier = [0]
    while level > 0:
        mine, theirs = [await _below(s, table, level, frontier, n) for s, n in zip((one, other), sizes, strict=True)]
        looked.nodes += len(mine) + len(theirs)
        places = sorted(mine.keys() | theirs.keys())
        frontier = [place for place in places if mine.get(place) is None or mine.get(place) != theirs.get(place)]
        level -= STEP
        if level == 0:
            frontier = frontier[: CHUNKS_MAX + 1]
    return frontier


async def _below(side: Side, table: int, level: int, indices: list[int], chunks: int) -> dict[int, bytes | None]:
    """Place → value, four levels down. Where a side's tree is not so high, its places have no values to compare."""
    wanted, top = level - STEP, top_level(chunks)
    places = [p for i in indices for p in range(*covered(i, STEP, width(chunks, wanted)))] if chunks else []
    if top <= wanted or not places:
        return dict.fromkeys(places)
    asked = min(level, top)
    assert children_level(asked) == wanted
    present = [index for index in indices if index < width(chunks, asked)]
    return dict(zip(places, await side.below(table, asked, present), strict=True))


async def _rows(
    table: int, entries: tuple[TableEntry, TableEntry], sides: tuple[Side, Side], chunks: list[int]
) -> list[RowDifference]:
    """The rows that differ, in those chunks."""
    entry, dtype = entries[0], dtype_of(entries[0])
    found: list[RowDifference] = []
    parts: list[dict[int, bytes]] = []
    for side, own in zip(sides, entries, strict=True):
        here = [number for number in chunks if number < chunks_of(own)]
        parts.append(dict(zip(here, await side.chunks(table, here), strict=True)) if here else {})
    per_chunk, size = CHUNK_BYTES // entry.row_bytes, entry.row_bytes
    for number in chunks:
        mine, theirs = (part.get(number, b"") for part in parts)
        for at in range(0, max(len(mine), len(theirs)), size):
            pair = mine[at : at + size], theirs[at : at + size]
            if pair[0] != pair[1]:
                values = _values(pair[0], dtype), _values(pair[1], dtype)
                names = dtype.names or ()
                fields = [FieldDifference(name, values[0].get(name), values[1].get(name)) for name in names]
                differing = tuple(field for field in fields if field.one != field.other)
                found.append(RowDifference(entry.name, number * per_chunk + at // size, differing))
    return found


def _values(raw: bytes, dtype: "np.dtype[np.void]") -> dict[str, Value]:
    if len(raw) < dtype.itemsize:
        return {}
    record = np.frombuffer(raw, dtype)[0]
    return {name: record[name].tolist() for name in dtype.names or ()}
