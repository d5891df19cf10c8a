"""Filling flat files: what goes to the disk itself and what goes through the system's cache is there alike."""

import errno
import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from lockstep.base.errors import StorageFailed
from lockstep.runtime import flat_writer, staging
from lockstep.runtime.flat_writer import FlatWriter
from lockstep.runtime.store import Store
from lockstep.sync.state_walk import Arrived

CHUNKS = 64


def aligned(rows: np.ndarray) -> np.ndarray:
    """A copy that begins with a page."""
    copy = np.frombuffer(mmap.mmap(-1, rows.nbytes), np.uint8).reshape(rows.shape)
    copy[:] = rows
    return copy


def random_rows(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (CHUNKS, 1024), dtype=np.uint8)


def check_put(folder: Path, rows: np.ndarray) -> int:
    """Put four parts in the wrong order, one of them not at a page; returns what the system has yet to write."""
    writer = FlatWriter(folder)
    numbers = np.arange(CHUNKS)
    cuts = [slice(32, 48), slice(0, 32), slice(49, 64), slice(48, 49)]
    cached = writer.put_all([(3, numbers[cut], aligned(rows[cut])) for cut in cuts])
    assert writer.read(3, 0, CHUNKS) == rows.tobytes()
    writer.put(3, numbers[5:7], rows[::-1][5:7])
    assert writer.read(3, 5, 2) == rows[::-1][5:7].tobytes()
    writer.sync()
    writer.close()
    assert (folder / "3.chunks").stat().st_size == rows.nbytes
    return cached


def test_what_is_put_is_there(tmp_path: Path) -> None:
    assert check_put(tmp_path / "tables", random_rows(1)) >= 16 * 1024


def test_what_comes_later_counts(tmp_path: Path) -> None:
    old, new = random_rows(6), random_rows(7)
    writer = FlatWriter(tmp_path / "tables")
    writer.put_all([(0, np.arange(8, 16), aligned(old[8:16])), (0, np.arange(0, 32), aligned(new[:32]))])
    assert writer.read(0, 0, 32) == new[:32].tobytes()
    writer.close()


def test_where_the_disk_itself_cannot_be_written_it_goes_through_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuses(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "not here")
        return real(path, flags, mode)

    monkeypatch.setattr(flat_writer.os, "open", refuses)
    assert check_put(tmp_path / "tables", random_rows(2)) == CHUNKS * 1024


@pytest.mark.parametrize("outcome", ["refused", "short"])
def test_what_the_disk_did_not_take_goes_through_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    def writes(file: int, views: list[memoryview], offset: int) -> int:
        if outcome == "refused":
            raise OSError(errno.EINVAL, "not so")
        return 0

    monkeypatch.setattr(flat_writer.os, "pwritev", writes)
    assert check_put(tmp_path / "tables", random_rows(3)) == CHUNKS * 1024


def test_a_full_disk_is_no_other_way_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(flat_writer.os, "pwritev", full)
    with pytest.raises(OSError, match="No space left"):
        check_put(tmp_path / "tables", random_rows(4))


def test_a_disk_that_fails_behind_our_back_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "FLUSH_BYTES", 1)

    def fails(self: FlatWriter) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(FlatWriter, "flush", fails)
    store = Store(tmp_path / "store")
    rows = random_rows(5)
    leaves = np.ones((CHUNKS, 8), np.uint32)
    store.stage([Arrived(0, np.arange(1, 1 + CHUNKS), rows, leaves)])
    with pytest.raises(StorageFailed, match="Input/output error"):
        store.stage([Arrived(0, np.arange(1, 1 + CHUNKS), rows, leaves)])
    store.close()
