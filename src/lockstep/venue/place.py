"""PLACE and REPLACE. Everything is checked before anything is changed, so a rejected command leaves no trace.

A REPLACE that changes nothing but the lots, to no more than rest (GTC), shrinks the order where it stands. Any other is
a cancellation and a new order in one: the new order is checked as if the old one were gone, and when it is
rejected the old one stays. Client id 0 means: keep the present one. `size` is the lots of the new order.

Why no balance overflows: an order is admitted only while the balances of its account and of the fee account are
within ±BALANCE_MAX = 2^60. From there the commands' fills can move an account by less than 2^61: its resting orders
and position in one instrument realise at most 3 x 2^52, in 64 instruments less than 2^60; one taker's fills, each
bounded by the same position limit, and the fees on them, no more than that again. Transfers and deposits check the
receiver. So |balance| < 2^62 at all times.
"""

from typing import Final

from lockstep.base.limits import (
    BALANCE_MAX,
    FILLS_PER_COMMAND_MAX,
    OPEN_ORDERS_PER_ACCOUNT_MAX,
    POSITIONS_PER_ACCOUNT_MAX,
)
from lockstep.venue.book import (
    REDUCE_ONLY_FLAG,
    drop_order,
    find_order,
    free_order_slot,
    has_order_slot,
    next_order_id,
    rest_order,
    shrink_order,
    take_order_slot,
)
from lockstep.venue.client_index import client_order, has_vacancy
from lockstep.venue.compiled import i64, in_line, kernel, out_of_line
from lockstep.venue.event import EventKind, EventReason
from lockstep.venue.margin import affordable
from lockstep.venue.matching import best_opposite, can_fill, crosses, match
from lockstep.venue.memory import (
    SIZE,
    STOP,
    Row,
    State,
    get,
    put,
    read_account,
    read_instrument,
    read_order,
    read_position,
    read_venue,
    write_position,
)
from lockstep.venue.positions import (
    BUY,
    close_if_idle,
    find_position,
    has_position_slot,
    open_position,
    reducible,
)
from lockstep.venue.record import OUTCOME, record, reject
from lockstep.wire.command import Flag, TimeInForce

_GTC: Final = int(TimeInForce.GTC)
_FOK: Final = int(TimeInForce.FOK)
_POST_ONLY_FLAG: Final = int(Flag.POST_ONLY)
_FLAGS_MAX: Final = int(Flag.POST_ONLY | Flag.REDUCE_ONLY | Flag.STP_CANCEL_TAKER)
_RESTED: Final = int(EventKind.RESTED)
_FILLED: Final = int(EventKind.FILLED)
_CANCELLED: Final = int(EventKind.CANCELLED)
_MALFORMED: Final = int(EventReason.MALFORMED)
_UNKNOWN_INSTRUMENT: Final = int(EventReason.UNKNOWN_INSTRUMENT)
_BAD_PRICE: Final = int(EventReason.BAD_PRICE)
_BAD_SIZE: Final = int(EventReason.BAD_SIZE)
_STALE_PRICE: Final = int(EventReason.STALE_PRICE)
_PRICE_BAND: Final = int(EventReason.PRICE_BAND)
_BALANCE_LIMIT: Final = int(EventReason.BALANCE_LIMIT)
_DUPLICATE_CLIENT_ID: Final = int(EventReason.DUPLICATE_CLIENT_ID)
_CLIENT_ID_BUSY: Final = int(EventReason.CLIENT_ID_BUSY)
_TOO_MANY_ORDERS: Final = int(EventReason.TOO_MANY_ORDERS)
_ORDERS_FULL: Final = int(EventReason.ORDERS_FULL)
_TOO_MANY_POSITIONS: Final = int(EventReason.TOO_MANY_POSITIONS)
_POSITIONS_FULL: Final = int(EventReason.POSITIONS_FULL)
_REDUCE_ONLY: Final = int(EventReason.REDUCE_ONLY)
_POSITION_LIMIT: Final = int(EventReason.POSITION_LIMIT)
_POST_ONLY: Final = int(EventReason.POST_ONLY)
_INSUFFICIENT_MARGIN: Final = int(EventReason.INSUFFICIENT_MARGIN)
_UNKNOWN_ORDER: Final = int(EventReason.UNKNOWN_ORDER)
_IMMEDIATE_OR_CANCEL: Final = int(EventReason.IMMEDIATE_OR_CANCEL)
_FILL_OR_KILL: Final = int(EventReason.FILL_OR_KILL)


@kernel
def _has_bad_options(command: Row) -> bool:
    in_line()
    tif, flags = i64(command["tif"]), i64(command["flags"])
    return tif > _FOK or flags > _FLAGS_MAX or (flags & _POST_ONLY_FLAG != 0 and tif != _GTC)


@kernel
def place(state: State, account: int, command: Row) -> None:
    """Carry out a PLACE."""
    in_line()
    number, side = i64(command["instrument"]), i64(command["side"])
    if command["target"] != 0 or side > 1 or _has_bad_options(command):
        reject(state, account, command, _MALFORMED)
    elif number >= i64(read_venue(state, 0)["instruments"]):
        reject(state, account, command, _UNKNOWN_INSTRUMENT)
    else:
        _submit(state, account, command, number, side, command["client_id"], 0)


@kernel
def replace(state: State, account: int, command: Row) -> None:
    """Carry out a REPLACE."""
    if i64(command["instrument"]) != 0 or i64(command["side"]) != 0 or _has_bad_options(command):
        reject(state, account, command, _MALFORMED)
        return
    slot = find_order(state, account, command["target"])
    if slot == 0:
        reject(state, account, command, _UNKNOWN_ORDER)
        return
    order = read_order(state, slot)
    client_id = command["client_id"] if command["client_id"] != 0 else order["client_id"]
    shrinks = (
        i64(command["tif"]) == _GTC
        and i64(command["flags"]) == i64(order["flags"])
        and command["price"] == i64(order["price"])
        and 0 < command["size"] <= i64(order["remaining"])
        and client_id == order["client_id"]
    )
    if shrinks:
        _shrink(state, account, command, slot, order)
    else:
        number, side = i64(order["instrument"]), i64(order["side"])
        _submit(state, account, command, number, side, client_id, slot)


@kernel
def _shrink(state: State, account: int, command: Row, slot: int, order: Row) -> None:
    number = i64(order["instrument"])
    if read_instrument(state, number)["stale"] != 0:
        reject(state, account, command, _STALE_PRICE)
        return
    shrink_order(state, slot, i64(order["remaining"]) - command["size"])
    side, price = i64(order["side"]), i64(order["price"])
    order_id = order["id"]
    record(
        state,
        _RESTED,
        0,
        OUTCOME,
        account,
        0,
        number,
        side,
        price,
        command["size"],
        order_id,
        order_id,
        order["client_id"],
        0,
    )


@kernel
def _refusal(
    state: State, account: int, command: Row, number: int, side: int, client_id: int, position: int, replaced: int
) -> int:
    """Why the order can't be accepted, or 0. Leaves the size granted (reduce-only may cut it) in SIZE."""
    in_line()
    instrument = read_instrument(state, number)
    price, lots = command["price"], command["size"]
    if not 0 < price < instrument["price_ticks"]:
        return _BAD_PRICE
    if not 0 < lots <= instrument["position_lots_max"]:
        return _BAD_SIZE
    if instrument["stale"] != 0:
        return _STALE_PRICE
    if not instrument["lowest"] <= price <= instrument["highest"]:
        return _PRICE_BAND
    owner = read_account(state, account)
    fee_account = read_account(state, i64(read_venue(state, 0)["fee_account"]))
    if abs(owner["balance"]) > BALANCE_MAX or abs(fee_account["balance"]) > BALANCE_MAX:
        return _BALANCE_LIMIT
    reason = _refusal_for_room(state, account, command, client_id, position, replaced)
    if reason != 0:
        return reason
    flags = i64(command["flags"])
    if flags & REDUCE_ONLY_FLAG:
        lots = min(lots, reducible(read_position(state, position), side)) if position != 0 else i64(0)
        if lots == 0:
            return _REDUCE_ONLY
    put(state, SIZE, lots)
    if flags & _POST_ONLY_FLAG and crosses(side, price, best_opposite(instrument, side)):
        return _POST_ONLY
    if flags & REDUCE_ONLY_FLAG:
        return 0
    return _refusal_for_risk(state, account, instrument, side, price, lots, position, replaced)


@kernel
def _refusal_for_room(state: State, account: int, command: Row, client_id: int, position: int, replaced: int) -> int:
    """Whether the client id is free, and the tables and the account have room."""
    in_line()
    if client_id != 0:
        taken = client_order(state, account, client_id)
        if taken != 0 and taken != replaced:
            return _DUPLICATE_CLIENT_ID
    owner = read_account(state, account)
    if i64(command["tif"]) == _GTC:
        if client_id != 0 and not has_vacancy(state, account, client_id):
            return _CLIENT_ID_BUSY
        if replaced == 0 and i64(owner["open_orders"]) >= OPEN_ORDERS_PER_ACCOUNT_MAX:
            return _TOO_MANY_ORDERS
        if replaced == 0 and not has_order_slot(state):
            return _ORDERS_FULL
    if position == 0:
        if i64(owner["positions"]) >= POSITIONS_PER_ACCOUNT_MAX:
            return _TOO_MANY_POSITIONS
        if not has_position_slot(state):
            return _POSITIONS_FULL
    return 0


@kernel
def _refusal_for_risk(
    state: State, account: int, instrument: Row, side: int, price: int, lots: int, position: int, replaced: int
) -> int:
    """Position limit and initial margin."""
    in_line()
    replaced_lots = replaced_price = i64(0)
    if replaced != 0:
        old = read_order(state, replaced)
        if i64(old["flags"]) & REDUCE_ONLY_FLAG == 0:
            replaced_lots, replaced_price = i64(old["remaining"]), i64(old["price"])
    held = resting = i64(0)
    if position != 0:
        row = read_position(state, position)
        held = row["size"] if side == BUY else -row["size"]
        resting = i64(row["open_buy"]) if side == BUY else i64(row["open_sell"])
    resting += lots - replaced_lots
    if max(resting, held + resting) > instrument["position_lots_max"]:
        return _POSITION_LIMIT
    if not affordable(state, account, position, instrument, side, price, lots, replaced_lots, replaced_price):
        return _INSUFFICIENT_MARGIN
    return 0


@kernel
def _submit(state: State, account: int, command: Row, number: int, side: int, client_id: int, replaced: int) -> None:
    """Check a new order, which may replace an old one, and carry it out."""
    out_of_line()
    position = find_position(state, account, number)
    reason = _refusal(state, account, command, number, side, client_id, position, replaced)
    if reason != 0:
        reject(state, account, command, reason)
        return
    price, lots = command["price"], get(state, SIZE)
    tif, flags = i64(command["tif"]), i64(command["flags"])
    if position == 0:
        position = open_position(state, account, number)
    held = write_position(state, position)
    held["orders"] = i64(held["orders"]) + 1  # this one, or until it is clear that it does not rest
    replaced_id = i64(0)
    if replaced != 0:
        replaced_id = read_order(state, replaced)["id"]
        drop_order(state, replaced)
    slot = take_order_slot(state) if tif == _GTC else i64(0)
    order_id = next_order_id(state, slot)
    left, stop = lots, i64(_FILL_OR_KILL if tif == _FOK else 0)
    if crosses(side, price, best_opposite(read_instrument(state, number), side)) and (
        tif != _FOK or can_fill(state, position, number, side, price, lots, flags)
    ):
        left = match(state, account, position, number, side, price, lots, order_id, flags, 0, FILLS_PER_COMMAND_MAX)
        stop = get(state, STOP)
    kind, size = _RESTED, left
    if left == 0:
        kind, size, stop = _FILLED, lots, i64(0)
    elif stop != 0 or tif != _GTC:
        kind = _CANCELLED
        stop = stop if stop != 0 else i64(_IMMEDIATE_OR_CANCEL)
    if kind == _RESTED:
        rest_order(state, slot, order_id, client_id, account, position, held, number, side, flags, price, left)
    else:
        if slot != 0:
            free_order_slot(state, slot)
        held["orders"] = i64(held["orders"]) - 1
        close_if_idle(state, position)
    record(
        state,
        kind,
        stop,
        OUTCOME,
        account,
        0,
        number,
        side,
        price,
        size,
        order_id,
        replaced_id,
        client_id,
        0,
    )
