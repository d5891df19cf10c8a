"""How nodes that don't vote are greeted, sent on to others, and turned away.

Whom a connection is with, TLS proves; these messages say only what the other side could not know.
"""

from typing import Final

import msgspec

from lockstep.base.digest import DIGEST_BYTES
from lockstep.base.errors import Reason, Refused
from lockstep.wire.codec import check_length

ADDRESS_BYTES_MAX: Final = 128
ADDRESSES_MAX: Final = 16
DETAIL_BYTES_MAX: Final = 512


class HelloObserver(msgspec.Struct, frozen=True, array_like=True, tag=40, forbid_unknown_fields=True):
    """First message of a node that doesn't vote. `address`: where others may dial it; empty: nowhere."""

    version: int
    chain_id: bytes
    address: str


class Turned(msgspec.Struct, frozen=True, array_like=True, tag=41, forbid_unknown_fields=True):
    """Instead of a greeting, or last: the connection is being closed, and why."""

    reason: str
    detail: str


class Addresses(msgspec.Struct, frozen=True, array_like=True, tag=42, forbid_unknown_fields=True):
    """Where other nodes that don't vote say that they can be dialled: hearsay, to be tried."""

    addresses: tuple[str, ...]


ObserverMessage = HelloObserver | Turned | Addresses


def check_observer_message(message: ObserverMessage) -> None:
    """Bound every field; raises `Refused`."""
    match message:
        case HelloObserver():
            check_length(message.chain_id, DIGEST_BYTES, "chain id")
            _check_text(message.address, ADDRESS_BYTES_MAX, "an address")
        case Turned():
            _check_text(message.reason, ADDRESS_BYTES_MAX, "a reason")
            _check_text(message.detail, DETAIL_BYTES_MAX, "a detail")
        case Addresses():
            if len(message.addresses) > ADDRESSES_MAX:
                raise Refused(Reason.OVERSIZE, f"at most {ADDRESSES_MAX} addresses may be told at a time")
            for address in message.addresses:
                _check_text(address, ADDRESS_BYTES_MAX, "an address")


def _check_text(text: str, size: int, what: str) -> None:
    if len(text.encode()) > size:
        raise Refused(Reason.OVERSIZE, f"{what} has at most {size} bytes")
