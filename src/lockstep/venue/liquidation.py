"""The maintenance rule. After the commands of a block, a bounded number of accounts is checked, in turn.

A round over all accounts begins when a mark moves. An account whose equity is below its maintenance margin first
loses all its resting orders; then its positions are closed into the book, one after the other and only within the
price band, until it is healthy again. When no position is left and the balance is negative, the insurance account
pays as far as it can; what it can't pay stays as a negative balance, which is counted. An account that could not
be made healthy begins another round, so it is tried again in later blocks.

Accounts that hold a position in a stale instrument are left alone: their equity is not known.
"""

from typing import Final

from lockstep.base.limits import (
    BALANCE_MAX,
    FILLS_PER_COMMAND_MAX,
    POSITIONS_PER_ACCOUNT_MAX,
)
from lockstep.venue.cancel import cancel_orders
from lockstep.venue.compiled import i64, kernel
from lockstep.venue.event import EventFlag, EventKind, EventReason
from lockstep.venue.margin import survey_maintenance
from lockstep.venue.matching import match
from lockstep.venue.memory import (
    EQUITY,
    FILLS,
    MET,
    STALE,
    State,
    get,
    read_account,
    read_instrument,
    read_position,
    read_venue,
    write_account,
    write_position,
    write_venue,
)
from lockstep.venue.positions import close_if_idle
from lockstep.venue.record import record
from lockstep.wire.command import ALL_INSTRUMENTS, Side

ACCOUNTS_PER_BLOCK_MAX: Final = 1_024
"""Accounts checked after one block."""
LIQUIDATIONS_PER_BLOCK_MAX: Final = 16
"""Accounts among them that are liquidated."""
_LIQUIDATION_FLAG: Final = int(EventFlag.LIQUIDATION)
_LIQUIDATION: Final = int(EventReason.LIQUIDATION)
_DEFICIT: Final = int(EventKind.DEFICIT)
_BUY: Final = int(Side.BUY)
_SELL: Final = int(Side.SELL)


@kernel
def is_unhealthy(state: State, account: int) -> bool:
    """Whether the account is to be liquidated, or has a deficit that insurance has not covered."""
    owner = read_account(state, account)
    if i64(owner["first_position"]) == 0:
        return bool(owner["balance"] < 0 or i64(owner["shortfall"]) != 0)
    margin = survey_maintenance(state, account)
    return bool(get(state, STALE) == 0 and get(state, EQUITY) < margin)


@kernel
def liquidate(state: State, account: int) -> None:
    """Cancel, close and cover, as far as the book and the insurance account allow."""
    flags = _LIQUIDATION_FLAG
    cancel_orders(state, account, ALL_INSTRUMENTS, _LIQUIDATION, flags)
    fills_before, makers = get(state, FILLS), i64(FILLS_PER_COMMAND_MAX)
    fee_account = i64(read_venue(state, 0)["fee_account"])
    for _ in range(POSITIONS_PER_ACCOUNT_MAX):
        margin = survey_maintenance(state, account)
        if get(state, EQUITY) >= margin or makers == 0:
            break
        if abs(read_account(state, fee_account)["balance"]) > BALANCE_MAX:
            break  # see `place` on why no balance overflows
        slot = _next_closable(state, account)
        if slot == 0:
            break
        _close(state, account, slot, makers)
        makers -= get(state, MET)
    _cover(state, account)
    if get(state, FILLS) != fills_before:
        write_venue(state, 0)["liquidations"] += 1
    if is_unhealthy(state, account) and i64(read_account(state, account)["shortfall"]) == 0:
        venue = write_venue(state, 0)
        venue["scan_left"] = venue["accounts"]


@kernel
def _next_closable(state: State, account: int) -> int:
    """Slot of the account's first position that the book can take something of within the band, or 0."""
    slot = i64(read_account(state, account)["first_position"])
    while slot != 0:
        position = read_position(state, slot)
        instrument = read_instrument(state, i64(position["instrument"]))
        bid, ask = instrument["best_bid"], instrument["best_ask"]
        if position["size"] > 0 and bid != 0 and bid >= instrument["lowest"]:
            break
        if position["size"] < 0 and ask != 0 and ask <= instrument["highest"]:
            break
        slot = i64(position["next"])
    return slot


@kernel
def _close(state: State, account: int, slot: int, makers: int) -> None:
    """Trade a position against the book, within the band and with at most `makers` makers."""
    position = write_position(state, slot)
    number, size = i64(position["instrument"]), position["size"]
    instrument = read_instrument(state, number)
    side = _SELL if size > 0 else _BUY
    limit = instrument["lowest"] if size > 0 else instrument["highest"]
    position["orders"] = i64(position["orders"]) + 1  # holds the row while it is being closed
    match(state, account, slot, number, side, limit, abs(size), 0, 0, _LIQUIDATION_FLAG, makers)
    position["orders"] = i64(position["orders"]) - 1
    close_if_idle(state, slot)


@kernel
def _cover(state: State, account: int) -> None:
    """Let insurance pay for a negative balance without positions, and count what is left uncovered."""
    owner = write_account(state, account)
    if i64(owner["first_position"]) != 0:
        return
    venue = write_venue(state, 0)
    paid = i64(0)
    insurance = i64(venue["insurance_account"])
    if owner["balance"] < 0 and insurance != account:
        insurer = write_account(state, insurance)
        paid = max(min(-owner["balance"], insurer["balance"]), 0)
        insurer["balance"] -= paid
        owner["balance"] += paid
        venue["insurance_paid"] += paid
    shortfall, before = i64(1 if owner["balance"] < 0 else 0), i64(owner["shortfall"])
    if paid != 0 or shortfall > before:
        uncovered = -min(owner["balance"], 0)
        record(
            state,
            _DEFICIT,
            0,
            _LIQUIDATION_FLAG,
            account,
            insurance,
            0,
            0,
            0,
            paid,
            0,
            0,
            0,
            uncovered,
        )
    venue["shortfalls"] += shortfall - before
    owner["shortfall"] = shortfall
