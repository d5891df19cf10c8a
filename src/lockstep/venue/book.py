"""Resting orders: in a price level's queue (time priority), in their account's list, and in the client id index.

Every list is linked through slots, so entering and removing an order is a fixed amount of work.
"""

from typing import Final

from lockstep.venue.client_index import enter_client_id, remove_client_id
from lockstep.venue.compiled import i64, kernel, out_of_line
from lockstep.venue.event import EventKind
from lockstep.venue.ladder import ladder_above, ladder_below, ladder_clear, ladder_set
from lockstep.venue.memory import (
    Row,
    State,
    read_order,
    read_venue,
    write_account,
    write_instrument,
    write_level,
    write_order,
    write_position,
    write_venue,
)
from lockstep.venue.positions import BUY, add_open_lots, close_if_idle
from lockstep.venue.record import record
from lockstep.wire.command import Flag

_CANCELLED: Final = int(EventKind.CANCELLED)
REDUCE_ONLY_FLAG: Final = int(Flag.REDUCE_ONLY)


@kernel
def has_order_slot(state: State) -> bool:
    """Whether the venue has room for another resting order."""
    venue = read_venue(state, 0)
    return i64(venue["orders_free"]) != 0 or i64(venue["orders_used"]) + 1 < i64(venue["orders_max"])


@kernel
def take_order_slot(state: State) -> int:
    """A free slot, the last freed first."""
    venue = write_venue(state, 0)
    slot = i64(venue["orders_free"])
    if slot != 0:
        venue["orders_free"] = read_order(state, slot)["level_next"]
        return slot
    slot = i64(venue["orders_used"]) + 1
    venue["orders_used"] = slot
    return slot


@kernel
def free_order_slot(state: State, slot: int) -> None:
    """Put a slot back; its id becomes 0, so that no old order id finds it."""
    venue = write_venue(state, 0)
    order = write_order(state, slot)
    order["id"] = 0
    order["level_next"] = venue["orders_free"]
    venue["orders_free"] = slot


@kernel
def next_order_id(state: State, slot: int) -> int:
    """A new order id: serial << slot_bits | slot, so that an order is found, and a stale id seen, at once.

    `slot` is 0 for an order that will not rest. Serials begin again after 2^(63 - slot_bits), at least 2^37, orders.
    """
    venue = write_venue(state, 0)
    bits = i64(venue["slot_bits"])
    serial = venue["serial"] + 1
    if serial >> (63 - bits):
        serial = i64(1)
    venue["serial"] = serial
    return (serial << bits) | slot


@kernel
def find_order(state: State, account: int, order_id: int) -> int:
    """Slot of the account's open order with this id, or 0."""
    venue = read_venue(state, 0)
    slot = order_id & ((i64(1) << i64(venue["slot_bits"])) - 1)
    if order_id <= 0 or slot == 0 or slot > i64(venue["orders_used"]):
        return i64(0)
    order = read_order(state, slot)
    if order["id"] != order_id or i64(order["account"]) != account:
        return i64(0)
    return slot


@kernel
def rest_order(
    state: State,
    slot: int,
    order_id: int,
    client_id: int,
    account: int,
    position_slot: int,
    number: int,
    side: int,
    flags: int,
    price: int,
    lots: int,
) -> None:
    """Enter an order at the end of its price level."""
    out_of_line()
    order = write_order(state, slot)
    order["id"] = order_id
    order["client_id"] = client_id
    order["height"] = read_venue(state, 0)["height"]
    order["price"] = price
    order["remaining"] = lots
    order["account"] = account
    order["position"] = position_slot
    order["instrument"] = number
    order["side"] = side
    order["flags"] = flags
    _append_to_level(state, slot, order, write_instrument(state, number))
    owner = write_account(state, account)
    after = i64(owner["first_order"])
    order["account_next"] = after
    order["account_previous"] = 0
    if after != 0:
        write_order(state, after)["account_previous"] = slot
    owner["first_order"] = slot
    owner["open_orders"] = i64(owner["open_orders"]) + 1
    position = write_position(state, position_slot)
    position["orders"] = i64(position["orders"]) + 1
    if flags & REDUCE_ONLY_FLAG == 0:
        add_open_lots(position, side, lots, price)
    if client_id != 0:
        enter_client_id(state, account, client_id, slot)
    write_venue(state, 0)["orders_open"] += 1


@kernel
def _append_to_level(state: State, slot: int, order: Row, instrument: Row) -> None:
    price = i64(order["price"])
    level = write_level(state, instrument["levels_first"] + price)
    last = i64(level["last"])
    order["level_previous"] = last
    order["level_next"] = 0
    level["last"] = slot
    level["size"] += i64(order["remaining"])
    if last != 0:
        write_order(state, last)["level_next"] = slot
        return
    level["first"] = slot
    ladder_set(state, instrument, price)
    if i64(order["side"]) == BUY:
        instrument["best_bid"] = max(instrument["best_bid"], price)
    elif instrument["best_ask"] == 0 or price < instrument["best_ask"]:
        instrument["best_ask"] = price


@kernel
def _remove_from_level(state: State, order: Row, instrument: Row) -> None:
    price = i64(order["price"])
    level = write_level(state, instrument["levels_first"] + price)
    before, after = i64(order["level_previous"]), i64(order["level_next"])
    level["size"] -= i64(order["remaining"])
    if before != 0:
        write_order(state, before)["level_next"] = after
    else:
        level["first"] = after
    if after != 0:
        write_order(state, after)["level_previous"] = before
    else:
        level["last"] = before
    if before != 0 or after != 0:
        return
    ladder_clear(state, instrument, price)
    if price == instrument["best_bid"]:
        instrument["best_bid"] = ladder_below(state, instrument, price)
    elif price == instrument["best_ask"]:
        instrument["best_ask"] = ladder_above(state, instrument, price)


@kernel
def shrink_order(state: State, slot: int, lots: int) -> None:
    """Take `lots` off a resting order, which keeps its place. It may be left with 0 lots, to be dropped next."""
    order = write_order(state, slot)
    order["remaining"] = i64(order["remaining"]) - lots
    instrument = write_instrument(state, i64(order["instrument"]))
    price = i64(order["price"])
    write_level(state, instrument["levels_first"] + price)["size"] -= lots
    if i64(order["flags"]) & REDUCE_ONLY_FLAG == 0:
        position = write_position(state, i64(order["position"]))
        add_open_lots(position, i64(order["side"]), -lots, price)


@kernel
def drop_order(state: State, slot: int) -> None:
    """Remove a resting order from everything, and its position's row with it when that is idle now."""
    out_of_line()
    order = write_order(state, slot)
    account = i64(order["account"])
    _remove_from_level(state, order, write_instrument(state, i64(order["instrument"])))
    before, after = i64(order["account_previous"]), i64(order["account_next"])
    owner = write_account(state, account)
    owner["open_orders"] = i64(owner["open_orders"]) - 1
    if before != 0:
        write_order(state, before)["account_next"] = after
    else:
        owner["first_order"] = after
    if after != 0:
        write_order(state, after)["account_previous"] = before
    position_slot = i64(order["position"])
    position = write_position(state, position_slot)
    position["orders"] = i64(position["orders"]) - 1
    if i64(order["flags"]) & REDUCE_ONLY_FLAG == 0:
        add_open_lots(position, i64(order["side"]), -i64(order["remaining"]), i64(order["price"]))
    if order["client_id"] != 0:
        remove_client_id(state, account, order["client_id"])
    free_order_slot(state, slot)
    write_venue(state, 0)["orders_open"] -= 1
    close_if_idle(state, position_slot)


@kernel
def cancel_order(state: State, slot: int, reason: int, flags: int) -> None:
    """Record the end of a resting order, and drop it."""
    out_of_line()
    order = read_order(state, slot)
    record(
        state,
        _CANCELLED,
        reason,
        flags,
        i64(order["account"]),
        0,
        i64(order["instrument"]),
        i64(order["side"]),
        i64(order["price"]),
        i64(order["remaining"]),
        order["id"],
        0,
        order["client_id"],
        0,
    )
    drop_order(state, slot)
