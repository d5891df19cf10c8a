"""Chunks of a newer state while it is fetched: flat files at their final places, beside the checkpoint.

They mean nothing until the installation. What is here is known in memory; after a crash it is found again by hashing
the files, so no list of what was done can be wrong, and nothing need be durable, or even written, before the
installation. A chunk of zeros cannot be told from a hole then, and counts as not here.
"""

import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

import numpy as np

from lockstep.ledger.subtree import leaf_values
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.runtime.flat_writer import FlatWriter
from lockstep.sync.state_request import as_slice, runs
from lockstep.sync.state_walk import Arrived

Array = np.ndarray[Any, Any]
FLUSH_BYTES: Final = 16 * 1024 * 1024
"""After so many bytes the disk is made to take them, while more come: the end of a fetch has little to wait for."""
BEHIND_BYTES_MAX: Final = 256 * 1024 * 1024
"""So much at most waits for a disk that is slower than the peers."""
AT_ONCE: Final = 1_024
"""Chunks that are moved or hashed at a time."""
CHUNKS_MIN: Final = 1 << 20
"""Of each table, the chunks for whose chaining values there is room at once."""
_FULL: Final = 1 << 62
"""More bytes than any table has."""


class Staging:
    """The staging area of one store; in `folder`, made when the first chunk comes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: FlatWriter | None = None
        self._leaves: dict[int, Array] = {}
        self._present: dict[int, Array] = {}
        self._flushing: Future[None] | None = None
        if folder.is_dir():
            self._recover()

    def __bool__(self) -> bool:
        return bool(self._leaves)

    def numbers(self) -> dict[int, Array]:
        """Table → numbers of the chunks that are here, ascending."""
        return {table: np.flatnonzero(present) for table, present in sorted(self._present.items())}

    def present(self, table: int, chunks: int) -> Array:
        """(chunks,) bool: which chunks are here."""
        found = np.zeros(chunks, bool)
        if table in self._present:
            here = self._present[table][:chunks]
            found[: len(here)] = here
        return found

    def put(self, parts: Iterable[Arrived]) -> None:
        """Keep chunks; raises `OSError`."""
        kept = list(parts)
        self.writer.put_all([(part.table, part.numbers, part.data) for part in kept])
        for part in kept:
            self._note(part.table, part.numbers, part.leaves)
        if self.writer.cached_bytes >= FLUSH_BYTES:
            self._flush()

    def leaves(self, table: int, chunks: int) -> Array:
        """Chaining values (chunks, 8) uint32; zeros for what is not here. Where they are, if there are so many."""
        here = self._leaves.get(table, np.zeros((0, 8), np.uint32))[:chunks]
        if len(here) == chunks:
            return here
        values = np.zeros((chunks, 8), np.uint32)
        values[: len(here)] = here
        return values

    def leaves_of(self, table: int, numbers: Array) -> Array:
        """Those of chunks that are here, (k, 8) uint32."""
        return self._leaves[table][numbers]

    def read(self, table: int, first: int, count: int) -> bytes:
        """So many chunks; zeros for what is not here."""
        return self.writer.read(table, first, count)

    def parts(self, limits: Sequence[int]) -> Iterator[Arrived]:
        """Everything that is here below so many chunks of each table, so many at a time."""
        for table, values in sorted(self._leaves.items()):
            here = np.flatnonzero(self._present[table][: limits[table] if table < len(limits) else 0])
            for first in range(0, len(here), AT_ONCE):
                numbers = here[first : first + AT_ONCE]
                data = b"".join([self.read(table, begin, end - begin) for begin, end in runs(numbers)])
                rows = np.frombuffer(data, np.uint8).reshape(-1, CHUNK_BYTES)
                yield Arrived(table, numbers, rows, values[numbers])

    def clear(self) -> None:
        """Forget everything."""
        self.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    def settle(self) -> None:
        """Wait for the disk to have taken what it was given; raises `OSError` when it could not."""
        flushing, self._flushing = self._flushing, None
        if flushing is not None:
            flushing.result()

    def _flush(self) -> None:
        """Have the disk begin to take what was written; when it is far behind, wait for it."""
        if self._flushing is not None and not self._flushing.done() and self.writer.cached_bytes < BEHIND_BYTES_MAX:
            return
        self.settle()
        self.writer.cached_bytes = 0
        self._flushing = Future()
        threading.Thread(target=_run, args=(self.writer.flush, self._flushing), name="flush", daemon=True).start()

    def release(self) -> None:
        """The folder is somebody else's now, or is left for the next start."""
        if self._flushing is not None:
            self._flushing.exception()  # nobody needs to know any more
            self._flushing = None
        if self._writer is not None:
            self._writer.close()
        self._writer = None
        self._leaves, self._present = {}, {}

    @property
    def writer(self) -> FlatWriter:
        """Fills the folder."""
        if self._writer is None:
            self._writer = FlatWriter(self.folder)
        return self._writer

    def _note(self, table: int, numbers: Array, leaves: Array) -> None:
        known = self._leaves.get(table, np.zeros((0, 8), np.uint32))
        end = int(numbers.max(initial=-1)) + 1
        if end > len(known):
            size = max(end, 4 * len(known), CHUNKS_MIN)  # memory that is not used yet costs nothing
            grown, present = np.zeros((size, 8), np.uint32), np.zeros(size, bool)
            if len(known):
                grown[: len(known)], present[: len(known)] = known, self._present[table]
            self._leaves[table], self._present[table] = known, _ = grown, present
        places = as_slice(numbers)
        known[places], self._present[table][places] = leaves, True

    def _recover(self) -> None:
        """Find what a fetch that was interrupted has left. Leaves that it wrote already are written again."""
        for path in sorted(self.folder.glob("*.chunks")):
            with path.open("rb") as file:
                for first, rows in _extents(file.fileno()):
                    here = np.flatnonzero(rows.any(axis=1))
                    if len(here):
                        numbers = first + here
                        self._note(int(path.stem), numbers, leaf_values(rows[here], numbers, _FULL))


def _run(work: Callable[[], None], done: "Future[None]") -> None:
    try:
        work()
    except OSError as error:
        done.set_exception(error)
    else:
        done.set_result(None)


def _extents(file: int) -> Iterator[tuple[int, Array]]:
    """The parts of a file that are no holes: (first chunk, rows)."""
    size = os.fstat(file).st_size
    at = 0
    while at < size:
        try:
            begin = os.lseek(file, at, os.SEEK_DATA)
        except OSError:  # a hole up to the end
            return
        end = os.lseek(file, begin, os.SEEK_HOLE)
        at = begin // CHUNK_BYTES * CHUNK_BYTES
        while at < end:
            data = os.pread(file, AT_ONCE * CHUNK_BYTES, at)
            data = data.ljust(-(-len(data) // CHUNK_BYTES) * CHUNK_BYTES, b"\0")
            yield at // CHUNK_BYTES, np.frombuffer(data, np.uint8).reshape(-1, CHUNK_BYTES)
            at += len(data)
