"""What an account needs, and what it has. A full margin model replaces this file: the rest of the engine calls
`affordable`, `free_collateral` and `survey_maintenance` only.

Equity is the balance and the unrealised profit at mark prices. For one instrument, let `up` be the position if all
resting buy orders traded, and `down` if all sell orders did; the initial margin is the larger of

    |up| x mark x rate + what those buys would pay above the mark
    |down| x mark x rate + what those sells would get below the mark

An order is admitted when the account's equity, less the order's largest taker fee, covers the sum over instruments
with the order counted in; or when the order does not raise its instrument's requirement (it only reduces).
Maintenance margin counts the lots held only.

Bounds: |lots| x price x tick value is at most 2^52 for an instrument (genesis checks it, admission keeps it), an
account has at most 64 positions, and balances stay within ±2^62 (see `place`), so every sum here fits an int64.
"""

from typing import Final

from lockstep.venue.arithmetic import portion_up
from lockstep.venue.compiled import i64, kernel
from lockstep.venue.memory import (
    EQUITY,
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
    margin = survey_initial(state, account)
    fee = portion_up(lots * price * instrument["tick_value"], instrument["taker_fee_ppm"])
    return bool(get(state, EQUITY) - fee >= margin - before + after)
