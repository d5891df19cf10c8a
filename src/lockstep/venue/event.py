"""What a block did, as records of 64 bytes.

Records are in command order; within a command its fills and consequences come first and its one outcome, the
record with the OUTCOME bit, comes last. Records that no command caused (liquidations) follow at the end, with
`command` = SYSTEM. Fields that a record does not use are zero.

| kind | who | order_id | other_order_id | client_id | price | size | fee |
|---|---|---|---|---|---|---|---|
| ACCEPTED | sender | - | - | - | - | amount; orders cancelled | - |
| RESTED | sender | the new order | order replaced, or 0 | its own | limit | lots resting | - |
| FILLED | sender | the new order | order replaced, or 0 | its own | limit | lots filled in all | - |
| CANCELLED, of a resting order | its owner | that order | - | its own | limit | lots cancelled | - |
| CANCELLED, of the new order | sender | the new order | order replaced, or 0 | its own | limit | lots cancelled | - |
| REJECTED | sender | command's target, or 0 | - | as sent | as sent | as sent | - |
| FILL | taker; other_account is the maker | taker's | maker's | the maker's | maker's | lots | taker's |
| DEFICIT | the account | - | - | - | - | paid by insurance | left uncovered |

ACCEPTED names in other_account the destination, the account credited or debited, or the account opened. The maker's
fee of a fill is not stored: it is `fee_of(price * size * tick_value, maker_fee_ppm)`.
"""

from enum import IntEnum, IntFlag
from typing import Final

import numpy as np

EVENT: Final = np.dtype(
    [
        ("command", "<u4"),
        ("kind", "u1"),
        ("reason", "u1"),
        ("side", "u1"),
        ("flags", "u1"),
        ("account", "<u4"),
        ("other_account", "<u4"),
        ("instrument", "<u4"),
        ("price", "<u4"),
        ("order_id", "<u8"),
        ("other_order_id", "<u8"),
        ("client_id", "<u8"),
        ("size", "<i8"),
        ("fee", "<i8"),
    ]
)
assert EVENT.itemsize == 64

SYSTEM: Final = 0xFFFF_FFFF
"""`command` of a record that no command caused."""
PPM: Final = 1_000_000


class EventKind(IntEnum):
    """What a record says."""

    ACCEPTED = 1
    RESTED = 2
    FILLED = 3
    CANCELLED = 4
    REJECTED = 5
    FILL = 6
    DEFICIT = 7


class EventFlag(IntFlag):
    """Bits of `flags`."""

    OUTCOME = 1
    LIQUIDATION = 2


class EventReason(IntEnum):
    """Why an order was cancelled or a command rejected."""

    NONE = 0
    # -- rejections ---------------------------------------------------------------------------------
    MALFORMED = 1
    UNKNOWN_INSTRUMENT = 2
    BAD_PRICE = 3
    BAD_SIZE = 4
    STALE_PRICE = 5
    PRICE_BAND = 6
    BALANCE_LIMIT = 7
    DUPLICATE_CLIENT_ID = 8
    CLIENT_ID_BUSY = 9
    TOO_MANY_ORDERS = 10
    ORDERS_FULL = 11
    TOO_MANY_POSITIONS = 12
    POSITIONS_FULL = 13
    REDUCE_ONLY = 14
    POSITION_LIMIT = 15
    POST_ONLY = 16
    INSUFFICIENT_MARGIN = 17
    UNKNOWN_ORDER = 18
    UNKNOWN_ACCOUNT = 19
    NOT_PERMITTED = 20
    BAD_AMOUNT = 21
    INSUFFICIENT_COLLATERAL = 22
    ACCOUNTS_FULL = 23
    # -- cancellations (REDUCE_ONLY too) ------------------------------------------------------------
    IMMEDIATE_OR_CANCEL = 32
    FILL_OR_KILL = 33
    FILL_LIMIT = 34
    SELF_TRADE = 35
    CANCEL_ALL = 36
    LIQUIDATION = 37


_TEXT: Final = {
    EventReason.NONE: "",
    EventReason.MALFORMED: "a field that this kind of command does not use is not zero, or a value is out of range",
    EventReason.UNKNOWN_INSTRUMENT: "there is no such instrument",
    EventReason.BAD_PRICE: "the price is not a tick from 1 to the instrument's last",
    EventReason.BAD_SIZE: "the size is not from 1 lot to the instrument's position limit",
    EventReason.STALE_PRICE: "no price is fresh from validators with more than 2/3 of the stake",
    EventReason.PRICE_BAND: "the price is outside the band around the mark price",
    EventReason.BALANCE_LIMIT: "a balance would exceed the largest one that the venue keeps",
    EventReason.DUPLICATE_CLIENT_ID: "the account has an open order with this client id",
    EventReason.CLIENT_ID_BUSY: "the index has no room for this client id: use another, or none",
    EventReason.TOO_MANY_ORDERS: "the account has the largest number of open orders",
    EventReason.ORDERS_FULL: "the venue has the largest number of open orders",
    EventReason.TOO_MANY_POSITIONS: "the account has the largest number of positions",
    EventReason.POSITIONS_FULL: "the venue has the largest number of positions",
    EventReason.REDUCE_ONLY: "there is no position left that the order would reduce",
    EventReason.POSITION_LIMIT: "position and open orders would exceed the instrument's limit",
    EventReason.POST_ONLY: "a post-only order would trade at once",
    EventReason.INSUFFICIENT_MARGIN: "the equity does not cover the initial margin",
    EventReason.UNKNOWN_ORDER: "the account has no such open order",
    EventReason.UNKNOWN_ACCOUNT: "there is no such account",
    EventReason.NOT_PERMITTED: "only the bridge account may do this",
    EventReason.BAD_AMOUNT: "the amount is not from 1 to the largest of one command",
    EventReason.INSUFFICIENT_COLLATERAL: "the amount is more than the account's free collateral",
    EventReason.ACCOUNTS_FULL: "the venue has the largest number of accounts",
    EventReason.IMMEDIATE_OR_CANCEL: "what could not trade at once was cancelled, as asked",
    EventReason.FILL_OR_KILL: "the order could not trade in full at once",
    EventReason.FILL_LIMIT: "the order met the largest number of makers for one command; the rest was cancelled",
    EventReason.SELF_TRADE: "the order would have traded with one of the same account",
    EventReason.CANCEL_ALL: "cancelled with all orders of the account",
    EventReason.LIQUIDATION: "cancelled because the account is below its maintenance margin",
}


def reason_text(reason: int) -> str:
    """A sentence for people."""
    return _TEXT[EventReason(reason)]


def fee_of(notional: int, ppm: int) -> int:
    """Fee on `notional` micro-USD in micro-USD, rounded towards the venue; negative for a rebate."""
    return -(-notional * ppm // PPM)
