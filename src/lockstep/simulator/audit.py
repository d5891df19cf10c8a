"""A running hash over everything that happens in a run: two runs are the same if, and only if, it is."""

import struct
from typing import Final

from blake3 import blake3

_ENTRY: Final = struct.Struct("<qHHI")


class Audit:
    """One hasher for the whole run: an entry costs about a microsecond."""

    def __init__(self) -> None:
        self._hasher = blake3()

    def add(self, now_us: int, kind: int, source: int, target: int, detail: bytes = b"") -> None:
        """Note one event. `detail` is a digest of what it carries, if anything."""
        self._hasher.update(_ENTRY.pack(now_us, kind, source, target) + detail)

    def digest(self) -> bytes:
        """The hash so far, 32 bytes."""
        value: bytes = self._hasher.digest()
        return value
