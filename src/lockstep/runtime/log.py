"""An append-only, checksummed log in a folder of segment files (`segment` has the format).

What `open` guarantees: the records that it shows are exactly those written, in order, none missing between them.
An unfinished write at the very end (the process or the machine stopped in the middle of it; nothing valid
follows) is cut off, and a note says so. Anything else that is not as it was written raises `StorageFailed` with
the file and the offset, and changes nothing. Damage to the very last record is the one thing that cannot be told
from an unfinished write.

What `append` and `sync` guarantee: when a write or a sync fails, the log is unusable from then on. The kernel
may have dropped the pages after a failed fsync, so trying again could report success for lost data.
"""

import errno
import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from lockstep.base.errors import StorageFailed
from lockstep.runtime.segment import (
    HEADER_BYTES,
    RECORD_BYTES_MAX,
    RECORD_HEADER_BYTES,
    SEGMENT_BYTES_MAX,
    SegmentHeader,
    decode_header,
    find_record,
    new_header,
    position,
    record_at,
    record_header,
    segment_name,
    split_position,
)

_BUFFERS_PER_WRITE: Final = 512
Visit = Callable[[int, bytes], None]


def storage_error(doing: str, error: OSError) -> StorageFailed:
    """A failure for the operator to read."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFailed(f"the disk is full ({doing}): free some space, then start the node again")
    return StorageFailed(f"{doing} failed: {error.strerror}")


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def segments_in(folder: Path) -> list[int]:
    """The numbers of the segments, ascending; raises `StorageFailed` when one is missing between two others."""
    numbers = sorted(int(path.stem) for path in folder.glob("*.log"))
    for before, after in pairwise(numbers):
        if after != before + 1:
            raise StorageFailed(f"{folder / segment_name(before + 1)} is missing: the log has a gap")
    return numbers


class Log:
    """The log, open for appending. Made by `open_log`."""

    def __init__(self, folder: Path, notes: list[str]) -> None:
        self.folder = folder
        self.notes = notes
        """What was found and put right when opening, for the operator."""
        self._failed: str | None = None
        self._segment = 0
        self._file = -1
        self._header = SegmentHeader(1, bytes(32))
        self._offset = 0
        self._sequence = 1

    @property
    def end(self) -> int:
        """The position where the next record will begin, unless a new segment is begun for it."""
        return position(self._segment, self._offset)

    def append(self, payloads: Sequence[bytes]) -> list[int]:
        """Write records, in order; returns their positions. Raises `StorageFailed`, then and ever after."""
        self._check()
        positions: list[int] = []
        buffers: list[bytes] = []
        for payload in payloads:
            size = RECORD_HEADER_BYTES + len(payload)
            if len(payload) > RECORD_BYTES_MAX:
                raise ValueError(f"a record has at most {RECORD_BYTES_MAX} bytes")
            if self._offset > HEADER_BYTES and self._offset + size > SEGMENT_BYTES_MAX:
                self._write(buffers)
                buffers = []
                self._rotate()
            buffers += (record_header(self._header.key, self._sequence, payload), payload)
            positions.append(self.end)
            self._offset += size
            self._sequence += 1
        self._write(buffers)
        return positions

    def sync(self) -> None:
        """Make everything appended so far durable. Raises `StorageFailed`, then and ever after."""
        self._check()
        try:
            os.fdatasync(self._file)
        except OSError as error:
            raise self._poison("making the log durable", error) from error

    def close(self) -> None:
        """Give the file back. What was not synced may be lost with the machine, not with the process."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def continue_at(self, segment: int, header: SegmentHeader, offset: int, sequence: int) -> None:
        """Append to an existing segment from `offset` on, cutting off what lies beyond."""
        path = self.folder / segment_name(segment)
        try:
            self._file = os.open(path, os.O_RDWR)
            if os.fstat(self._file).st_size != offset:
                os.ftruncate(self._file, offset)
                os.fsync(self._file)
            os.lseek(self._file, offset, os.SEEK_SET)
        except OSError as error:
            raise self._poison(f"opening {path}", error) from error
        self._segment, self._header, self._offset, self._sequence = segment, header, offset, sequence

    def begin_segment(self, segment: int, sequence: int) -> None:
        """Start a new segment file whose first record will be `sequence`."""
        self._segment, self._sequence = segment, sequence
        self._header = new_header(sequence)
        path = self.folder / segment_name(segment)
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
            self._write([self._header.encode()])
            os.fsync(self._file)
            sync_folder(self.folder)
        except OSError as error:
            raise self._poison(f"creating {path}", error) from error
        self._offset = HEADER_BYTES

    def _rotate(self) -> None:
        """Only the last segment may end in an unfinished write, so this one is made durable before the next."""
        self.sync()
        self.close()
        self.begin_segment(self._segment + 1, self._sequence)

    def _write(self, buffers: list[bytes]) -> None:
        for first in range(0, len(buffers), _BUFFERS_PER_WRITE):
            batch = buffers[first : first + _BUFFERS_PER_WRITE]
            try:
                written = os.writev(self._file, batch)
                if written < sum(map(len, batch)):
                    rest = memoryview(b"".join(batch))[written:]
                    while rest:
                        rest = rest[os.write(self._file, rest) :]
            except OSError as error:
                raise self._poison("writing to the log", error) from error

    def _poison(self, doing: str, error: OSError) -> StorageFailed:
        failure = storage_error(f"{doing} in {self.folder}", error)
        self._failed = str(failure)
        return failure

    def _check(self) -> None:
        if self._failed is not None:
            raise StorageFailed(self._failed)


def open_log(folder: Path, start: int | None, visit: Visit) -> Log:
    """Open the log in `folder` (made if absent), calling `visit(position, payload)` for each record from `start` on
    (None: all). Raises `StorageFailed`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _open(folder, start, visit)
    except OSError as error:
        raise storage_error(f"opening the log in {folder}", error) from error


def _open(folder: Path, start: int | None, visit: Visit) -> Log:
    numbers = segments_in(folder)
    log = Log(folder, [])
    first, offset = (1, HEADER_BYTES) if start is None else split_position(start)
    sequence = 1 if start is None else None  # None: whatever the first record says
    if first not in numbers and (numbers or start is not None):
        raise StorageFailed(f"{folder / segment_name(first)} is missing: reading the log must begin in it")
    for number in (n for n in numbers if n >= first):
        path = folder / segment_name(number)
        data = path.read_bytes()
        header = decode_header(data)
        last = number == numbers[-1]
        if header is None:
            # A header is durable before the first record is written: no record can have been lost with it.
            if not last or len(data) > HEADER_BYTES or sequence is None:
                raise StorageFailed(f"{path}: the segment's header, at offset 0, is damaged")
            log.notes.append(f"{path}: the segment was never finished being created; it is begun anew")
            log.begin_segment(number, sequence)
            return log
        if sequence is not None and header.first_sequence != sequence:
            raise StorageFailed(f"{path}: begins with record {header.first_sequence}, expected {sequence}")
        end, sequence = _scan(path, number, data, header, offset, sequence, visit)
        if end != len(data):
            if not last:
                raise StorageFailed(f"{path}: the record at offset {end} is damaged; later segments follow")
            log.notes.append(f"{path}: {len(data) - end} bytes of an unfinished write at offset {end} were cut off")
        if last:
            log.continue_at(number, header, end, sequence)
            return log
        offset = HEADER_BYTES
    log.begin_segment(1, 1)
    return log


def _scan(
    path: Path,
    number: int,
    data: bytes,
    header: SegmentHeader,
    offset: int,
    sequence: int | None,
    visit: Visit,
) -> tuple[int, int]:
    """Visit the records of one segment. Returns the offset and the sequence after the last good one."""
    view = memoryview(data)
    if sequence is None and record_at(view, offset, header.key) is None:
        raise StorageFailed(f"{path}: no undamaged record at offset {offset}, which the checkpoint points to")
    while (record := record_at(view, offset, header.key)) is not None:
        found, payload = record
        if sequence is None:
            sequence = found
        if found != sequence:
            raise StorageFailed(f"{path}: record {found} at offset {offset}, expected record {sequence}")
        visit(position(number, offset), bytes(payload))
        offset += RECORD_HEADER_BYTES + len(payload)
        sequence += 1
    assert sequence is not None
    later = find_record(view, offset, sequence, header.key)
    if later is not None:
        raise StorageFailed(f"{path}: the record at offset {offset} is damaged; a good one follows at {later}")
    return offset, sequence
