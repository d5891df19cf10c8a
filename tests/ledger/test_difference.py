"""Comparing two states: exactly what differs is found, and no more is looked at than must be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.base.errors import InvariantBroken, Refused
from lockstep.ledger.difference import (
    ROWS_MAX,
    HashTree,
    compare,
    differing_chunks,
    dtype_of,
    row_values,
    tree_of_bytes,
)
from lockstep.ledger.ledger import Ledger, TableLayout
from lockstep.ledger.manifest import Manifest, layout_text, parse_manifest
from lockstep.ledger.table import touch

ROW = np.dtype(
    [("balance", "<i8"), ("owner", "<u4"), ("flags", "u1"), ("side", "u1"), ("spare", "<u2"), ("x", "<u8", (2,))]
)
LAYOUTS = [TableLayout("accounts", ROW, 4096), TableLayout("orders", np.dtype([("id", "<i8")]), 1 << 16)]


class View:
    """A ledger's newest state."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.manifest: Manifest = parse_manifest(ledger.manifest())

    def tree(self, number: int) -> HashTree:
        return self._ledger.hash_tree(number)


def made(rows: list[int], changes: dict[tuple[int, int], int]) -> Ledger:
    """A ledger with these numbers of rows, whose first field is the row's number, or as changed (table, row)."""
    ledger = Ledger(LAYOUTS)
    undo = ledger.begin()
    for number, count in enumerate(rows):
        table = ledger.tables[number]
        name = table.rows.dtype.names[0]
        while len(undo.places) - undo.used[0] < count:
            undo = ledger.grow_undo()
        for row in range(count):
            touch(table, undo, row)
        table.rows[name][:count] = np.arange(count)
        table.count[0] = count
    for (number, row), value in changes.items():
        table = ledger.tables[number]
        table.rows[table.rows.dtype.names[0]][row] = value
    ledger.seal()
    ledger.commit()
    return ledger


@settings(max_examples=60)
@given(st.integers(0, 40_000), st.integers(0, 40_000), st.data())
def test_the_chunks_found_are_those_whose_bytes_differ(one: int, other: int, data: st.DataObject) -> None:
    base = np.arange(40_000, dtype=np.uint32).view(np.uint8)[:40_000].copy()
    changed = base.copy()
    for place in data.draw(st.lists(st.integers(0, 39_999), max_size=4)):
        changed[place] ^= 255
    mine, theirs = base[:one], changed[:other]
    found, _ = differing_chunks(tree_of_bytes(mine), tree_of_bytes(theirs))
    chunks = range(-(-max(one, other) // 1024))
    part = [slice(1024 * i, 1024 * i + 1024) for i in chunks]
    assert found == [i for i in chunks if mine[part[i]].tobytes() != theirs[part[i]].tobytes()]


@pytest.mark.parametrize("chunks", [64, 1024, 16_384])
def test_the_walk_costs_what_the_difference_is_not_what_the_state_is(chunks: int) -> None:
    base = np.zeros(chunks * 1024, np.uint8)
    changed = base.copy()
    for place in (0, chunks // 3, chunks - 1):
        changed[place * 1024 + 7] = 1
    found, visited = differing_chunks(tree_of_bytes(base), tree_of_bytes(changed))
    assert found == [0, chunks // 3, chunks - 1]
    height = (chunks - 1).bit_length()
    assert visited <= 3 * 2 * height + 1
    same, visited = differing_chunks(tree_of_bytes(base), tree_of_bytes(base))
    assert same == [] and visited == 1


def test_rows_and_fields_with_both_values() -> None:
    one = made([100, 5_000], {})
    other = made([101, 5_000], {(0, 7): -4, (1, 4_999): 12})
    found = compare(View(one), View(other))
    assert found.tables == (("accounts", 100, 101, 2), ("orders", 5_000, 5_000, 1))
    changed, added, order = found.rows
    assert (changed.table, changed.row) == ("accounts", 7)
    assert [(f.name, f.one, f.other) for f in changed.fields] == [("balance", 7, -4)]
    assert (added.row, added.fields[0].one, added.fields[0].other) == (100, None, 100)
    assert next(f.other for f in added.fields if f.name == "x") == [0, 0]
    assert (order.table, order.row, order.fields[0].one, order.fields[0].other) == ("orders", 4_999, 4_999, 12)
    assert found.visited < 60
    back = compare(View(other), View(one))
    assert [(r.table, r.row) for r in back.rows] == [(r.table, r.row) for r in found.rows]
    assert compare(View(one), View(made([100, 5_000], {}))).rows == ()


def test_many_rows_are_counted_but_not_all_listed() -> None:
    found = compare(View(made([0, 3_000], {})), View(made([0, 3_000], {(1, r): -r - 1 for r in range(3_000)})))
    assert found.tables == (("orders", 3_000, 3_000, 3_000),) and len(found.rows) == ROWS_MAX


def test_the_layout_is_read_back_from_the_manifest() -> None:
    for number, layout in enumerate(LAYOUTS):
        entry = View(made([1, 1], {})).manifest.tables[number]
        assert dtype_of(entry) == layout.dtype and layout_text(dtype_of(entry)) == entry.layout
    ledger = made([3, 0], {(0, 1): 77})
    assert row_values(ledger.hash_tree(0), ROW, 1)["balance"] == 77
    assert row_values(ledger.hash_tree(0), ROW, 3) == {}


def test_states_of_other_versions_are_not_compared() -> None:
    other = Ledger([TableLayout("accounts", np.dtype([("id", "<i8")]), 10), LAYOUTS[1]])
    with pytest.raises(Refused, match="other versions"):
        compare(View(made([1, 1], {})), View(other))


def test_a_speculative_state_can_be_compared_but_not_one_in_writing() -> None:
    ledger, before = made([10, 10], {}), made([10, 10], {})
    undo = ledger.begin()
    touch(ledger.tables[0], undo, 4)
    ledger.tables[0].rows["owner"][4] = 9
    with pytest.raises(InvariantBroken):
        ledger.hash_tree(0)
    ledger.seal()
    assert [(r.row, r.fields[0].name) for r in compare(View(before), View(ledger)).rows] == [(4, "owner")]
    ledger.rollback()
    assert compare(View(before), View(ledger)).tables == ()
