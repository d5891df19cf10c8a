"""Checkpoints: what changed, as of the committed epoch, and loading it back."""

import numpy as np
import pytest

from lockstep.base.errors import InvariantBroken, StorageFailed
from lockstep.ledger.changes import Checkpoint, ChunkSet
from lockstep.ledger.ledger import Ledger

from .writing import LAYOUTS, new_ledger, used_bytes, write


def changed(checkpoint: Checkpoint) -> dict[int, list[int]]:
    return {part.table: part.chunks.tolist() for part in checkpoint.sets}


def test_a_checkpoint_holds_what_committed_epochs_changed_once() -> None:
    ledger = new_ledger()
    write(ledger, range(40), 1)
    write(ledger, [0, 39], 2)
    write(ledger, [500], 3, table=1)
    assert changed(ledger.checkpoint()) == {}, "nothing is committed yet"
    for _ in range(2):
        ledger.commit()
    assert changed(ledger.checkpoint()) == {0: [0, 1, 2]}
    ledger.commit()
    point = ledger.checkpoint()
    assert changed(point) == {1: [3]}
    assert (point.root, point.manifest, point.changed_chunks) == (ledger.root, ledger.manifest(), 1)
    assert changed(ledger.checkpoint()) == {}


def test_open_epochs_do_not_leak_into_a_checkpoint() -> None:
    ledger = new_ledger()
    write(ledger, range(40), 1)
    ledger.commit()
    committed = used_bytes(ledger)
    for value in (2, 3, 4):
        write(ledger, range(50), value)
    (part,) = ledger.checkpoint().sets
    assert part.data.tobytes()[: len(committed[0])] == committed[0]
    assert ledger.committed_bytes(0) == committed[0]
    part.data[:] = 0
    assert ledger.committed_bytes(0) == committed[0], "a checkpoint is a copy"


def stored() -> Checkpoint:
    ledger = new_ledger()
    write(ledger, range(1000), 7)
    ledger.commit()
    write(ledger, range(100), 8, table=1)
    ledger.commit()
    return ledger.checkpoint()


def test_loading_restores_the_state_and_work_goes_on_alike() -> None:
    point, original, restored = stored(), new_ledger(), new_ledger()
    write(original, range(1000), 7)
    write(original, range(100), 8, table=1)
    restored.load(point.manifest, point.sets)
    assert restored.root == restored.committed.root == original.root
    assert used_bytes(restored) == used_bytes(original)
    assert write(restored, range(990, 1010), 9) == write(original, range(990, 1010), 9)
    restored.commit()
    assert changed(restored.checkpoint()) == {0: [61, 62, 63]}, "what was loaded has not changed"


def spoiled(part: ChunkSet, at: tuple[int, int]) -> ChunkSet:
    data = part.data.copy()
    data[at] ^= 1
    return ChunkSet(part.table, part.chunks, data)


def test_loading_refuses_what_is_not_the_stored_state() -> None:
    point = stored()
    accounts, ticks = point.sets
    missing = ChunkSet(0, accounts.chunks[1:], accounts.data[1:])
    beyond = ChunkSet(1, np.array([200], np.int32), ticks.data[:1])
    cases: list[tuple[str, bytes, list[ChunkSet]]] = [
        ("one bit is wrong", point.manifest, [spoiled(accounts, (5, 70)), ticks]),
        ("bytes beyond the rows", point.manifest, [spoiled(accounts, (62, 1023)), ticks]),
        ("a chunk is missing", point.manifest, [missing, ticks]),
        ("a table is missing", point.manifest, [accounts]),
        ("a chunk beyond the capacity", point.manifest, [accounts, beyond]),
        ("a negative chunk", point.manifest, [accounts, ChunkSet(1, -ticks.chunks - 1, ticks.data)]),
        ("an unknown table", point.manifest, [accounts, ChunkSet(3, ticks.chunks, ticks.data)]),
        ("short chunks", point.manifest, [accounts, ChunkSet(1, ticks.chunks, ticks.data[:, :512])]),
        ("another count", point.manifest.replace(b'"rows":1000', b'"rows":1001'), [accounts, ticks]),
        ("a count too large", point.manifest.replace(b'"rows":1000', b'"rows":100001'), [accounts, ticks]),
        ("another name", point.manifest.replace(b"accounts", b"accountz"), [accounts, ticks]),
        ("no manifest", b"", [accounts, ticks]),
        ("fewer tables", Ledger(LAYOUTS[:2]).manifest(), [accounts, ticks]),
    ]
    for what, manifest, sets in cases:
        with pytest.raises(StorageFailed):
            new_ledger().load(manifest, sets)
            pytest.fail(what)
    new_ledger().load(point.manifest, [accounts, ticks])


def test_only_a_new_ledger_can_be_loaded() -> None:
    point, ledger = stored(), new_ledger()
    ledger.begin()
    with pytest.raises(InvariantBroken, match="new ledger"):
        ledger.load(point.manifest, point.sets)
