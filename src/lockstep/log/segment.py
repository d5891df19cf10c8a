"""The bytes of one log segment: a header, then records back to back.

Header (64 bytes, little-endian):

    magic "lockslog" | version u32 = 2 | reserved u32 = 0 | first sequence u64 | key 32 B | checksum 8 B

Record (20 bytes and the payload):

    length u32 | checksum 8 B | sequence u64 | payload

Mark (20 bytes): the same without a payload, and with bit 31 of the length set. It says that every record up to and
with this sequence was durable when the mark was written. Whatever lies before a mark and is damaged was committed and
is lost; what lies behind the last one may be an unfinished write.

A record's checksum is the first 8 bytes of the keyed BLAKE3 of length, sequence and payload. The key is random, one
for each segment: payloads carry bytes that clients chose, and without a key a client could plant something that
looks like a record, to be found when damage is searched for what follows it.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from blake3 import blake3

_HEADER: Final = struct.Struct("<8sIIQ32s")
_RECORD: Final = struct.Struct("<I8sQ")
_COVERED: Final = struct.Struct("<IQ")
_MAGIC: Final = b"lockslog"
_VERSION: Final = 2
CHECKSUM_BYTES: Final = 8
HEADER_BYTES: Final = _HEADER.size + CHECKSUM_BYTES
RECORD_HEADER_BYTES: Final = _RECORD.size
_JOINED_BYTES_MAX: Final = 4096
"""A payload up to here is hashed in one call with what precedes it: a copy costs less than a second call."""
SEGMENT_BYTES_MAX: Final = 64 * 1024 * 1024
"""A segment that holds a record is closed before it would grow beyond this."""
RECORD_BYTES_MAX: Final = 1 << 30
_MARK: Final = 1 << 31
_OFFSET_BITS: Final = 32


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment says about itself."""

    first_sequence: int
    key: bytes

    def encode(self) -> bytes:
        """The 64 header bytes."""
        body = _HEADER.pack(_MAGIC, _VERSION, 0, self.first_sequence, self.key)
        return body + blake3(body).digest(CHECKSUM_BYTES)


def decode_header(raw: bytes) -> SegmentHeader | None:
    """The header at the start of `raw`, or None when it is damaged or not all there."""
    if len(raw) < HEADER_BYTES:
        return None
    body = raw[: _HEADER.size]
    magic, version, zero, first_sequence, key = _HEADER.unpack(body)
    if blake3(body).digest(CHECKSUM_BYTES) != raw[_HEADER.size : HEADER_BYTES]:
        return None
    if magic != _MAGIC or version != _VERSION or zero:
        return None
    return SegmentHeader(first_sequence, key)


def position(segment: int, offset: int) -> int:
    """A place in the log as one number, ascending in the order of writing."""
    return segment << _OFFSET_BITS | offset


def split_position(place: int) -> tuple[int, int]:
    """(segment, offset) of a position."""
    return place >> _OFFSET_BITS, place & (1 << _OFFSET_BITS) - 1


def segment_name(segment: int) -> str:
    """The file's name; names sort in the order of writing."""
    return f"{segment:08d}.log"


def _checksum(key: bytes, length: int, sequence: int, payload: bytes | memoryview) -> bytes:
    covered = _COVERED.pack(length, sequence)
    if len(payload) <= _JOINED_BYTES_MAX:
        return blake3(covered + payload, key=key).digest(CHECKSUM_BYTES)
    hasher = blake3(covered, key=key)
    hasher.update(payload)
    return hasher.digest(CHECKSUM_BYTES)


def record_header(key: bytes, sequence: int, payload: bytes) -> bytes:
    """The 20 bytes before `payload`."""
    return _RECORD.pack(len(payload), _checksum(key, len(payload), sequence, payload), sequence)


def mark(key: bytes, sequence: int) -> bytes:
    """The 20 bytes that say: all records up to `sequence` are durable."""
    return _RECORD.pack(_MARK, _checksum(key, _MARK, sequence, b""), sequence)


def record_at(data: memoryview, offset: int, key: bytes) -> tuple[int, memoryview] | None:
    """(sequence, payload) of the record at `offset` of `data`, or None when there is no whole, undamaged one."""
    if len(data) - offset < RECORD_HEADER_BYTES:
        return None
    length, checksum, sequence = _RECORD.unpack_from(data, offset)
    start = offset + RECORD_HEADER_BYTES
    if length > len(data) - start:
        return None
    payload = data[start : start + length]
    if _checksum(key, length, sequence, payload) != checksum:
        return None
    return sequence, payload


def mark_at(data: memoryview, offset: int, key: bytes) -> int | None:
    """The sequence of the mark at `offset`, or None when there is no undamaged one."""
    if len(data) - offset < RECORD_HEADER_BYTES:
        return None
    length, checksum, sequence = _RECORD.unpack_from(data, offset)
    if length != _MARK or _checksum(key, length, sequence, b"") != checksum:
        return None
    found: int = sequence
    return found


def payload_length(header: bytes) -> int:
    """The length that a record's header claims."""
    length: int = _RECORD.unpack(header)[0]
    return length


def find_mark(data: memoryview, start: int, sequence: int, key: bytes) -> int | None:
    """The first offset after `start` of an undamaged mark for this sequence or a later one, if any.

    It looks at every byte: a sequence is a u64 that can only have moved on by as many records as fit.
    """
    later = sequence + (len(data) - start) // RECORD_HEADER_BYTES + 1
    found = sorted(_places_of(data, start, sequence, later))
    return next((offset for offset in found if mark_at(data, offset, key) is not None), None)


def _places_of(data: memoryview, start: int, low: int, high: int) -> Iterator[int]:
    """Offsets from `start` on whose would-be record header has a sequence from `low` to `high`."""
    field = RECORD_HEADER_BYTES - 8
    for shift in range(8):
        at = start + field + shift
        count = (len(data) - at) // 8
        if count > 0:
            values = np.frombuffer(data, "<u8", count, at)
            for place in np.flatnonzero((values >= low) & (values <= high)):
                yield start + shift + 8 * int(place)
