"""A message on the simulated wire: its bytes, and what they decode to.

The bytes are decoded once, where they first arrive; what comes out is immutable, so every recipient may have it.
"""

from typing import Final

from lockstep.base.digest import digest
from lockstep.base.errors import Refused
from lockstep.wire.message import PeerMessage, decode_message, encode_message

_TAG_BYTES: Final = 8


class Parcel:
    """Bytes that travel; `tag` names them in the audit."""

    __slots__ = ("_is_decoded", "_message", "raw", "tag")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.tag = digest(raw)[:_TAG_BYTES]
        self._is_decoded = False
        self._message: PeerMessage | None = None

    def message(self) -> PeerMessage | None:
        """What the bytes say; None when they are no message."""
        if not self._is_decoded:
            self._is_decoded = True
            try:
                self._message = decode_message(self.raw)
            except Refused:
                self._message = None
        return self._message


def parcel_of(message: PeerMessage) -> Parcel:
    """Encode a message."""
    return Parcel(encode_message(message))


def parcel_of_raw(raw: bytes) -> Parcel:
    """Bytes that may be no message."""
    return Parcel(raw)
