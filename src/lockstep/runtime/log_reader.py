"""Reading single records of a log that may be growing meanwhile. One reader belongs to one thread."""

import os
from collections import OrderedDict
from pathlib import Path
from typing import Final

from lockstep.base.errors import StorageFailed
from lockstep.runtime.log import storage_error
from lockstep.runtime.segment import (
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

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: OrderedDict[int, tuple[int, bytes]] = OrderedDict()

    def read(self, place: int) -> bytes:
        """The payload of the record at a position; raises `StorageFailed` when it is not what was written."""
        segment, offset = split_position(place)
        path = self.folder / segment_name(segment)
        try:
            file, key = self._segment(segment, path)
            header = os.pread(file, RECORD_HEADER_BYTES, offset)
            if len(header) == RECORD_HEADER_BYTES:
                claimed = RECORD_HEADER_BYTES + payload_length(header)
                size = min(claimed, os.fstat(file).st_size - offset)  # a damaged length must not cost memory
                record = record_at(memoryview(os.pread(file, size, offset)), 0, key)
                if record is not None:
                    return bytes(record[1])
        except OSError as error:
            raise storage_error(f"reading {path}", error) from error
        raise StorageFailed(f"{path}: the record at offset {offset} is damaged")

    def close(self) -> None:
        """Give the files back."""
        for file, _ in self._open.values():
            os.close(file)
        self._open.clear()

    def _segment(self, segment: int, path: Path) -> tuple[int, bytes]:
        if segment in self._open:
            self._open.move_to_end(segment)
            return self._open[segment]
        file = os.open(path, os.O_RDONLY)
        header = decode_header(os.pread(file, HEADER_BYTES, 0))
        if header is None:
            os.close(file)
            raise StorageFailed(f"{path}: the segment's header, at offset 0, is damaged")
        self._open[segment] = file, header.key
        if len(self._open) > _FILES_OPEN_MAX:
            oldest, _ = self._open.popitem(last=False)[1]
            os.close(oldest)
        return file, header.key
