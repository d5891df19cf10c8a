"""Filling a folder of flat files (`flat_tables`), quickly: what begins and ends with a page, in memory and in the file,
goes to the disk from where it is, past the system's cache, neighbours in one go, and several such writes at a time.
What does not, and what a file system won't take so, goes through the cache.
"""

import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np

from lockstep.ledger.table import CHUNK_BYTES
from lockstep.runtime.flat_tables import LEAF_BYTES, read_at
from lockstep.sync.state_request import runs

Array = np.ndarray[Any, Any]
P = TypeVar("P")
R = TypeVar("R")
DIRECT_BYTES: Final = 4096
"""What is to be written past the system's cache begins and ends at multiples of this."""
TOGETHER_BYTES_MAX: Final = 4 * 1024 * 1024
"""Parts that are written in one go are not more than this together."""
UNDER_WAY_MAX: Final = 4
"""So many writes may go on, or wait, while more is received."""
_WRITERS: Final = 3
"""Writes under way at a time: a disk that has only one to do waits in between."""


class _Piece(NamedTuple):
    """Neighbouring chunks of a table on their way to the disk."""

    table: int
    first: int
    rows: Array
    is_aligned: bool

    @property
    def end(self) -> int:
        return self.first + len(self.rows)

    def meets(self, other: "_Piece") -> bool:
        """Whether some chunk is in both."""
        return self.table == other.table and self.first < other.end and other.first < self.end

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
    """Filling a folder. For one thread."""

    def __init__(self, folder: Path) -> None:
        """Made if absent; raises `OSError`, as the methods do."""
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._files: dict[str, int] = {}
        self._direct: dict[int, int] = {}
        """Of a table: its file, opened for writing past the system's cache; -1 where that can't be."""
        self._refused: dict[int, None] = {}
        """Tables whose file can't be written so after all."""
        self._under_way: deque[tuple[list[_Piece], Future[int]]] = deque()
        self.cached_bytes = 0
        """Of what was put, the system has yet to write so much; set to 0 by whoever has it do so."""
        self._opening = threading.Lock()
        self._writers = ThreadPoolExecutor(_WRITERS, "write")

    def put(self, table: int, numbers: Array, rows: Array) -> None:
        """Chunks, (k, 1024) uint8, in ascending order of their numbers."""
        self.put_all([(table, numbers, rows)])

    def put_all(self, parts: Sequence[tuple[int, Array, Array]]) -> None:
        """The same, several at once. The last are still being written when this returns; their errors come later."""
        pieces = [piece for table, numbers, rows in parts for piece in _pieces(table, numbers, rows)]
        for table in dict.fromkeys(piece.table for piece in pieces):
            self._open(table)
        in_order = sorted(pieces, key=lambda piece: (piece.table, piece.first))
        if any(map(self._is_being_written, pieces)) or any(one.meets(other) for one, other in pairwise(in_order)):
            self.settle()
            self.cached_bytes += sum(map(self._write, _groups(pieces)))  # what came later must be written later
            return
        for group in _groups(in_order):
            self._under_way.append((group, self._writers.submit(self._write, group)))
        self._wait(UNDER_WAY_MAX)

    def settle(self) -> None:
        """Wait for what was put to be written; raises `OSError` when it could not be."""
        self._wait(0)

    def _wait(self, writes: int) -> None:
        """Until not more than so many are under way."""
        while len(self._under_way) > writes:
            self.cached_bytes += self._under_way.popleft()[1].result()

    def _is_being_written(self, piece: _Piece) -> bool:
        return any(piece.meets(other) for group, _ in self._under_way for other in group)

    def _write(self, together: "list[_Piece]") -> int:
        """Write neighbours; how many bytes the system has yet to write."""
        written = self._write_directly(together) if together[0].is_aligned else 0
        cached = sum(piece.rows.nbytes for piece in together) - written
        for piece in together:
            data = piece.rows.reshape(-1).data
            skipped = min(written, len(data))
            written -= skipped
            _write(self._file(f"{piece.table}.chunks"), data[skipped:], piece.first * CHUNK_BYTES + skipped)
        return cached

    def _write_directly(self, together: "list[_Piece]") -> int:
        """Write neighbours to the disk itself; how many bytes went there."""
        table = together[0].table
        if self._direct[table] < 0 or table in self._refused:
            return 0
        try:
            views = [piece.rows.reshape(-1).data for piece in together]
            return os.pwritev(self._direct[table], views, together[0].first * CHUNK_BYTES)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._refused[table] = None
            return 0

    def put_leaves(self, table: int, first: int, values: Array) -> None:
        """Chaining values of neighbouring chunks of a table. From any thread."""
        _write(self._file(f"{table}.leaves"), values.reshape(-1).view(np.uint8).data, first * LEAF_BYTES)

    def side_by_side(self, work: Callable[[P], R], pieces: Iterable[P]) -> list[R]:
        """Do this for each piece, a few at a time; the results in order."""
        return list(self._writers.map(work, pieces))

    def end(self, table: int, used: int) -> None:
        """Make a table's file as long as so many used bytes need, with zeros beyond them."""
        self.settle()
        file = self._file(f"{table}.chunks")
        os.ftruncate(file, used)
        os.ftruncate(file, -(-used // CHUNK_BYTES) * CHUNK_BYTES)

    def read(self, table: int, first: int, count: int) -> bytes:
        """So many chunks of those that were put, zeros for others."""
        self.settle()
        data = read_at(self._file(f"{table}.chunks"), first * CHUNK_BYTES, count * CHUNK_BYTES)
        return data.ljust(count * CHUNK_BYTES, b"\0")

    def sync(self) -> None:
        """Make what was written durable, and the files' names."""
        self.settle()
        self._flush()
        for folder in (self._folder, self._folder.parent):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def flush(self) -> None:
        """Have the disk take what was written so far. From any thread, while nothing is closed."""
        self._flush()

    def _flush(self) -> None:
        self.side_by_side(os.fdatasync, list(self._files.values()))

    def close(self) -> None:
        """Give the files back."""
        self._writers.shutdown()
        for file in (*self._files.values(), *(file for file in self._direct.values() if file >= 0)):
            os.close(file)
        self._files.clear()
        self._direct.clear()

    def _open(self, table: int) -> None:
        """Open a table's file both ways."""
        self._file(f"{table}.chunks")
        if table not in self._direct:
            try:
                self._direct[table] = os.open(self._folder / f"{table}.chunks", os.O_WRONLY | os.O_DIRECT)
            except OSError:  # not on this file system
                self._direct[table] = -1

    def _file(self, name: str) -> int:
        with self._opening:
            if name not in self._files:
                self._files[name] = os.open(self._folder / name, os.O_RDWR | os.O_CREAT, 0o644)
            return self._files[name]


def _write(file: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written


def _groups(pieces: list[_Piece]) -> list[list[_Piece]]:
    """Neighbours that can be written together."""
    groups: list[list[_Piece]] = []
    for piece in pieces:
        size = sum(other.rows.nbytes for other in groups[-1]) if groups else 0
        if groups and size + piece.rows.nbytes <= TOGETHER_BYTES_MAX and groups[-1][-1].leads_to(piece):
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups
