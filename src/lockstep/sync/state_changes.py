"""Telling which chunks below a node differ, at little cost for both sides.

Who fetches has most of the chunks below a node; it sends a *mark* of each, a few bits of its chaining value. Who serves
sends the chunks whose marks are not those of its own, with their numbers. Marks of 4 bits miss one changed chunk in 16:
the node's value says so, and marks of 8 (then 16) other bits are sent for what is still wanting. For one chunk in a
hundred changed anywhere, that is some 60 bytes a changed chunk; walking down to them by hashes took 670.

The answer:   nodes u32    how many of the asked nodes it covers, from the first on: as many as fit
              count u32, then so many chunk numbers u32, ascending
              the chunks, 1024 bytes each; a table's last one is filled up with zeros
"""

import struct
from typing import Any, Final

import numpy as np

from lockstep.base.errors import Reason, Refused
from lockstep.ledger.table import CHUNK_BYTES

Array = np.ndarray[Any, Any]
MARK_BITS: Final = (4, 8, 16)
"""Of the first asking, the second, the third."""
_HEAD: Final = struct.Struct("<II")


def marks(leaves: Array, bits: int) -> Array:
    """(k,) uint16 from chaining values (k, 8): other bits for each of `MARK_BITS`."""
    words = leaves[:, MARK_BITS.index(bits)] & ((1 << bits) - 1)
    return words.astype("<u2")


def pack_marks(values: Array, bits: int) -> bytes:
    """As they are sent: marks of 4 bits two to a byte."""
    if bits == 16:
        return values.tobytes()
    small = values.astype(np.uint8)
    if bits == 8:
        return small.tobytes()
    even = np.zeros(-(-len(small) // 2) * 2, np.uint8)
    even[: len(small)] = small
    return (even[::2] | even[1::2] << 4).astype(np.uint8).tobytes()


def unpack_marks(packed: bytes, count: int) -> tuple[Array, int]:
    """(marks of `count` chunks, more than one, and how many bits each has); raises `Refused`."""
    if len(packed) == 2 * count:
        return np.frombuffer(packed, "<u2"), 16
    data = np.frombuffer(packed, np.uint8)
    if len(data) == count:
        return data, 8
    if len(data) != -(-count // 2) or (count % 2 and data[-1] >> 4):
        raise Refused(Reason.MALFORMED, f"{len(data)} bytes of marks don't fit {count} chunks")
    both = np.empty(2 * len(data), np.uint8)
    both[::2], both[1::2] = data & 15, data >> 4
    return both[:count], 4


def changed_data(nodes: int, numbers: Array, chunks: bytes) -> bytes:
    """The answer."""
    return _HEAD.pack(nodes, len(numbers)) + numbers.astype("<u4").tobytes() + chunks


def parse_changed(data: bytes | memoryview) -> tuple[int, Array, Array]:
    """(nodes, numbers (k,) int64, rows (k, 1024) uint8); raises `Refused`."""
    if len(data) < _HEAD.size:
        raise Refused(Reason.BAD_PROOF, f"{len(data)} bytes are no answer about changed chunks")
    nodes, count = _HEAD.unpack_from(data)
    begin = _HEAD.size + 4 * count
    if len(data) != begin + count * CHUNK_BYTES:
        raise Refused(Reason.BAD_PROOF, f"{len(data)} bytes came with {count} changed chunks")
    numbers = np.frombuffer(data, "<u4", count, _HEAD.size).astype(np.int64)
    if (np.diff(numbers) <= 0).any():
        raise Refused(Reason.BAD_PROOF, "the numbers of changed chunks are not ascending")
    return nodes, numbers, np.frombuffer(data, np.uint8, offset=begin).reshape(count, CHUNK_BYTES).copy()
