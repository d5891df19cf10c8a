"""Reading single records of a log that may be growing meanwhile. One reader belongs to one thread."""

from collections import OrderedDict
from typing import Final

from lockstep.base.errors import StorageFailed
from lockstep.log.files import Files
from lockstep.log.log import storage_error
from lockstep.log.segment import (
    HEADER_BYTES,
    RECORD_HEADER_BYTES,
    decode_header,
    payload_length,
    record_at,
    segment_name,
    split_position,
)

_FILES_OPEN_MAX: Final = 32


class LogReader:
    """Random access to a log's records, checked as they are read."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self._open: OrderedDict[int, tuple[int, bytes]] = OrderedDict()

    def read(self, place: int) -> bytes:
        """The payload of the record at a position; raises `StorageFailed` when it is not what was written."""
        segment, offset = split_position(place)
        path = f"{self.files.where}/{segment_name(segment)}"
        try:
            file, key = self._segment(segment, path)
            header = self.files.read_at(file, offset, RECORD_HEADER_BYTES)
            if len(header) == RECORD_HEADER_BYTES:
                claimed = RECORD_HEADER_BYTES + payload_length(header)
                size = min(claimed, self.files.size(file) - offset)  # a damaged length must not cost memory
                record = record_at(memoryview(self.files.read_at(file, offset, size)), 0, key)
                if record is not None:
                    return bytes(record[1])
        except OSError as error:
            raise storage_error(f"reading {path}", error) from error
        raise StorageFailed(f"{path}: the record at offset {offset} is damaged")

    def read_begin(self, place: int, size: int) -> bytes:
        """At most the first `size` bytes of the payload at a position, unchecked: the caller knows how to. Raises
        `StorageFailed`."""
        segment, offset = split_position(place)
        path = f"{self.files.where}/{segment_name(segment)}"
        try:
            file, _ = self._segment(segment, path)
            return self.files.read_at(file, offset + RECORD_HEADER_BYTES, size)
        except OSError as error:
            raise storage_error(f"reading {path}", error) from error

    def forget(self, segment: int) -> None:
        """This segment is about to be taken away: an open file would keep its space."""
        if segment in self._open:
            self.files.close(self._open.pop(segment)[0])

    def close(self) -> None:
        """Give the files back."""
        for file, _ in self._open.values():
            self.files.close(file)
        self._open.clear()

    def _segment(self, segment: int, path: str) -> tuple[int, bytes]:
        if segment in self._open:
            self._open.move_to_end(segment)
            return self._open[segment]
        file = self.files.open(segment_name(segment))
        header = decode_header(self.files.read_at(file, 0, HEADER_BYTES))
        if header is None:
            self.files.close(file)
            raise StorageFailed(f"{path}: the segment's header, at offset 0, is damaged")
        self._open[segment] = file, header.key
        if len(self._open) > _FILES_OPEN_MAX:
            oldest, _ = self._open.popitem(last=False)[1]
            self.files.close(oldest)
        return file, header.key
