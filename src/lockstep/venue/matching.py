"""Matching a new order with resting ones, best price first and oldest first within a price.

Each maker met counts towards FILLS_PER_COMMAND_MAX, whether it trades, belongs to the taker's account (self-trade
prevention cancels it, or stops the taker) or is a reduce-only order with nothing left to reduce (it is cancelled).
A reduce-only maker trades no more than its position; what it still asks for when the position is gone is cancelled.
"""

from typing import Final

from lockstep.base.limits import FILLS_PER_COMMAND_MAX
from lockstep.venue.arithmetic import fee_on, running_total
from lockstep.venue.book import REDUCE_ONLY_FLAG, cancel_order, drop_order, owner_of, shrink_order
from lockstep.venue.compiled import i64, in_line, kernel, out_of_line
from lockstep.venue.event import EventKind, EventReason
from lockstep.venue.ladder import ladder_above, ladder_below
from lockstep.venue.margin import forget_headroom
from lockstep.venue.memory import (
    FILLS,
    MET,
    STOP,
    Row,
    State,
    get,
    put,
    read_instrument,
    read_level,
    read_links,
    read_order,
    read_position,
    read_venue,
    venue_row,
    write_account,
    write_instrument,
)
from lockstep.venue.positions import BUY, apply_fill, reducible
from lockstep.venue.record import record
from lockstep.wire.command import Flag, Side

STP_CANCEL_TAKER_FLAG: Final = int(Flag.STP_CANCEL_TAKER)
_SELL: Final = int(Side.SELL)
_FILL: Final = int(EventKind.FILL)
_FILL_LIMIT: Final = int(EventReason.FILL_LIMIT)
_SELF_TRADE: Final = int(EventReason.SELF_TRADE)
_REDUCE_ONLY: Final = int(EventReason.REDUCE_ONLY)


@kernel
def best_opposite(instrument: Row, side: int) -> int:
    """The best price that an order of this side could trade at, or 0."""
    return instrument["best_ask"] if side == BUY else instrument["best_bid"]


@kernel
def crosses(side: int, limit: int, price: int) -> bool:
    """Whether an order limited to `limit` trades at `price` (0: nothing there)."""
    return price != 0 and (price <= limit if side == BUY else price >= limit)


@kernel
def match(
    state: State,
    account: int,
    position: int,
    number: int,
    side: int,
    limit: int,
    lots: int,
    order_id: int,
    order_flags: int,
    event_flags: int,
    makers_max: int,
) -> int:
    """Trade up to `lots` at `limit` or better; the lots left. STOP says why it ended early, or 0."""
    out_of_line()
    instrument = write_instrument(state, number)
    put(state, STOP, 0)
    met = 0
    while lots > 0:
        price = best_opposite(instrument, side)
        if not crosses(side, limit, price):
            break
        if met == makers_max:
            put(state, STOP, _FILL_LIMIT)
            break
        met += 1
        slot = i64(read_level(state, instrument["levels_first"] + price)["first"])
        maker = read_order(state, slot)
        if i64(maker["position"]) == position:  # same account
            if order_flags & STP_CANCEL_TAKER_FLAG:
                put(state, STOP, _SELF_TRADE)
                break
            cancel_order(state, slot, _SELF_TRADE, event_flags)
            continue
        tradable = i64(maker["remaining"])
        if i64(maker["flags"]) & REDUCE_ONLY_FLAG:
            held = read_position(state, i64(maker["position"]))
            tradable = min(tradable, reducible(held, i64(maker["side"])))
            if tradable == 0:
                cancel_order(state, slot, _REDUCE_ONLY, event_flags)
                continue
        traded = min(lots, tradable)
        _trade(state, account, position, instrument, side, traded, slot, order_id, event_flags)
        lots -= traded
        if i64(maker["remaining"]) == 0:
            drop_order(state, slot)
        elif traded == tradable:
            cancel_order(state, slot, _REDUCE_ONLY, event_flags)
    put(state, MET, met)
    return lots


@kernel
def _trade(
    state: State,
    account: int,
    position: int,
    instrument: Row,
    side: int,
    lots: int,
    slot: int,
    order_id: int,
    event_flags: int,
) -> None:
    """One fill: fees, both positions, the maker's remainder, the totals and the record."""
    in_line()
    maker = read_order(state, slot)
    price, maker_account = i64(maker["price"]), owner_of(state, maker)
    notional = lots * price * instrument["tick_value"]
    taker_fee = fee_on(notional, instrument["taker_fee_ppm"])
    maker_fee = fee_on(notional, instrument["maker_fee_ppm"])
    record(
        state,
        _FILL,
        0,
        event_flags,
        account,
        maker_account,
        i64(maker["instrument"]),
        side,
        price,
        lots,
        order_id,
        maker["id"],
        maker["client_id"],
        taker_fee,
    )
    signed = lots if side == BUY else -lots
    apply_fill(state, position, instrument, signed, price)
    apply_fill(state, i64(maker["position"]), instrument, -signed, price)
    _charge(state, account, taker_fee)
    _charge(state, maker_account, maker_fee)
    shrink_order(state, slot, lots)
    instrument["last_price"] = price
    instrument["volume"] = running_total(instrument["volume"], lots)
    venue_row(state, 0)["fills"] += 1
    forget_headroom(state)
    put(state, FILLS, get(state, FILLS) + 1)


@kernel
def _charge(state: State, account: int, fee: int) -> None:
    """Move a fee to the fee account, or a rebate from it."""
    in_line()
    payer = write_account(state, account)
    payer["balance"] -= fee
    payer["fees_paid"] = running_total(payer["fees_paid"], fee)
    write_account(state, i64(read_venue(state, 0)["fee_account"]))["balance"] += fee


@kernel
def can_fill(state: State, position: int, number: int, side: int, limit: int, lots: int, order_flags: int) -> bool:
    """Whether an order would trade in full at once. Reduce-only makers are not counted on."""
    out_of_line()
    instrument = read_instrument(state, number)
    price, met = best_opposite(instrument, side), 0
    while crosses(side, limit, price):
        slot = i64(read_level(state, instrument["levels_first"] + price)["first"])
        while slot != 0:
            maker = read_order(state, slot)
            met += 1
            if met > FILLS_PER_COMMAND_MAX:
                return False
            if i64(maker["position"]) == position:  # same account
                if order_flags & STP_CANCEL_TAKER_FLAG:
                    return False
            elif i64(maker["flags"]) & REDUCE_ONLY_FLAG == 0:
                lots -= i64(maker["remaining"])
                if lots <= 0:
                    return True
            slot = i64(read_links(state, slot)["level_next"])
        price = ladder_above(state, instrument, price) if side == BUY else ladder_below(state, instrument, price)
    return False
