"""The log: what was written comes back exactly, or the damage is named."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.base.errors import StorageFailed
from lockstep.log.log import Log, open_log
from lockstep.log.reader import LogReader
from lockstep.log.segment import (
    HEADER_BYTES,
    RECORD_HEADER_BYTES,
    SEGMENT_BYTES_MAX,
    decode_header,
    mark,
    position,
    segment_name,
)
from lockstep.runtime.directory import Directory

payload_lists = st.lists(st.binary(max_size=300), min_size=1, max_size=12)


SMALL = 1_000
"""Bytes of a segment, where a test wants several."""


def reopen(folder: Path, start: int | None = None, segment_bytes: int = SEGMENT_BYTES_MAX) -> tuple[Log, list[bytes]]:
    seen: list[bytes] = []
    log = open_log(Directory(folder), start, lambda _, payload: seen.append(payload), segment_bytes)
    return log, seen


def written(
    folder: Path, payloads: list[bytes], segment_bytes: int = SEGMENT_BYTES_MAX, synced: bool = True
) -> list[int]:
    log, _ = reopen(folder, None, segment_bytes)
    positions = log.append(payloads)
    if synced:
        log.sync()
    log.close()
    return positions


def test_records_come_back_in_order_and_appending_goes_on(tmp_path: Path) -> None:
    written(tmp_path, [b"one", b"", b"three"])
    log, seen = reopen(tmp_path)
    assert seen == [b"one", b"", b"three"] and log.notes == []
    log.append([b"four"])
    log.close()
    assert reopen(tmp_path)[1] == [b"one", b"", b"three", b"four"]


def test_rotation_keeps_order_and_positions_ascend(tmp_path: Path) -> None:
    payloads = [bytes([i]) * 150 for i in range(40)]
    positions = written(tmp_path, payloads, SMALL)
    assert len(list(tmp_path.glob("*.log"))) > 3
    assert positions == sorted(set(positions))
    reader = LogReader(Directory(tmp_path))
    assert [reader.read(place) for place in positions] == payloads
    reader.close()
    for place in (positions[0], positions[7], positions[-1]):
        assert reopen(tmp_path, place)[1] == payloads[positions.index(place) :]


def test_a_record_larger_than_a_segment_has_one_to_itself(tmp_path: Path) -> None:
    payloads = [b"a", b"b" * 5_000, b"c"]
    written(tmp_path, payloads, SMALL)
    assert reopen(tmp_path)[1] == payloads
    assert len(list(tmp_path.glob("*.log"))) == 3


@given(payloads=payload_lists, cut=st.integers(0, 10_000))
@settings(max_examples=150, deadline=None)
def test_a_truncated_log_gives_an_exact_prefix_and_says_so(payloads: list[bytes], cut: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        positions = written(folder, payloads, synced=False)
        file = folder / segment_name(1)
        size = file.stat().st_size
        cut = cut % size
        os.truncate(file, cut)
        whole = sum(1 for place in [*positions[1:], position(1, size)] if (place & 0xFFFF_FFFF) <= cut)
        log, seen = reopen(folder)
        assert seen == payloads[:whole]
        clean = cut in [place & 0xFFFF_FFFF for place in positions]
        assert bool(log.notes) == (not clean)
        log.append([b"after"])
        log.close()
        assert reopen(folder)[1] == [*payloads[:whole], b"after"]


@given(payloads=payload_lists, bit=st.integers(0, 1 << 30))
@settings(max_examples=200, deadline=None)
def test_a_flipped_bit_in_what_was_synced_is_named(payloads: list[bytes], bit: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written(folder, payloads)
        file = folder / segment_name(1)
        data = bytearray(file.read_bytes())
        bit = bit % (8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        file.write_bytes(data)
        if bit // 8 < len(data) - RECORD_HEADER_BYTES:
            with pytest.raises(StorageFailed, match="offset"):
                reopen(folder)
            assert file.read_bytes() == bytes(data), "a refused log must be left as it is"
            return
        log, seen = reopen(folder)  # the mark behind the last record
        assert seen == payloads and len(log.notes) == 1


@given(payloads=payload_lists, more=payload_lists, bit=st.integers(0, 1 << 30))
@settings(max_examples=200, deadline=None)
def test_a_flipped_bit_behind_the_last_mark_cuts_off_an_unfinished_write(
    payloads: list[bytes], more: list[bytes], bit: int
) -> None:
    """Any sectors of a write that was not synced may be there, or not: a good record may follow a lost one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written(folder, payloads)
        positions = written(folder, more, synced=False)
        file = folder / segment_name(1)
        data = bytearray(file.read_bytes())
        start = positions[0] & 0xFFFF_FFFF
        place = start + bit // 8 % (len(data) - start)
        data[place] ^= 1 << bit % 8
        file.write_bytes(data)
        whole = sum(1 for position in positions if (position & 0xFFFF_FFFF) <= place) - 1
        log, seen = reopen(folder)
        assert seen == payloads + more[:whole] and "cut off" in log.notes[0]
        log.append([b"after"])
        log.close()
        assert reopen(folder)[1] == [*payloads, *more[:whole], b"after"]


def test_opening_makes_durable_what_it_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that wrote it may have died before its sync; the node is about to say those votes again."""
    written(tmp_path, [b"a vote"], synced=False)
    synced: list[int] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda file: (synced.append(file), real(file))[1])
    reopen(tmp_path)
    assert len(synced) == 1


@given(payloads=payload_lists, garbage=st.binary(min_size=1, max_size=200))
@settings(max_examples=60, deadline=None)
def test_garbage_or_zeros_at_the_end_are_cut_off(payloads: list[bytes], garbage: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written(folder, payloads)
        with (folder / segment_name(1)).open("ab") as file:
            file.write(bytes(len(garbage)) if garbage[0] & 1 else garbage)
        log, seen = reopen(folder)
        assert seen == payloads and "cut off" in log.notes[0]


@pytest.mark.parametrize("knows_the_key", [False, True])
def test_a_planted_mark_is_not_taken_for_a_real_one(tmp_path: Path, knows_the_key: bool) -> None:
    """A client knows the format and can guess the sequence, but not the segment's key."""
    log, _ = reopen(tmp_path)
    header = decode_header((tmp_path / segment_name(1)).read_bytes())
    assert header is not None
    fake = mark(header.key if knows_the_key else bytes(32), 3)
    positions = log.append([b"one", b"x" * 50 + fake + b"y" * 50])
    log.close()
    os.truncate(tmp_path / segment_name(1), (positions[1] & 0xFFFF_FFFF) + 100)
    if knows_the_key:
        with pytest.raises(StorageFailed, match="it was durable"):
            reopen(tmp_path)
        return
    log, seen = reopen(tmp_path)
    assert seen == [b"one"] and len(log.notes) == 1


def test_damage_before_later_segments_is_refused(tmp_path: Path) -> None:
    written(tmp_path, [bytes(200)] * 10, SMALL)
    first = tmp_path / segment_name(1)
    os.truncate(first, first.stat().st_size - 1)
    with pytest.raises(StorageFailed, match=r"00000001\.log.*later segments"):
        reopen(tmp_path)


def test_a_missing_segment_is_refused(tmp_path: Path) -> None:
    positions = written(tmp_path, [bytes(200)] * 16, SMALL)
    shutil.copytree(tmp_path, tmp_path / "copy")
    (tmp_path / segment_name(2)).unlink()
    with pytest.raises(StorageFailed, match=r"00000002\.log is missing"):
        reopen(tmp_path)
    copy = tmp_path / "copy"
    (copy / segment_name(1)).unlink()
    with pytest.raises(StorageFailed, match=r"00000001\.log is missing"):
        reopen(copy)
    assert len(reopen(copy, positions[-1])[1]) == 1


def test_segments_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    written(tmp_path, [bytes(200)] * 16, SMALL)
    (tmp_path / segment_name(3)).replace(tmp_path / segment_name(2))
    (tmp_path / segment_name(4)).replace(tmp_path / segment_name(3))
    with pytest.raises(StorageFailed, match="expected"):
        reopen(tmp_path)


def test_a_segment_whose_creation_was_interrupted_is_begun_anew(tmp_path: Path) -> None:
    written(tmp_path, [bytes(200)] * 4, SMALL)
    (tmp_path / segment_name(2)).write_bytes(bytes(HEADER_BYTES - 1))
    log, seen = reopen(tmp_path)
    assert len(seen) == 4 and "begun anew" in log.notes[0]
    log.append([b"five"])
    log.close()
    assert reopen(tmp_path)[1][-1] == b"five"


def test_a_start_that_is_no_record_is_refused(tmp_path: Path) -> None:
    positions = written(tmp_path, [b"one", b"two"])
    for place in (positions[1] + 1, position(1, 1 << 20), position(2, HEADER_BYTES)):
        with pytest.raises(StorageFailed):
            reopen(tmp_path, place)


def test_a_failed_sync_poisons_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsyncgate: after a failed fsync the kernel may have dropped the pages, and the next one reports success."""
    log, _ = reopen(tmp_path)
    log.append([b"one"])

    def failing(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing)
        with pytest.raises(StorageFailed, match="Input/output error"):
            log.sync()
    with pytest.raises(StorageFailed, match="Input/output error"):
        log.sync()
    with pytest.raises(StorageFailed, match="Input/output error"):
        log.append([b"two"])
    log.close()


def test_a_full_disk_is_said_clearly_and_the_torn_record_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = reopen(tmp_path)
    log.append([b"one"])
    real = os.writev

    def half(file: int, buffers: list[bytes]) -> int:
        real(file, [b"".join(buffers)[:10]])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "writev", half)
    with pytest.raises(StorageFailed, match="disk is full"):
        log.append([b"two"])
    monkeypatch.undo()
    with pytest.raises(StorageFailed, match="disk is full"):
        log.append([b"three"])
    log.close()
    again, seen = reopen(tmp_path)
    assert seen == [b"one"] and len(again.notes) == 1


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = reopen(tmp_path)
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda file, buffers: real(file, [b"".join(buffers)[:7]]))
    log.append([b"one" * 100, b"two"])
    log.close()
    monkeypatch.undo()
    assert reopen(tmp_path)[1] == [b"one" * 100, b"two"]


def test_reading_a_damaged_record_is_refused(tmp_path: Path) -> None:
    positions = written(tmp_path, [b"one", b"two"])
    with (tmp_path / segment_name(1)).open("r+b") as file:
        file.seek((positions[0] & 0xFFFF_FFFF) + 20)
        file.write(b"X")
    reader = LogReader(Directory(tmp_path))
    assert reader.read(positions[1]) == b"two"
    with pytest.raises(StorageFailed, match="damaged"):
        reader.read(positions[0])
    reader.close()
