"""Positions: one row for each account and instrument with lots held or orders resting.

A position's `entry` is the signed cost of its lots, so its unrealised profit is size x mark x tick value - entry. A
fill adds lots x price x tick value to the entry; where it closes lots, the closed share of the entry is taken out,
and what the lots fetched above it moves to the balance. So for every fill the change of (balance - entry) is minus
the signed cash, which over buyer and seller is zero: money is conserved whatever the rounding.
"""

from typing import Final

from lockstep.venue.arithmetic import running_total, share
from lockstep.venue.compiled import i64, in_line, kernel, out_of_line
from lockstep.venue.memory import (
    POSITION_MEMO,
    SPAN_AT,
    Row,
    State,
    get,
    put,
    read_account,
    read_position,
    read_venue,
    venue_row,
    write_account,
    write_position,
)

BUY: Final = 0
_SLOT_BITS: Final = 32
_SLOT_MASK: Final = (1 << _SLOT_BITS) - 1


@kernel
def find_position(state: State, account: int, number: int) -> int:
    """Slot of the position that the account in work has in instrument `number`, or 0.

    It is remembered for the other commands of the bundle, under the bundle's number in the block.
    """
    in_line()
    bundle = get(state, SPAN_AT) + 1
    known = get(state, POSITION_MEMO + number)
    if known >> _SLOT_BITS == bundle:
        return known & _SLOT_MASK
    slot = i64(read_account(state, account)["first_position"])
    while slot != 0:
        position = read_position(state, slot)
        if i64(position["instrument"]) == number:
            put(state, POSITION_MEMO + number, bundle << _SLOT_BITS | slot)
            break
        slot = i64(position["next"])
    return slot


@kernel
def has_position_slot(state: State) -> bool:
    """Whether the venue has room for another position."""
    venue = read_venue(state, 0)
    return i64(venue["positions_free"]) != 0 or i64(venue["positions_used"]) + 1 < i64(venue["positions_max"])


@kernel
def open_position(state: State, account: int, number: int) -> int:
    """A new, empty position; its slot."""
    venue = venue_row(state, 0)
    slot = i64(venue["positions_free"])
    if slot != 0:
        venue["positions_free"] = read_position(state, slot)["next"]
    else:
        slot = i64(venue["positions_used"]) + 1
        venue["positions_used"] = slot
    owner = write_account(state, account)
    position = write_position(state, slot)
    position["size"] = 0
    position["entry"] = 0
    position["realised"] = 0
    position["open_buy_value"] = 0
    position["open_sell_value"] = 0
    position["open_buy"] = 0
    position["open_sell"] = 0
    position["orders"] = 0
    position["account"] = account
    position["instrument"] = number
    position["next"] = owner["first_position"]
    owner["first_position"] = slot
    owner["positions"] = i64(owner["positions"]) + 1
    return slot


@kernel
def close_if_idle(state: State, slot: int) -> None:
    """Give the row back when it holds neither lots nor orders."""
    in_line()
    position = read_position(state, slot)
    if position["size"] == 0 and i64(position["orders"]) == 0:
        _close(state, slot)


@kernel
def _close(state: State, slot: int) -> None:
    out_of_line()
    position = write_position(state, slot)
    put(state, POSITION_MEMO + i64(position["instrument"]), 0)
    owner = write_account(state, i64(position["account"]))
    owner["positions"] = i64(owner["positions"]) - 1
    if i64(owner["first_position"]) == slot:
        owner["first_position"] = position["next"]
    else:
        before = i64(owner["first_position"])
        while i64(read_position(state, before)["next"]) != slot:
            before = i64(read_position(state, before)["next"])
        write_position(state, before)["next"] = position["next"]
    venue = venue_row(state, 0)
    position["next"] = venue["positions_free"]
    venue["positions_free"] = slot


@kernel
def add_open_lots(position: Row, side: int, lots: int, price: int) -> None:
    """Count resting lots in, or out when `lots` is negative. The caller has announced the write."""
    in_line()
    if side == BUY:
        position["open_buy"] = i64(position["open_buy"]) + lots
        position["open_buy_value"] += lots * price
    else:
        position["open_sell"] = i64(position["open_sell"]) + lots
        position["open_sell_value"] += lots * price


@kernel
def reducible(position: Row, side: int) -> int:
    """Lots that an order of this side would close, 0 if none."""
    in_line()
    size = position["size"]
    return max(-size if side == BUY else size, 0)


@kernel
def apply_fill(state: State, slot: int, instrument: Row, lots: int, price: int) -> None:
    """Add signed `lots` bought (or sold) at `price` to a position; profit realised goes to the account's balance."""
    position = write_position(state, slot)
    size = position["size"]
    per_lot = price * instrument["tick_value"]
    entry = position["entry"]
    sign = 1 if size > 0 else -1
    closing = min(abs(lots), abs(size)) if (lots > 0) != (size > 0) and size != 0 else 0
    if closing != 0:
        taken = share(abs(entry), closing, abs(size))
        profit = sign * (closing * per_lot - taken)
        entry -= sign * taken
        position["realised"] = running_total(position["realised"], profit)
        owner = write_account(state, i64(position["account"]))
        owner["balance"] += profit
        owner["realised"] = running_total(owner["realised"], profit)
    opening = lots + sign * closing
    position["entry"] = entry + opening * per_lot
    position["size"] = size + lots
    instrument["open_interest"] += max(size + lots, 0) - max(size, 0)
