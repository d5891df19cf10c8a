"""A running hash over everything that happens in a run: two runs are the same if, and only if, it is."""

import struct
from typing import Final

from blake3 import blake3

_ENTRY: Final = struct.Struct("<qHHI")
_GATHERED_BYTES: Final = 1 << 16
"""Hashed at a time: a call of the hasher costs more than the entry."""


class Audit:
    """One hasher for the whole run."""

    def __init__(self) -> None:
        self._hasher = blake3()
        self._gathered = bytearray()

    def add(self, now_us: int, kind: int, source: int, target: int, detail: bytes = b"") -> None:
        """Note one event. `detail` is a digest of what it carries, if anything."""
        gathered = self._gathered
        gathered += _ENTRY.pack(now_us, kind, source, target) + detail
        if len(gathered) >= _GATHERED_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._hasher.update(self._gathered)
        self._gathered = bytearray()

    def digest(self) -> bytes:
        """The hash so far, 32 bytes."""
        self._flush()
        value: bytes = self._hasher.digest()
        return value
