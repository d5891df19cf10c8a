"""Tables in flat files, in a folder of their own: what a fetch fills as it comes, and what lies under a checkpoint.

    3.chunks     chunk n of table 3 at byte 1024 n; one that was never written is a hole, which reads as zeros
    3.leaves     its chaining value at byte 32 n; written last

A folder is filled once. From the moment that a checkpoint refers to it, it does not change any more, so whoever has it
open may read while it is replaced.
"""

import errno
import mmap
import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from lockstep.ledger.table import CHUNK_BYTES
from lockstep.sync.state_request import runs

Array = np.ndarray[Any, Any]
LEAF_BYTES: Final = 32
DIRECT_BYTES: Final = 4096
"""What is to be written past the system's cache begins and ends at multiples of this, in memory and in the file."""
TOGETHER_MAX: Final = 8
"""Parts that are written in one go."""


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
        data = _read(self._files[table].handle, first * CHUNK_BYTES, size) if size > 0 else b""
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


def _read(file: int, offset: int, size: int) -> bytes:
    """So many bytes, fewer at the end of the file only."""
    data = os.pread(file, size, offset)
    while 0 < len(data) < size and (more := os.pread(file, size - len(data), offset + len(data))):
        data += more
    return data


def _read_into(buffer: memoryview, file: int, offset: int) -> None:
    """Fill the buffer, as far as the file goes."""
    while buffer and (count := os.preadv(file, [buffer], offset)):
        buffer, offset = buffer[count:], offset + count


class _Piece(NamedTuple):
    """Neighbouring chunks of a table on their way to the disk."""

    table: int
    first: int
    rows: Array
    is_aligned: bool

    @property
    def end(self) -> int:
        return self.first + len(self.rows)

    def leads_to(self, other: "_Piece") -> bool:
        """Whether the other can be written with this one."""
        return (self.table, self.end, self.is_aligned) == (other.table, other.first, other.is_aligned)


def _pieces(table: int, numbers: Array, rows: Array) -> Iterator[_Piece]:
    at = 0
    for first, end in runs(numbers):
        part = np.ascontiguousarray(rows[at : at + end - first])
        at += end - first
        yield _Piece(table, first, part, (part.ctypes.data | part.nbytes | first * CHUNK_BYTES) % DIRECT_BYTES == 0)


class FlatWriter:
    """Filling a folder."""

    def __init__(self, folder: Path) -> None:
        """Made if absent; raises `OSError`, as the methods do."""
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._files: dict[str, int] = {}
        self._direct: dict[int, int] = {}
        """Of a table: its file, opened for writing past the system's cache; -1 where that can't be."""

    def put(self, table: int, numbers: Array, rows: Array) -> None:
        """Chunks, (k, 1024) uint8, in ascending order of their numbers."""
        self.put_all([(table, numbers, rows)])

    def put_all(self, parts: Sequence[tuple[int, Array, Array]]) -> int:
        """The same, several at once: neighbours are written together. Returns how many bytes the system has yet to
        write: what is aligned went to the disk itself."""
        pieces = [piece for table, numbers, rows in parts for piece in _pieces(table, numbers, rows)]
        sorted_pieces = sorted(pieces, key=lambda piece: (piece.table, piece.first))
        if all(one.end <= other.first for one, other in pairwise(sorted_pieces) if one.table == other.table):
            pieces = sorted_pieces  # else what came later must be written later
        cached, at = 0, 0
        while at < len(pieces):
            together = [pieces[at]]
            while at + len(together) < len(pieces) and len(together) < TOGETHER_MAX:
                following = pieces[at + len(together)]
                if not together[-1].leads_to(following):
                    break
                together.append(following)
            at += len(together)
            written = self._write_directly(together) if together[0].is_aligned else 0
            cached += sum(piece.rows.nbytes for piece in together) - written
            for piece in together:
                data = piece.rows.reshape(-1).data
                skipped = min(written, len(data))
                written -= skipped
                _write(self._file(f"{piece.table}.chunks"), data[skipped:], piece.first * CHUNK_BYTES + skipped)
        return cached

    def _write_directly(self, together: "list[_Piece]") -> int:
        """Write neighbours to the disk itself; how many bytes went there."""
        table = together[0].table
        file = self._direct_file(table)
        if file < 0:
            return 0
        try:
            views = [piece.rows.reshape(-1).data for piece in together]
            return os.pwritev(file, views, together[0].first * CHUNK_BYTES)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            os.close(file)
            self._direct[table] = -1
            return 0

    def put_leaves(self, table: int, values: Array) -> None:
        """All chaining values of a table, from the first on."""
        _write(self._file(f"{table}.leaves"), values.reshape(-1).view(np.uint8).data, 0)

    def end(self, table: int, used: int) -> None:
        """Make a table's file as long as so many used bytes need, with zeros beyond them."""
        file = self._file(f"{table}.chunks")
        os.ftruncate(file, used)
        os.ftruncate(file, -(-used // CHUNK_BYTES) * CHUNK_BYTES)

    def read(self, table: int, first: int, count: int) -> bytes:
        """So many chunks of those that were put, zeros for others."""
        data = _read(self._file(f"{table}.chunks"), first * CHUNK_BYTES, count * CHUNK_BYTES)
        return data.ljust(count * CHUNK_BYTES, b"\0")

    def sync(self) -> None:
        """Make what was written durable, and the files' names."""
        for file in self._files.values():
            os.fdatasync(file)
        for folder in (self._folder, self._folder.parent):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def flush(self) -> None:
        """Have the disk take what was written so far. From any thread, while nothing is closed."""
        for file in list(self._files.values()):
            os.fdatasync(file)

    def close(self) -> None:
        """Give the files back."""
        for file in (*self._files.values(), *(file for file in self._direct.values() if file >= 0)):
            os.close(file)
        self._files.clear()
        self._direct.clear()

    def _direct_file(self, table: int) -> int:
        if table not in self._direct:
            self._file(f"{table}.chunks")
            try:
                self._direct[table] = os.open(self._folder / f"{table}.chunks", os.O_WRONLY | os.O_DIRECT)
            except OSError:  # not on this file system
                self._direct[table] = -1
        return self._direct[table]

    def _file(self, name: str) -> int:
        if name not in self._files:
            self._files[name] = os.open(self._folder / name, os.O_RDWR | os.O_CREAT, 0o644)
        return self._files[name]


def _write(file: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written
