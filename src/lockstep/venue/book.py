"""Resting orders: in a price level's queue (time priority), in their account's list, and in the client id index.

Every list is linked through slots, so entering and removing an order is a fixed amount of work.
"""

from typing import Final

from lockstep.venue.client_index import enter_client_id, remove_client_id
from lockstep.venue.compiled import i64, in_line, kernel, out_of_line
from lockstep.venue.event import EventKind
from lockstep.venue.ladder import ladder_above, ladder_below, ladder_clear, ladder_set
from lockstep.venue.margin import lower_headroom
from lockstep.venue.memory import (
    Row,
    State,
    read_account,
    read_instrument,
    read_links,
    read_order,
    read_position,
    read_venue,
    venue_row,
    write_account,
    write_instrument,
    write_level,
    write_links,
    write_order,
    write_position,
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
    in_line()
    venue = venue_row(state, 0)
    slot = i64(venue["orders_free"])
    if slot != 0:
        venue["orders_free"] = read_links(state, slot)["level_next"]
        return slot
    slot = i64(venue["orders_used"]) + 1
    venue["orders_used"] = slot
    return slot


@kernel
def free_order_slot(state: State, slot: int) -> None:
    """Put back a slot that was taken, and not used."""
    venue = venue_row(state, 0)
    write_order(state, slot)  # it may lie beyond all rows used so far
    write_links(state, slot)["level_next"] = venue["orders_free"]
    venue["orders_free"] = slot


@kernel
def next_order_id(state: State, slot: int) -> int:
    """A new order id: serial << slot_bits | slot, so that an order is found, and a stale id seen, at once.

    `slot` is 0 for an order that will not rest. Serials begin again after 2^(63 - slot_bits), at least 2^37, orders.
    """
    in_line()
    venue = venue_row(state, 0)
    bits = i64(venue["slot_bits"])
    serial = venue["serial"] + 1
    if serial >> (63 - bits):
        serial = i64(1)
    venue["serial"] = serial
    return (serial << bits) | slot


@kernel
def find_order(state: State, account: int, order_id: int) -> int:
    """Slot of the account's open order with this id, or 0."""
    in_line()
    venue = read_venue(state, 0)
    slot = order_id & ((i64(1) << i64(venue["slot_bits"])) - 1)
    if order_id <= 0 or slot == 0 or slot > i64(venue["orders_used"]):
        return i64(0)
    order = read_order(state, slot)
    if order["id"] != order_id or owner_of(state, order) != account:
        return i64(0)
    return slot


@kernel
def owner_of(state: State, order: Row) -> int:
    """The account that a resting order is of."""
    in_line()
    return i64(read_position(state, i64(order["position"]))["account"])


@kernel
def rest_order(
    state: State,
    slot: int,
    order_id: int,
    client_id: int,
    account: int,
    position_slot: int,
    position: Row,
    number: int,
    side: int,
    flags: int,
    price: int,
    lots: int,
) -> None:
    """Enter an order of the account in work at the end of its price level. The writes to the account's row and to the
    position's have been announced, and the position has counted the order."""
    in_line()
    order = write_order(state, slot)
    order["id"] = order_id
    order["client_id"] = client_id
    order["price"] = price
    order["remaining"] = lots
    order["position"] = position_slot
    order["instrument"] = number
    order["side"] = side
    order["flags"] = flags
    links = write_links(state, slot)
    _append_to_level(state, slot, links, number, side, price, lots)
    owner = read_account(state, account)
    after = i64(owner["first_order"])
    links["account_next"] = after
    links["account_previous"] = 0
    if after != 0:
        write_links(state, after)["account_previous"] = slot
    owner["first_order"] = slot
    owner["open_orders"] = i64(owner["open_orders"]) + 1
    if flags & REDUCE_ONLY_FLAG == 0:
        add_open_lots(position, side, lots, price)
    if client_id != 0:
        enter_client_id(state, account, owner, client_id, slot)
    venue_row(state, 0)["orders_open"] += 1


@kernel
def _append_to_level(state: State, slot: int, links: Row, number: int, side: int, price: int, lots: int) -> None:
    in_line()
    level = write_level(state, read_instrument(state, number)["levels_first"] + price)
    last = i64(level["last"])
    links["level_previous"] = last
    links["level_next"] = 0
    level["last"] = slot
    level["size"] += lots
    if last != 0:
        write_links(state, last)["level_next"] = slot
        return
    level["first"] = slot
    instrument = write_instrument(state, number)
    ladder_set(state, instrument, price)
    if side == BUY:
        instrument["best_bid"] = max(instrument["best_bid"], price)
    elif instrument["best_ask"] == 0 or price < instrument["best_ask"]:
        instrument["best_ask"] = price


@kernel
def _remove_from_level(state: State, order: Row, links: Row, number: int) -> None:
    in_line()
    price = i64(order["price"])
    level = write_level(state, read_instrument(state, number)["levels_first"] + price)
    before, after = i64(links["level_previous"]), i64(links["level_next"])
    level["size"] -= i64(order["remaining"])
    if before != 0:
        write_links(state, before)["level_next"] = after
    else:
        level["first"] = after
    if after != 0:
        write_links(state, after)["level_previous"] = before
    else:
        level["last"] = before
    if before != 0 or after != 0:
        return
    instrument = write_instrument(state, number)
    ladder_clear(state, instrument, price)
    if price == instrument["best_bid"]:
        instrument["best_bid"] = ladder_below(state, instrument, price)
    elif price == instrument["best_ask"]:
        instrument["best_ask"] = ladder_above(state, instrument, price)


@kernel
def shrink_order(state: State, slot: int, lots: int) -> None:
    """Take `lots` off a resting order, which keeps its place. It may be left with 0 lots, to be dropped next."""
    in_line()
    order = write_order(state, slot)
    order["remaining"] = i64(order["remaining"]) - lots
    instrument = read_instrument(state, i64(order["instrument"]))
    price = i64(order["price"])
    write_level(state, instrument["levels_first"] + price)["size"] -= lots
    if i64(order["flags"]) & REDUCE_ONLY_FLAG == 0:
        position = write_position(state, i64(order["position"]))
        add_open_lots(position, i64(order["side"]), -lots, price)
        lower_headroom(state, i64(position["account"]), instrument, lots, price)


@kernel
def drop_order(state: State, slot: int) -> None:
    """Remove a resting order from everything, and its position's row with it when that is idle now. Its id becomes
    0, so that no old order id finds it."""
    out_of_line()
    order = write_order(state, slot)
    links = write_links(state, slot)
    position_slot = i64(order["position"])
    position = write_position(state, position_slot)
    account = i64(position["account"])
    number = i64(order["instrument"])
    _remove_from_level(state, order, links, number)
    before, after = i64(links["account_previous"]), i64(links["account_next"])
    owner = write_account(state, account)
    owner["open_orders"] = i64(owner["open_orders"]) - 1
    if before != 0:
        write_links(state, before)["account_next"] = after
    else:
        owner["first_order"] = after
    if after != 0:
        write_links(state, after)["account_previous"] = before
    position["orders"] = i64(position["orders"]) - 1
    if i64(order["flags"]) & REDUCE_ONLY_FLAG == 0:
        lots, price = i64(order["remaining"]), i64(order["price"])
        add_open_lots(position, i64(order["side"]), -lots, price)
        lower_headroom(state, account, read_instrument(state, number), lots, price)
    if order["client_id"] != 0:
        remove_client_id(state, account, owner, order["client_id"], slot)
    order["id"] = 0
    venue = venue_row(state, 0)
    links["level_next"] = venue["orders_free"]
    venue["orders_free"] = slot
    venue["orders_open"] -= 1
    close_if_idle(state, position_slot)


@kernel
def cancel_order(state: State, slot: int, reason: int, flags: int) -> None:
    """Record the end of a resting order, and drop it."""
    in_line()
    order = read_order(state, slot)
    record(
        state,
        _CANCELLED,
        reason,
        flags,
        owner_of(state, order),
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
