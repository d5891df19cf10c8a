"""An append-only, checksummed log in a folder of segment files (`segment` has the format).

What `open` guarantees: the records that it shows are exactly those written, in order, none missing between them.
An unfinished write at the end is cut off, and a note says so. It is told from damage by the marks that `sync` leaves:
an unfinished write may have left any of its sectors on the disk, also a good record behind a lost one, but no mark.
Anything else that is not as it was written raises `StorageFailed` with the file and the offset, and changes nothing.
Damage to what was written last, when the mark behind it was lost too, is the one thing that cannot be told from an
unfinished write.

What `append` and `sync` guarantee: when a write or a sync fails, the log is unusable from then on. The kernel
may have dropped the pages after a failed fsync, so trying again could report success for lost data.
"""

import errno
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from lockstep.base.errors import StorageFailed
from lockstep.base.marks import reached
from lockstep.log.files import Files
from lockstep.log.segment import (
    HEADER_BYTES,
    RECORD_BYTES_MAX,
    RECORD_HEADER_BYTES,
    SEGMENT_BYTES_MAX,
    SegmentHeader,
    decode_header,
    find_mark,
    mark,
    mark_at,
    position,
    record_at,
    record_header,
    segment_name,
    split_position,
)

_KEY_BYTES: Final = 32
_SUFFIX: Final = ".log"
Visit = Callable[[int, bytes], None]


def storage_error(doing: str, error: OSError) -> StorageFailed:
    """A failure for the operator to read."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFailed(f"the disk is full ({doing}): free some space, then start the node again")
    return StorageFailed(f"{doing} failed: {error.strerror}")


def segments_in(files: Files) -> list[int]:
    """The numbers of the segments, ascending; raises `StorageFailed` when one is missing between two others."""
    numbers = sorted(int(name.removesuffix(_SUFFIX)) for name in files.names() if name.endswith(_SUFFIX))
    for before, after in pairwise(numbers):
        if after != before + 1:
            raise StorageFailed(f"{files.where}/{segment_name(before + 1)} is missing: the log has a gap")
    return numbers


class Log:
    """The log, open for appending. Made by `open_log`."""

    def __init__(self, files: Files, segment_bytes: int = SEGMENT_BYTES_MAX) -> None:
        self.files = files
        self.notes: list[str] = []
        """What was found and put right when opening, for the operator."""
        self._segment_bytes = segment_bytes
        self._failed: str | None = None
        self._segment = 0
        self._file = -1
        self._header = SegmentHeader(1, bytes(32))
        self._offset = 0
        self._sequence = 1
        self._marked = 0

    def append(self, payloads: Sequence[bytes]) -> list[int]:
        """Write records, in order; returns their positions. Raises `StorageFailed`, then and ever after."""
        self._check()
        positions: list[int] = []
        buffers: list[bytes] = []
        for payload in payloads:
            size = RECORD_HEADER_BYTES + len(payload)
            if len(payload) > RECORD_BYTES_MAX:
                raise ValueError(f"a record has at most {RECORD_BYTES_MAX} bytes")
            if self._offset > HEADER_BYTES and self._offset + size > self._segment_bytes:
                self._write(buffers)
                buffers = []
                self._rotate()
            buffers += (record_header(self._header.key, self._sequence, payload), payload)
            positions.append(position(self._segment, self._offset))
            self._offset += size
            self._sequence += 1
        self._write(buffers)
        return positions

    def sync(self) -> None:
        """Make everything appended so far durable. Raises `StorageFailed`, then and ever after."""
        self._sync()
        if self._marked < self._sequence - 1:
            self._mark()

    def _sync(self) -> None:
        self._check()
        try:
            self.files.sync(self._file)
        except OSError as error:
            raise self._poison("making the log durable", error) from error

    def close(self) -> None:
        """Give the file back. What was not synced may be lost with the machine, not with the process."""
        if self._file >= 0:
            self.files.close(self._file)
            self._file = -1

    def continue_at(self, segment: int, header: SegmentHeader, offset: int, sequence: int, marked: int) -> None:
        """Append to an existing segment from `offset` on, cutting off what lies beyond; its last mark says `marked`.

        What was read is made durable first: the process that wrote it may have died before it could, and the node is
        about to say again what it reads there.
        """
        name = segment_name(segment)
        try:
            self._file = self.files.open(name)
            if self.files.size(self._file) != offset:
                self.files.truncate(self._file, offset)
            self.files.sync(self._file)
        except OSError as error:
            raise self._poison(f"opening {name}", error) from error
        self._segment, self._header, self._offset, self._sequence = segment, header, offset, sequence
        self._marked = max(marked, header.first_sequence - 1)
        if self._marked < sequence - 1:
            self._mark()

    def begin_segment(self, segment: int, sequence: int) -> None:
        """Start a new segment file whose first record will be `sequence`."""
        self._segment, self._sequence, self._marked = segment, sequence, sequence - 1
        self._header = SegmentHeader(sequence, self.files.random(_KEY_BYTES))
        name = segment_name(segment)
        try:
            self._file = self.files.create(name)
            self.files.append(self._file, [self._header.encode()])
            self.files.sync(self._file)
            self.files.sync_names()
        except OSError as error:
            raise self._poison(f"creating {name}", error) from error
        self._offset = HEADER_BYTES

    def _mark(self) -> None:
        """Nobody waits for it: it is there for whoever must tell damage from an unfinished write."""
        self._marked = self._sequence - 1
        self._write([mark(self._header.key, self._marked)])
        self._offset += RECORD_HEADER_BYTES

    def _rotate(self) -> None:
        """Only the last segment may end in an unfinished write, so this one is made durable before the next. It gets no
        mark: a mark is not synced, so it would be such a write; and the next segment says as much."""
        self._sync()
        self.close()
        self.begin_segment(self._segment + 1, self._sequence)

    def _write(self, buffers: list[bytes]) -> None:
        if buffers:
            try:
                self.files.append(self._file, buffers)
            except OSError as error:
                raise self._poison("writing to the log", error) from error

    def _poison(self, doing: str, error: OSError) -> StorageFailed:
        failure = storage_error(f"{doing} in {self.files.where}", error)
        reached("log: a write or sync failed")
        self._failed = str(failure)
        return failure

    def _check(self) -> None:
        if self._failed is not None:
            raise StorageFailed(self._failed)


def open_log(files: Files, start: int | None, visit: Visit, segment_bytes: int = SEGMENT_BYTES_MAX) -> Log:
    """Open the log in a folder, calling `visit(position, payload)` for each record from `start` on (None: all).
    Raises `StorageFailed`."""
    try:
        return _open(Log(files, segment_bytes), start, visit)
    except OSError as error:
        raise storage_error(f"opening the log in {files.where}", error) from error


def _open(log: Log, start: int | None, visit: Visit) -> Log:
    files = log.files
    numbers = segments_in(files)
    first, offset = (1, HEADER_BYTES) if start is None else split_position(start)
    sequence = 1 if start is None else None  # None: whatever the first record says
    if first not in numbers and (numbers or start is not None):
        raise StorageFailed(f"{files.where}/{segment_name(first)} is missing: reading the log must begin in it")
    for number in (n for n in numbers if n >= first):
        path = f"{files.where}/{segment_name(number)}"
        data = files.read(segment_name(number))
        header = decode_header(data)
        last = number == numbers[-1]
        if header is None:
            # A header is durable before the first record is written: no record can have been lost with it.
            if not last or len(data) > HEADER_BYTES or sequence is None:
                raise StorageFailed(f"{path}: the segment's header, at offset 0, is damaged")
            reached("log: a segment is begun anew")
            log.notes.append(f"{path}: the segment was never finished being created; it is begun anew")
            log.begin_segment(number, sequence)
            return log
        if sequence is not None and header.first_sequence != sequence:
            raise StorageFailed(f"{path}: begins with record {header.first_sequence}, expected {sequence}")
        end, sequence, marked = _scan(path, number, data, header, offset, sequence, visit)
        if end != len(data):
            if not last:
                raise StorageFailed(f"{path}: the record at offset {end} is damaged; later segments follow")
            reached("log: an unfinished write is cut off")
            log.notes.append(f"{path}: {len(data) - end} bytes of an unfinished write at offset {end} were cut off")
        if last:
            log.continue_at(number, header, end, sequence, marked)
            return log
        offset = HEADER_BYTES
    log.begin_segment(1, 1)
    return log


def _scan(
    path: str,
    number: int,
    data: bytes,
    header: SegmentHeader,
    offset: int,
    sequence: int | None,
    visit: Visit,
) -> tuple[int, int, int]:
    """Visit the records of one segment. Returns offset and sequence after the last good one, and the last mark's."""
    view, marked = memoryview(data), 0
    if sequence is None and record_at(view, offset, header.key) is None:
        raise StorageFailed(f"{path}: no undamaged record at offset {offset}, which the checkpoint points to")
    while True:
        record = record_at(view, offset, header.key)
        if record is None:
            found_mark = mark_at(view, offset, header.key)
            if found_mark is None:
                break
            marked = found_mark
            offset += RECORD_HEADER_BYTES
            continue
        found, payload = record
        if sequence is None:
            sequence = found
        if found != sequence:
            raise StorageFailed(f"{path}: record {found} at offset {offset}, expected record {sequence}")
        visit(position(number, offset), bytes(payload))
        offset += RECORD_HEADER_BYTES + len(payload)
        sequence += 1
    assert sequence is not None
    later = find_mark(view, offset, sequence, header.key)
    if later is not None:
        reached("log: durable bytes are damaged")
        raise StorageFailed(
            f"{path}: the record at offset {offset} is damaged; it was durable, as the mark at {later} says"
        )
    return offset, sequence, marked
