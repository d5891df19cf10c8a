"""A command is one fixed-width record of 40 bytes.

Field use by kind (unused fields must be zero; the engine rejects a command that breaks this):

| kind          | instrument | side | tif | flags | price | size   | client_id      | target                 |
|---------------|------------|------|-----|-------|-------|--------|----------------|------------------------|
| PLACE         | yes        | yes  | yes | yes   | ticks | lots   | caller's, or 0 | -                      |
| CANCEL        | -          | -    | -   | -     | -     | -      | -              | order id               |
| CANCEL_CLIENT | -          | -    | -   | -     | -     | -      | caller's       | -                      |
| CANCEL_ALL    | or ALL     | -    | -   | -     | -     | -      | -              | -                      |
| REPLACE       | -          | -    | yes | yes   | ticks | lots   | new one, or 0  | order id               |
| TRANSFER      | -          | -    | -   | -     | -     | micro  | -              | destination account    |
| DEPOSIT       | -          | -    | -   | -     | -     | micro  | -              | account (bridge only)  |
| WITHDRAW      | -          | -    | -   | -     | -     | micro  | -              | account (bridge only)  |
| OPEN_ACCOUNT  | -          | -    | -   | -     | the 32-byte public key over these four (bridge only)      |
"""

from enum import IntEnum, IntFlag
from typing import Final

import numpy as np

from lockstep.base.limits import COMMAND_WIDTH_BYTES

COMMAND: Final = np.dtype(
    [
        ("kind", "u1"),
        ("side", "u1"),
        ("tif", "u1"),
        ("flags", "u1"),
        ("instrument", "<u4"),
        ("price", "<i8"),
        ("size", "<i8"),
        ("client_id", "<u8"),
        ("target", "<u8"),
    ]
)
assert COMMAND.itemsize == COMMAND_WIDTH_BYTES

ALL_INSTRUMENTS: Final = 0xFFFF_FFFF


class Kind(IntEnum):
    """What a command asks for."""

    PLACE = 1
    CANCEL = 2
    CANCEL_CLIENT = 3
    CANCEL_ALL = 4
    REPLACE = 5
    TRANSFER = 6
    DEPOSIT = 7
    WITHDRAW = 8
    OPEN_ACCOUNT = 9


class Side(IntEnum):
    """The side of an order."""

    BUY = 0
    SELL = 1


class TimeInForce(IntEnum):
    """How long an order lives."""

    GTC = 0
    IOC = 1
    FOK = 2


class Flag(IntFlag):
    """Order flags. Self-trade prevention cancels the resting order unless STP_CANCEL_TAKER is set."""

    POST_ONLY = 1
    REDUCE_ONLY = 2
    STP_CANCEL_TAKER = 4
