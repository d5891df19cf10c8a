"""What the log asks of a folder of files. Every operation may raise `OSError`.

Names have no folders in them. A file is appended to, cut, read and made durable; nothing is written in its middle.
"""

from collections.abc import Sequence
from typing import Protocol


class Files(Protocol):
    """One folder. Handles are small numbers that this object gave out."""

    where: str
    """The folder, for messages to the operator."""

    def names(self) -> list[str]:
        """The files that are there, in any order."""

    def read(self, name: str) -> bytes:
        """A whole file."""

    def create(self, name: str) -> int:
        """Open a new file, or an old one emptied. The name is durable after `sync_names`."""

    def open(self, name: str) -> int:
        """Open an existing file."""

    def size(self, handle: int) -> int:
        """Bytes in an open file."""

    def append(self, handle: int, buffers: Sequence[bytes]) -> None:
        """Write at the end, all of it."""

    def truncate(self, handle: int, size: int) -> None:
        """Cut off what lies beyond `size`."""

    def read_at(self, handle: int, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on."""

    def sync(self, handle: int) -> None:
        """Make the file's content and size durable."""

    def sync_names(self) -> None:
        """Make the names of created files durable."""

    def close(self, handle: int) -> None:
        """Give the handle back."""

    def random(self, count: int) -> bytes:
        """Bytes that nobody else can guess."""
