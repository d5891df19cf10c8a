"""Filling flat files: what goes to the disk itself and what goes through the system's cache is there alike."""

import errno
import mmap
import os
import threading
from pathlib import Path
from typing import Any

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
    writer.put_all([(3, numbers[cut], aligned(rows[cut])) for cut in cuts])
    assert writer.read(3, 0, CHUNKS) == rows.tobytes()
    cached = writer.cached_bytes
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
    for rows in (old, new, old, new):
        writer.put(0, np.arange(0, 32), aligned(rows[:32]))
        writer.put(0, np.arange(28, 36), aligned(rows[28:36]))
    assert writer.read(0, 0, 36) == new[:36].tobytes()
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


def test_what_is_still_being_written_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, may_write = os.pwritev, threading.Event()

    def later(*arguments: Any) -> int:
        may_write.wait(60)
        return real(*arguments)

    monkeypatch.setattr(flat_writer.os, "pwritev", later)
    writer, rows = FlatWriter(tmp_path / "tables"), random_rows(8)
    for first in range(0, CHUNKS, CHUNKS // flat_writer.UNDER_WAY_MAX):
        numbers = np.arange(first, first + CHUNKS // flat_writer.UNDER_WAY_MAX)
        writer.put(0, numbers, aligned(rows[numbers]))  # returns, though nothing can be written yet
    assert not (tmp_path / "tables" / "0.chunks").stat().st_size
    may_write.set()
    writer.end(0, rows.nbytes)
    assert (tmp_path / "tables" / "0.chunks").read_bytes() == rows.tobytes()
    writer.close()


def test_a_disk_that_fails_behind_our_back_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "FLUSH_BYTES", 1)
    monkeypatch.setattr(staging, "BEHIND_BYTES_MAX", 1)

    def fails(self: FlatWriter) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(FlatWriter, "flush", fails)
    store = Store(tmp_path / "store")
    rows = random_rows(5)
    leaves = np.ones((CHUNKS, 8), np.uint32)
    with pytest.raises(StorageFailed, match="Input/output error"):
        for _ in range(4):  # it is told while more is put, at the latest in the installation
            store.stage([Arrived(0, np.arange(1, 1 + CHUNKS), rows, leaves)])
    store.close()
