"""Tables in flat files, in a folder of their own: what a fetch fills as it comes, and what lies under a checkpoint.

    3.chunks     chunk n of table 3 at byte 1024 n; one that was never written is a hole, which reads as zeros
    3.leaves     its chaining value at byte 32 n; written last

A folder is filled once. From the moment that a checkpoint refers to it, it does not change any more, so whoever has it
open may read while it is replaced.
"""

import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from lockstep.ledger.table import CHUNK_BYTES

Array = np.ndarray[Any, Any]
LEAF_BYTES: Final = 32


class Base(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The flat files that lie under a checkpoint."""

    name: str
    """Of their folder."""
    chunks: tuple[int, ...]
    """How many of each table's chunks still count."""


class OpenFile:
    """A file that is open for reading as long as anybody holds this."""

    def __init__(self, path: Path) -> None:
        self.handle = -1
        self.handle = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if self.handle >= 0:
            os.close(self.handle)


class Span(NamedTuple):
    """Some bytes of a file."""

    file: OpenFile
    offset: int
    size: int


class FlatTables:
    """Reading a folder, each table up to a number of chunks; what lies beyond is as if it were not there."""

    def __init__(self, folder: Path, chunks: Sequence[int]) -> None:
        """Opens all files at once, so that the folder may be removed meanwhile; raises `OSError`."""
        self.limits = list(chunks)
        tables = [table for table, count in enumerate(chunks) if count]
        self._files = {table: OpenFile(folder / f"{table}.chunks") for table in tables}
        self._leaves = {table: OpenFile(folder / f"{table}.leaves") for table in tables}

    def chunks(self, table: int) -> int:
        """How many chunks of a table are here."""
        return self.limits[table] if table < len(self.limits) else 0

    def cut(self, table: int, chunks: int) -> None:
        """From now on, not more than these."""
        if table < len(self.limits):
            self.limits[table] = min(self.limits[table], chunks)

    def read(self, table: int, first: int, count: int) -> bytes:
        """So many chunks; zeros beyond those that are here."""
        size = (min(first + count, self.chunks(table)) - first) * CHUNK_BYTES
        data = read_at(self._files[table].handle, first * CHUNK_BYTES, size) if size > 0 else b""
        return data if len(data) == count * CHUNK_BYTES else data.ljust(count * CHUNK_BYTES, b"\0")

    def span(self, table: int, first: int, count: int) -> Span | None:
        """Where so many chunks are; None when not all of them are here."""
        if first + count > self.chunks(table):
            return None
        return Span(self._files[table], first * CHUNK_BYTES, count * CHUNK_BYTES)

    def leaves(self, table: int, first: int, count: int) -> Array:
        """Chaining values (count, 8) uint32, writeable; zeros beyond those that are here."""
        values = np.zeros((count, LEAF_BYTES // 4), np.uint32)
        here = min(first + count, self.chunks(table)) - first
        if here > 0:
            leaves = values[:here].reshape(-1).view(np.uint8).data
            _read_into(leaves, self._leaves[table].handle, first * LEAF_BYTES)
        return values

    def rows(self, table: int) -> Array:
        """All chunks of a table that are here, (n, 1024) uint8: a view of the file, read when it is looked at."""
        view = mmap.mmap(self._files[table].handle, self.chunks(table) * CHUNK_BYTES, access=mmap.ACCESS_READ)
        return np.frombuffer(view, np.uint8).reshape(-1, CHUNK_BYTES)

    def close(self) -> None:
        """Give the files back, but for those that somebody has a span of."""
        self._files.clear()
        self._leaves.clear()


def read_at(file: int, offset: int, size: int) -> bytes:
    """So many bytes, fewer at the end of the file only."""
    data = os.pread(file, size, offset)
    while 0 < len(data) < size and (more := os.pread(file, size - len(data), offset + len(data))):
        data += more
    return data


def _read_into(buffer: memoryview, file: int, offset: int) -> None:
    """Fill the buffer, as far as the file goes."""
    while buffer and (count := os.preadv(file, [buffer], offset)):
        buffer, offset = buffer[count:], offset + count
