"""The log: what was written comes back exactly, or the damage is named."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.base.errors import StorageFailed
from lockstep.runtime import log as log_module
from lockstep.runtime.log import Log, open_log
from lockstep.runtime.log_reader import LogReader
from lockstep.runtime.segment import HEADER_BYTES, decode_header, position, record_header, segment_name

payload_lists = st.lists(st.binary(max_size=300), min_size=1, max_size=12)


def reopen(folder: Path, start: int | None = None) -> tuple[Log, list[bytes]]:
    seen: list[bytes] = []
    log = open_log(folder, start, lambda _, payload: seen.append(payload))
    return log, seen


def written(folder: Path, payloads: list[bytes]) -> list[int]:
    log, _ = reopen(folder)
    positions = log.append(payloads)
    log.sync()
    log.close()
    return positions


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "SEGMENT_BYTES_MAX", 1_000)


def test_records_come_back_in_order_and_appending_goes_on(tmp_path: Path) -> None:
    written(tmp_path, [b"one", b"", b"three"])
    log, seen = reopen(tmp_path)
    assert seen == [b"one", b"", b"three"] and log.notes == []
    log.append([b"four"])
    log.close()
    assert reopen(tmp_path)[1] == [b"one", b"", b"three", b"four"]


def test_rotation_keeps_order_and_positions_ascend(tmp_path: Path, small_segments: None) -> None:
    payloads = [bytes([i]) * 150 for i in range(40)]
    positions = written(tmp_path, payloads)
    assert len(list(tmp_path.glob("*.log"))) > 3
    assert positions == sorted(set(positions))
    reader = LogReader(tmp_path)
    assert [reader.read(place) for place in positions] == payloads
    reader.close()
    for place in (positions[0], positions[7], positions[-1]):
        assert reopen(tmp_path, place)[1] == payloads[positions.index(place) :]


def test_a_record_larger_than_a_segment_has_one_to_itself(tmp_path: Path, small_segments: None) -> None:
    payloads = [b"a", b"b" * 5_000, b"c"]
    written(tmp_path, payloads)
    assert reopen(tmp_path)[1] == payloads
    assert len(list(tmp_path.glob("*.log"))) == 3


@given(payloads=payload_lists, cut=st.integers(0, 10_000))
@settings(max_examples=150, deadline=None)
def test_a_truncated_log_gives_an_exact_prefix_and_says_so(payloads: list[bytes], cut: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        positions = written(folder, payloads)
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
def test_a_flipped_bit_is_named_or_cuts_off_only_the_last_record(payloads: list[bytes], bit: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        positions = written(folder, payloads)
        file = folder / segment_name(1)
        data = bytearray(file.read_bytes())
        bit = bit % (8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        file.write_bytes(data)
        in_last = bit // 8 >= positions[-1] & 0xFFFF_FFFF
        if not in_last:
            with pytest.raises(StorageFailed, match="offset"):
                reopen(folder)
            assert file.read_bytes() == bytes(data), "a refused log must be left as it is"
            return
        log, seen = reopen(folder)
        assert seen == payloads[:-1] and len(log.notes) == 1


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
def test_a_planted_record_is_not_taken_for_one_that_follows_damage(tmp_path: Path, knows_the_key: bool) -> None:
    """A client knows the format and can guess the sequence, but not the segment's key."""
    log, _ = reopen(tmp_path)
    key = decode_header((tmp_path / segment_name(1)).read_bytes())
    assert key is not None
    fake = record_header(key.key if knows_the_key else bytes(32), 3, b"planted") + b"planted"
    positions = log.append([b"one", b"x" * 50 + fake + b"y" * 50])
    log.close()
    os.truncate(tmp_path / segment_name(1), (positions[1] & 0xFFFF_FFFF) + 120)
    if knows_the_key:
        with pytest.raises(StorageFailed, match="a good one follows"):
            reopen(tmp_path)
        return
    log, seen = reopen(tmp_path)
    assert seen == [b"one"] and len(log.notes) == 1


def test_damage_before_later_segments_is_refused(tmp_path: Path, small_segments: None) -> None:
    written(tmp_path, [bytes(200)] * 10)
    first = tmp_path / segment_name(1)
    os.truncate(first, first.stat().st_size - 1)
    with pytest.raises(StorageFailed, match=r"00000001\.log.*later segments"):
        reopen(tmp_path)


def test_a_missing_segment_is_refused(tmp_path: Path, small_segments: None) -> None:
    positions = written(tmp_path, [bytes(200)] * 16)
    shutil.copytree(tmp_path, tmp_path / "copy")
    (tmp_path / segment_name(2)).unlink()
    with pytest.raises(StorageFailed, match=r"00000002\.log is missing"):
        reopen(tmp_path)
    copy = tmp_path / "copy"
    (copy / segment_name(1)).unlink()
    with pytest.raises(StorageFailed, match=r"00000001\.log is missing"):
        reopen(copy)
    assert len(reopen(copy, positions[-1])[1]) == 1


def test_segments_that_do_not_belong_together_are_refused(tmp_path: Path, small_segments: None) -> None:
    written(tmp_path, [bytes(200)] * 16)
    (tmp_path / segment_name(3)).replace(tmp_path / segment_name(2))
    (tmp_path / segment_name(4)).replace(tmp_path / segment_name(3))
    with pytest.raises(StorageFailed, match="expected 5"):
        reopen(tmp_path)


def test_a_segment_whose_creation_was_interrupted_is_begun_anew(tmp_path: Path, small_segments: None) -> None:
    written(tmp_path, [bytes(200)] * 4)
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
    reader = LogReader(tmp_path)
    assert reader.read(positions[1]) == b"two"
    with pytest.raises(StorageFailed, match="damaged"):
        reader.read(positions[0])
    reader.close()
