"""The history: the EVENT rows of every final block, in a log of their own.

One record a block: height u64 little-endian, the block's digest, then its rows. Blocks after the last checkpoint are
executed again after a restart and come here again; what is there already must be the same bytes. A state that is
installed, and a rollback, write a record out of order, and then say in the store that the history goes on from there;
if that was broken off, the record is passed over.
"""

import struct
from pathlib import Path
from typing import Final

from lockstep.base.errors import InvariantBroken, StorageFailed
from lockstep.base.marks import reached
from lockstep.log.log import open_log
from lockstep.log.reader import LogReader
from lockstep.log.segment import SEGMENT_BYTES_MAX
from lockstep.runtime.directory import Directory

_HEAD: Final = struct.Struct("<Q32s")


class HistoryReader:
    """Old events, by position. One reader belongs to one thread."""

    def __init__(self, folder: Path) -> None:
        self._reader = LogReader(Directory(folder))

    def events(self, position: int, height: int) -> bytes:
        """The rows of the block at `height`; raises `StorageFailed` when its record is not there."""
        record = self._reader.read(position)
        found, _ = _HEAD.unpack_from(record)
        if found != height:
            raise StorageFailed(f"the history in {self._reader.files.where} has block {found} where {height} should be")
        return record[_HEAD.size :]

    def forget(self, segment: int) -> None:
        """This segment is about to be taken away."""
        self._reader.forget(segment)

    def close(self) -> None:
        """Give the files back."""
        self._reader.close()


class History:
    """The history, open for appending."""

    def __init__(
        self, folder: Path, start: int | None, height: int, segment_bytes: int = SEGMENT_BYTES_MAX
    ) -> None:  # fmt: skip
        """`start` is the record of the checkpoint's block, at `height` (None and 0: there is no checkpoint)."""
        self._known: dict[int, int] = {}
        self._next = 1 if start is None else height

        def visit(position: int, record: bytes) -> None:
            found, _ = _HEAD.unpack_from(record)
            if found != self._next:
                if position == start:
                    raise StorageFailed(f"the history in {folder} has block {found} where {self._next} should be")
                reached("history: a record for a checkpoint that then was not")
                return
            if found > height:
                self._known[found] = position
            self._next += 1

        self._log = open_log(Directory(folder), start, visit, segment_bytes)
        self._reader = LogReader(Directory(folder))
        self.notes = self._log.notes

    def add(self, height: int, block: bytes, events: bytes) -> int:
        """Append a final block's rows, unless they are here; returns their position.

        Raises `InvariantBroken` when the block is not the next, or is here with other rows: an execution that gave
        something else the second time.
        """
        record = _HEAD.pack(height, block) + events
        position = self._known.pop(height, None)
        if position is not None:
            if self._reader.read(position) != record:
                raise InvariantBroken(f"block {height} has other events than when it was first executed")
            if not self._known:
                self._reader.close()  # an open file would keep the space of a segment that is pruned
            return position
        if height != self._next:
            raise InvariantBroken(f"block {height} came to the history, which expected block {self._next}")
        self._next += 1
        return self._log.append([record])[0]

    def begin_again(self, height: int, block: bytes, events: bytes) -> int:
        """Write a block's rows once more, behind everything else, to go on after it; returns their position."""
        self._next = height + 1
        self._known.clear()
        return self._log.append([_HEAD.pack(height, block) + events])[0]

    def skip_to(self, height: int, block: bytes) -> int:
        """Go on after a block whose rows are not known here; returns the position of its record, which has none."""
        self._next = height + 1
        return self._log.append([_HEAD.pack(height, block)])[0]

    def sync(self) -> None:
        """Make everything added durable; raises `StorageFailed`."""
        self._log.sync()

    def close(self) -> None:
        """Give the files back."""
        self._log.close()
        self._reader.close()
