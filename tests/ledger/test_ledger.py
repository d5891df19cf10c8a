"""Epochs: writing, sealing, taking back and committing, with every root checked against a full rehash."""

import json
from typing import Any

import numpy as np
import pytest
from blake3 import blake3

from lockstep.base.errors import InvariantBroken
from lockstep.ledger import ledger as ledger_module
from lockstep.ledger.ledger import EPOCHS_MAX, TableLayout

from .writing import expected_root, new_ledger, used_bytes, write, write_rows


def test_an_empty_ledger_has_the_hash_of_nothing_for_each_table() -> None:
    ledger = new_ledger()
    assert {e["blake3"] for e in json.loads(ledger.manifest())["tables"]} == {blake3(b"").hexdigest()}
    assert ledger.root == expected_root(ledger) == blake3(ledger.manifest()).digest()


@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 49, 100, 1023, 1024, 1025, 3000])
def test_a_table_of_any_size_has_the_root_of_a_full_rehash(rows: int) -> None:
    ledger = new_ledger()
    write(ledger, range(rows), 7)
    assert ledger.root == expected_root(ledger)


def test_growing_step_by_step_reaches_the_same_root_as_at_once() -> None:
    at_once, stepwise = new_ledger(), new_ledger()
    write(at_once, range(1025), 7)
    end = 0
    for step in (1, 1, 13, 1, 1, 16, 31, 64, 300, 597):
        write(stepwise, range(end, end + step), 7)
        stepwise.commit()
        end += step
        assert stepwise.root == expected_root(stepwise)
    assert stepwise.root == at_once.root


def test_rollback_restores_bytes_counts_and_root() -> None:
    ledger = new_ledger()
    write(ledger, range(40), 1)
    ledger.commit()
    root, image = ledger.root, used_bytes(ledger)
    write(ledger, range(20, 60), 2)
    write(ledger, range(500), 3, table=1)
    ledger.rollback()
    ledger.rollback()
    assert (ledger.root, used_bytes(ledger), ledger.depth) == (root, image, 0)
    assert not ledger.tables[0].words[3:].any(), "an appended row was left behind"
    write(ledger, [], 0)
    assert ledger.root == root == expected_root(ledger)


def test_an_unsealed_epoch_can_be_taken_back() -> None:
    ledger = new_ledger()
    root = ledger.root
    write_rows(ledger, ledger.begin(), [0], 9)
    ledger.rollback()
    assert ledger.root == root
    assert not used_bytes(ledger)[0]


def test_an_epoch_with_several_segments_is_taken_back_whole() -> None:
    ledger = new_ledger()
    rows = range(0, 100_000, 16)
    write(ledger, rows, 1)
    ledger.commit()
    root, image = ledger.root, used_bytes(ledger)
    write(ledger, rows, 2)
    assert ledger.root == expected_root(ledger) != root
    ledger.rollback()
    assert (ledger.root, used_bytes(ledger)) == (root, image)


def test_a_number_that_wraps_never_passes_an_old_mark_for_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row is written in one epoch of three, so its mark still bears that epoch's number when it comes again."""
    monkeypatch.setattr(ledger_module, "EPOCH_NUMBER_MAX", 3)
    ledger = new_ledger()
    write(ledger, [0, 17, 33], 1)
    write(ledger, [17], 2)
    write(ledger, [33], 3)
    write(ledger, [0], 4)
    before = used_bytes(ledger)
    for row in (17, 33, 0, 17):
        write(ledger, [row], 5)
        ledger.rollback()
        assert used_bytes(ledger) == before, "a pre-image was not saved"


def test_epochs_are_bounded_and_ordered() -> None:
    ledger = new_ledger()
    with pytest.raises(InvariantBroken, match="no open epoch"):
        ledger.rollback()
    with pytest.raises(InvariantBroken, match="no sealed epoch"):
        ledger.commit()
    with pytest.raises(InvariantBroken, match="no epoch is being written"):
        ledger.seal()
    ledger.begin()
    with pytest.raises(InvariantBroken, match="still being written"):
        ledger.begin()
    with pytest.raises(InvariantBroken, match="no sealed epoch"):
        ledger.commit()
    ledger.seal()
    for _ in range(EPOCHS_MAX - 1):
        write(ledger, [1], 1)
    with pytest.raises(InvariantBroken, match="would be open"):
        ledger.begin()


def test_bytes_beyond_the_rows_must_be_zero() -> None:
    ledger = new_ledger()
    write_rows(ledger, ledger.begin(), [5], 1)
    ledger.tables[0].count[0] = 3
    with pytest.raises(InvariantBroken, match="accounts has bytes other than zero"):
        ledger.seal()


def test_a_count_beyond_the_capacity_is_refused() -> None:
    ledger = new_ledger()
    ledger.begin()
    ledger.tables[1].count[0] = 5_001
    with pytest.raises(InvariantBroken, match="ticks has 5001 rows of 5000"):
        ledger.seal()


@pytest.mark.parametrize(("fields", "rows"), [([("a", "<i8", (3,))], 1), ([("a", "S2048")], 1), ([("a", "<i8")], 0)])
def test_layouts_that_would_break_chunks_are_refused(fields: Any, rows: int) -> None:
    with pytest.raises(ValueError, match="table t"):
        TableLayout("t", np.dtype(fields), rows)
