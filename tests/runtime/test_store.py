"""Checkpoints come back as they were written; and the index finds blocks and bundles."""

from pathlib import Path

import numpy as np
import pytest

from lockstep.base.errors import StorageFailed
from lockstep.ledger.changes import ChunkSet
from lockstep.runtime.block_index import BlockPlace, FatePlace
from lockstep.runtime.store import CheckpointMeta, Store

EMPTY_MANIFEST = b'{"format":"lockstep-state-1","tables":[]}'


def meta(height: int) -> CheckpointMeta:
    return CheckpointMeta(height, b"header", b"certificate", EMPTY_MANIFEST, bytes(32), 7 * height, 9 * height)


def chunks(table: int, numbers: list[int], fill: int) -> ChunkSet:
    return ChunkSet(table, np.array(numbers), np.full((len(numbers), 1024), fill, np.uint8))


def test_an_empty_store_has_no_checkpoint(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert store.checkpoint() is None and store.state() is None
    assert store.blocks.block(1) is None and store.blocks.fate(bytes(32)) is None
    store.close()


def test_checkpoints_add_up_and_survive_reopening(tmp_path: Path) -> None:
    store = Store(tmp_path)
    many = list(range(300))
    store.write(meta(1), [chunks(0, many, 1), chunks(2, [5, 70_000], 2)], {1: BlockPlace(1, 2, 3)}, {})
    fate = FatePlace(2, 7, 100, 3)
    store.write(meta(2), [chunks(0, [299, 4], 9)], {2: BlockPlace(4, 0, 6)}, {b"d" * 32: fate})
    store.close()

    again = Store(tmp_path)
    state = again.state()
    assert state is not None and state[0] == meta(2) == again.checkpoint()
    first, third = state[1]
    assert (first.table, third.table) == (0, 2) and first.chunks.tolist() == many
    expected = [9 if number in (4, 299) else 1 for number in many]
    assert first.data[:, 0].tolist() == expected == first.data[:, 1023].tolist()
    assert third.chunks.tolist() == [5, 70_000] and third.data.tolist() == [[2] * 1024] * 2
    assert (
        again.blocks.block(1) == BlockPlace(1, 2, 3)
        and again.blocks.block(2) == BlockPlace(4, 0, 6)
        and again.blocks.block(3) is None
    )
    assert again.blocks.fate(b"d" * 32) == fate and again.blocks.fate(b"e" * 32) is None
    again.close()


def test_an_interrupted_checkpoint_is_not_there_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.write(meta(1), [chunks(0, [0, 1], 1)], {}, {})
    failing = chunks(0, [0, 1], 2)

    def stops(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("lockstep.runtime.store.encode", stops)
        store.write(meta(2), [failing], {2: BlockPlace(1, 1, 1)}, {})
    state = store.state()
    assert state is not None and state[0] == meta(1) and state[1][0].data.max() == 1
    assert store.blocks.block(2) is None
    store.close()


def test_a_full_disk_is_said_clearly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lockstep.runtime.store.MAP_BYTES", 1 << 16)
    store = Store(tmp_path)
    with pytest.raises(StorageFailed, match="disk is full"):
        store.write(meta(1), [chunks(0, list(range(500)), 1)], {}, {})
    store.close()


def test_a_store_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"x" * 10_000)
    with pytest.raises(StorageFailed, match="opening the checkpoint store"):
        Store(tmp_path)


def test_a_reader_sees_one_checkpoint_while_the_next_is_written(tmp_path: Path) -> None:
    """What a snapshot export relies on: LMDB readers keep their version."""
    store = Store(tmp_path)
    store.write(meta(1), [chunks(0, [0], 1)], {}, {})
    environment = store._env
    with environment.begin(db=store._chunks) as reading:
        store.write(meta(2), [chunks(0, [0], 2)], {}, {})
        assert reading.get(b"\0" * 6) == bytes([1]) * 1024
    assert store.state()[1][0].data.max() == 2  # type: ignore[index]
    store.close()
