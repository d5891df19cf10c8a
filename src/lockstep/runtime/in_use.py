"""Who reads a home's old files right now, so that pruning takes none away from under a reader.

In this process the serving thread holds `reading` from the look-up in the index to the end of its answer. Another
process that reads a home (`lockstep diff`) holds a shared lock on the home's `reading` file, and files stay meanwhile.
"""

import contextlib
import fcntl
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lockstep.runtime.block_index import Folder

READING_FILE: Final = "reading"
Forget = Callable[[Folder, int], None]


class InUse:
    """Shared by the threads of a node."""

    def __init__(self, home: Path) -> None:
        self.reading = threading.Lock()
        self.served: int | None = None
        """The lowest checkpoint that a peer is fetching from here."""
        self.release: Callable[[], None] = lambda: None
        """Have checkpoints let go that nobody fetches any more: what they hold can't be used again in the store."""
        self._file = home / READING_FILE
        self._readers: list[Forget] = []

    def tell(self, forget: Forget) -> None:
        """Before a segment is taken away, call this: an open file would keep its space."""
        self._readers.append(forget)

    def remove(self, folder: Folder, segment: int, file: Path) -> bool:
        """Take a segment away, durably, unless another process is reading; whether it was. Raises `OSError`."""
        lock = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with self.reading:
                for forget in self._readers:
                    forget(folder, segment)
                file.unlink(missing_ok=True)
            _sync_names(file.parent)  # names must go in order: a log without its middle would be a damaged one
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        return True


def _sync_names(folder: Path) -> None:
    names = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(names)
    finally:
        os.close(names)


def hold_home(home: Path, reader: object) -> None:
    """As long as `reader` lives, a node that runs in the home takes no file away. A home without the lock's file was
    never pruned, and one whose file can't be opened is not ours to hold."""
    with contextlib.suppress(OSError):
        file = os.open(home / READING_FILE, os.O_RDONLY)
        weakref.finalize(reader, os.close, file)
        fcntl.flock(file, fcntl.LOCK_SH)
