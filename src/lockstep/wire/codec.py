"""Strict MessagePack through msgspec: typed, bounded, and canonical or refused."""

from typing import Final, TypeVar

import msgspec

from lockstep.base.errors import Reason, Refused

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode


def decode_canonical(decoder: "msgspec.msgpack.Decoder[T]", data: bytes | memoryview, what: str) -> T:
    """Decode `data`; refuse what doesn't parse, and what isn't the one encoding of what it says."""
    try:
        value = decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refused(Reason.MALFORMED, f"{what}: {error}") from error
    if encode(value) != data:
        raise Refused(Reason.NON_CANONICAL, f"{what}: not the canonical encoding")
    return value


RAW_BUNDLE: Final = b"\x00"
"""First byte of a message that is nothing but a bundle: its bytes follow as they are. No MessagePack array begins so.
Bundles are nearly all of the traffic, and this spares them several copies."""


def check_length(value: bytes, length: int, what: str) -> None:
    """Refuse a byte field of the wrong size."""
    if len(value) != length:
        raise Refused(Reason.MALFORMED, f"{what} has {len(value)} bytes, not {length}")


def check_unsigned(value: int, what: str) -> None:
    """Refuse a number outside 0 … 2^63 - 1 (it must also fit a signed column)."""
    if not 0 <= value < 1 << 63:
        raise Refused(Reason.MALFORMED, f"{what} is out of range")
