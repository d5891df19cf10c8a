"""Which rows answer a query. One walk for both sides: a node walks its tables and proves every row that it reads, a
light client walks what it was shown, and reads only rows that were proven. So the rows are exactly those that the
answer follows from, and nothing can be left out of a list: each link to the next row stands in a proven row.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from lockstep.base.errors import Reason, Refused
from lockstep.base.limits import POSITIONS_PER_ACCOUNT_MAX
from lockstep.venue import schema
from lockstep.wire.light import Query

Row = Any
"""A structured NumPy scalar, or anything else that is indexed by field names."""
Read = Callable[[int, int], Row]
"""(table number, row) → the row."""

_POSITION_ORDERS: Final = ("open_buy", "open_sell", "orders")


@dataclass(frozen=True, slots=True)
class Answer:
    """What is proven. `exists` false: the thing is proven not to be there."""

    exists: bool
    height: int
    time_ms: int
    fields: dict[str, int]


def walk(query: int, number: int, other: int, read: Read) -> Answer:
    """Answer a query by reading rows; raises `Refused` when the rows contradict themselves."""
    venue = read(schema.VENUE, 0)
    match query:
        case Query.ACCOUNT:
            fields = _account(venue, number, read)
        case Query.POSITION:
            fields = _position(venue, number, other, read)
        case Query.ORDER:
            fields = _order(venue, number, read)
        case Query.PRICE:
            fields = _price(venue, number, read)
        case _:
            raise Refused(Reason.MALFORMED, f"there is no query {query}")
    return Answer(bool(fields), int(venue["height"]), int(venue["time_ms"]), fields)


def _fields(row: Row, *names: str) -> dict[str, int]:
    return {name: int(row[name]) for name in names}


def _account(venue: Row, number: int, read: Read) -> dict[str, int]:
    if number >= int(venue["accounts"]):
        return {}
    return {"account": number} | _fields(
        read(schema.ACCOUNTS, number), "balance", "next_sequence", "realised", "fees_paid", "opened_height",
        "open_orders", "positions", "shortfall",
    )  # fmt: skip


def _position(venue: Row, number: int, instrument: int, read: Read) -> dict[str, int]:
    if number >= int(venue["accounts"]):
        return {}
    for slot in _positions(read, number):
        row = read(schema.POSITIONS, slot)
        if int(row["account"]) != number:
            raise Refused(Reason.BAD_PROOF, f"position {slot} is in another account's list")
        if int(row["instrument"]) == instrument:
            return {"account": number, "instrument": instrument} | _fields(
                row, "size", "entry", "realised", *_POSITION_ORDERS
            )
    return {}


def _positions(read: Read, account: int) -> Iterator[int]:
    slot = int(read(schema.ACCOUNTS, account)["first_position"])
    for _ in range(POSITIONS_PER_ACCOUNT_MAX):
        if slot == 0:
            return
        yield slot
        slot = int(read(schema.POSITIONS, slot)["next"])
    if slot != 0:
        raise Refused(Reason.BAD_PROOF, f"account {account} has more positions than an account may have")


def _order(venue: Row, order_id: int, read: Read) -> dict[str, int]:
    slot = order_id & ((1 << int(venue["slot_bits"])) - 1)
    if slot == 0 or slot > int(venue["orders_used"]):
        return {}
    row = read(schema.ORDERS, slot)
    if int(row["id"]) != order_id:
        return {}
    owner = read(schema.POSITIONS, int(row["position"]))
    if int(owner["instrument"]) != int(row["instrument"]):
        raise Refused(Reason.BAD_PROOF, f"order {order_id} is of a position in another instrument")
    fields = _fields(row, "id", "client_id", "price", "remaining", "instrument", "side", "flags")
    return fields | _fields(owner, "account")


def _price(venue: Row, number: int, read: Read) -> dict[str, int]:
    if number >= int(venue["instruments"]):
        return {}
    return {"instrument": number} | _fields(
        read(schema.INSTRUMENTS, number), "mark", "stale", "best_bid", "best_ask", "last_price", "open_interest",
        "volume",
    )  # fmt: skip
