"""What an account needs, and what it has. A full margin model replaces this file: the rest of the engine calls
`affordable`, `free_collateral` and `survey_maintenance` only.

Equity is the balance and the unrealised profit at mark prices. For one instrument, let `up` be the position if all
resting buy orders traded, and `down` if all sell orders did; the initial margin is the larger of

    |up| x mark x rate + what those buys would pay above the mark
    |down| x mark x rate + what those sells would get below the mark

An order is admitted when the account's equity, less the order's largest taker fee, covers the sum over instruments
with the order counted in; or when the order does not raise its instrument's requirement (it only reduces).
Maintenance margin counts the lots held only.

Most orders are admitted without a look at any position. What an order can add to a requirement is bounded by its own
lots and price (`most_change`), so a lower bound of the account's headroom (equity less initial margin) is kept from
one command of a bundle to the next: HEADROOM. It falls by the bound with every order that the account enters or
loses, and is forgotten when the account trades or moves money, and at the bundle's end. An order that it covers with
certainty is one that the full survey would admit; any other is surveyed. It is no state, and no result depends on it.

Bounds: |lots| x price x tick value is at most 2^52 for an instrument (genesis checks it, admission keeps it), an
account has at most 64 positions, and balances stay within ±2^62 (see `place`), so every sum here fits an int64.
"""

from typing import Final

from lockstep.venue.arithmetic import portion_up
from lockstep.venue.compiled import i64, in_line, kernel, out_of_line
from lockstep.venue.memory import (
    EQUITY,
    HEADROOM,
    HEADROOM_OF,
    STALE,
    Row,
    State,
    get,
    put,
    read_account,
    read_instrument,
    read_position,
)
from lockstep.venue.positions import BUY

STALE_COLLATERAL: Final = -1
"""What `free_collateral` says of an account that holds a position without a fresh price."""


@kernel
def requirement(instrument: Row, size: int, buy: int, sell: int, buy_value: int, sell_value: int) -> int:
    """Initial margin of one instrument, micro-USD: lots held, resting lots each way and their lots x price."""
    mark, lot_value, rate = instrument["mark"], instrument["lot_value"], instrument["initial_margin_ppm"]
    up, down = abs(size + buy), abs(size - sell)
    buys_lose, sells_lose = buy_value - buy * mark, sell * mark - sell_value
    if max(buys_lose, sells_lose) <= 0:
        return portion_up(max(up, down) * lot_value, rate)
    tick_value = instrument["tick_value"]
    up_needs = portion_up(up * lot_value, rate) + max(buys_lose, 0) * tick_value
    down_needs = portion_up(down * lot_value, rate) + max(sells_lose, 0) * tick_value
    return max(up_needs, down_needs)


@kernel
def position_requirement(instrument: Row, position: Row) -> int:
    """`requirement` of a position as it is."""
    return requirement(
        instrument,
        position["size"],
        i64(position["open_buy"]),
        i64(position["open_sell"]),
        position["open_buy_value"],
        position["open_sell_value"],
    )


@kernel
def survey_initial(state: State, account: int) -> int:
    """The account's initial margin, micro-USD; its equity goes to EQUITY, how many of its marks are stale to STALE."""
    owner = read_account(state, account)
    equity, margin, stale = owner["balance"], i64(0), i64(0)
    slot = i64(owner["first_position"])
    while slot != 0:
        position = read_position(state, slot)
        instrument = read_instrument(state, i64(position["instrument"]))
        equity += position["size"] * instrument["lot_value"] - position["entry"]
        margin += position_requirement(instrument, position)
        if position["size"] != 0:
            stale += instrument["stale"]
        slot = i64(position["next"])
    put(state, EQUITY, equity)
    put(state, STALE, stale)
    return margin


@kernel
def survey_maintenance(state: State, account: int) -> int:
    """The account's maintenance margin, and the same registers."""
    owner = read_account(state, account)
    equity, margin, stale = owner["balance"], i64(0), i64(0)
    slot = i64(owner["first_position"])
    while slot != 0:
        position = read_position(state, slot)
        instrument = read_instrument(state, i64(position["instrument"]))
        value = position["size"] * instrument["lot_value"]
        equity += value - position["entry"]
        margin += portion_up(abs(value), instrument["maintenance_margin_ppm"])
        if value != 0:
            stale += instrument["stale"]
        slot = i64(position["next"])
    put(state, EQUITY, equity)
    put(state, STALE, stale)
    return margin


@kernel
def free_collateral(state: State, account: int) -> int:
    """What may be taken out, micro-USD: never more than the balance, so unrealised profit stays. Or a marker."""
    margin = survey_initial(state, account)
    if get(state, STALE) != 0:
        return i64(STALE_COLLATERAL)
    free = min(get(state, EQUITY) - margin, read_account(state, account)["balance"])
    return i64(max(free, 0))


@kernel
def most_change(instrument: Row, lots: int, price: int) -> int:
    """The most by which entering or removing resting lots can raise their instrument's `requirement`, micro-USD.

    Either of its two sums changes by no more than the margin of these lots and their distance from the mark: rounding
    up, a portion of a sum is never more than the sum of the portions.
    """
    in_line()
    return lots * (instrument["lot_margin"] + abs(price - instrument["mark"]) * instrument["tick_value"])


@kernel
def forget_headroom(state: State) -> None:
    """Nothing is known of the headroom any more."""
    put(state, HEADROOM_OF, 0)


@kernel
def lower_headroom(state: State, account: int, instrument: Row, lots: int, price: int) -> None:
    """The account loses resting lots: if its headroom is known, it may be less now."""
    in_line()
    if get(state, HEADROOM_OF) == account + 1:
        left = get(state, HEADROOM) - most_change(instrument, lots, price)
        put(state, HEADROOM, left)
        if left < 0:
            forget_headroom(state)


@kernel
def affordable(
    state: State,
    account: int,
    position_slot: int,
    instrument: Row,
    side: int,
    price: int,
    lots: int,
    replaced_lots: int,
    replaced_price: int,
) -> bool:
    """Whether the account may have this order, in place of a resting one of the same side (0 lots if none).

    `position_slot` is the account's position in the instrument, or 0.
    """
    in_line()
    if get(state, HEADROOM_OF) == account + 1:
        rise, headroom = most_change(instrument, lots, price), get(state, HEADROOM)
        fall = most_change(instrument, replaced_lots, replaced_price)
        if headroom >= rise + fall + lots * instrument["lot_fee"]:
            put(state, HEADROOM, headroom - rise)
            return True
    return _surveyed_affordable(
        state, account, position_slot, instrument, side, price, lots, replaced_lots, replaced_price
    )


@kernel
def _surveyed_affordable(
    state: State,
    account: int,
    position_slot: int,
    instrument: Row,
    side: int,
    price: int,
    lots: int,
    replaced_lots: int,
    replaced_price: int,
) -> bool:
    """The same, worked out from all positions of the account; its headroom is known afterwards."""
    out_of_line()
    size = buy = sell = buy_value = sell_value = before = i64(0)
    if position_slot != 0:
        position = read_position(state, position_slot)
        size, buy, sell = position["size"], i64(position["open_buy"]), i64(position["open_sell"])
        buy_value, sell_value = position["open_buy_value"], position["open_sell_value"]
        before = position_requirement(instrument, position)
    if side == BUY:
        buy += lots - replaced_lots
        buy_value += lots * price - replaced_lots * replaced_price
    else:
        sell += lots - replaced_lots
        sell_value += lots * price - replaced_lots * replaced_price
    after = requirement(instrument, size, buy, sell, buy_value, sell_value)
    if after <= before:
        return True
    margin = survey_initial(state, account) - before + after
    equity = get(state, EQUITY)
    if equity - portion_up(lots * price * instrument["tick_value"], instrument["taker_fee_ppm"]) < margin:
        return False
    put(state, HEADROOM_OF, account + 1)
    put(state, HEADROOM, equity - margin)
    return True
