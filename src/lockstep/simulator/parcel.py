"""A message on the simulated wire: its bytes, and what they decode to.

The bytes are decoded once, when they leave; what comes out is immutable, so every recipient may have it.
"""

from typing import Final

from blake3 import blake3

from lockstep.base.errors import Refused
from lockstep.wire.message import PeerMessage, decode_message, encode_message

_TAG_BYTES: Final = 8


class Parcel:
    """Bytes that travel. `tag` names them in the audit; `message` is what they say, None when they are no message."""

    __slots__ = ("message", "raw", "tag")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.tag: bytes = blake3(raw).digest(_TAG_BYTES)
        self.message: PeerMessage | None
        try:
            self.message = decode_message(raw)
        except Refused:
            self.message = None


def parcel_of(message: PeerMessage) -> Parcel:
    """Encode a message."""
    return Parcel(encode_message(message))


def parcel_of_raw(raw: bytes) -> Parcel:
    """Bytes that may be no message."""
    return Parcel(raw)
