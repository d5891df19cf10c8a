"""`log.files.Files` on a real folder."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_BUFFERS_PER_WRITE: Final = 512


class Directory:
    """A folder, made if absent. Methods raise `OSError`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.where = str(folder)

    def names(self) -> list[str]:
        """The files that are there."""
        return [path.name for path in self._folder.iterdir()]

    def read(self, name: str) -> bytes:
        """A whole file."""
        return (self._folder / name).read_bytes()

    def create(self, name: str) -> int:
        """Open a new file, or an old one emptied."""
        return os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)

    def open(self, name: str) -> int:
        """Open an existing file."""
        return os.open(self._folder / name, os.O_RDWR | os.O_APPEND)

    def size(self, handle: int) -> int:
        """Bytes in an open file."""
        return os.fstat(handle).st_size

    def append(self, handle: int, buffers: Sequence[bytes]) -> None:
        """Write at the end, all of it."""
        for first in range(0, len(buffers), _BUFFERS_PER_WRITE):
            batch = buffers[first : first + _BUFFERS_PER_WRITE]
            written = os.writev(handle, batch)
            if written < sum(map(len, batch)):
                rest = memoryview(b"".join(batch))[written:]
                while rest:
                    rest = rest[os.write(handle, rest) :]

    def truncate(self, handle: int, size: int) -> None:
        """Cut off what lies beyond."""
        os.ftruncate(handle, size)

    def read_at(self, handle: int, offset: int, size: int) -> bytes:
        """At most `size` bytes."""
        return os.pread(handle, size, offset)

    def sync(self, handle: int) -> None:
        """Make content and size durable; not the times, which nobody needs."""
        os.fdatasync(handle)

    def sync_names(self) -> None:
        """Make the names of created files durable."""
        file = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(file)
        finally:
            os.close(file)

    def close(self, handle: int) -> None:
        """Give the handle back."""
        os.close(handle)

    def random(self, count: int) -> bytes:
        """From the kernel."""
        return os.urandom(count)
