"""BLAKE3 digests. A digest is 32 raw bytes; `short` is for people."""

from typing import Final

from blake3 import blake3

DIGEST_BYTES: Final = 32
ZERO_DIGEST: Final = bytes(DIGEST_BYTES)


def digest(data: bytes | bytearray | memoryview) -> bytes:
    """BLAKE3 of `data`, 32 bytes. One thread: results must not depend on a scheduler, nor latency on its mood."""
    return blake3(data).digest()


def short(value: bytes) -> str:
    """First eight hex digits, for logs and screens."""
    return value[:4].hex()
