"""TRANSFER, and the bridge's DEPOSIT, WITHDRAW and OPEN_ACCOUNT.

What leaves an account is bounded by its free collateral, which is never more than its balance. Two accounts may have
the same public key: the engine does not search for one.
"""

from typing import Final

from lockstep.base.limits import AMOUNT_MAX, BALANCE_MAX
from lockstep.venue.cancel import has_order_fields
from lockstep.venue.compiled import i64, kernel
from lockstep.venue.event import EventKind, EventReason
from lockstep.venue.margin import STALE_COLLATERAL, forget_headroom, free_collateral
from lockstep.venue.memory import (
    Row,
    State,
    read_account,
    read_venue,
    write_account,
    write_key,
    write_venue,
)
from lockstep.venue.record import OUTCOME, record, reject

_ACCEPTED: Final = int(EventKind.ACCEPTED)
_MALFORMED: Final = int(EventReason.MALFORMED)
_NOT_PERMITTED: Final = int(EventReason.NOT_PERMITTED)
_UNKNOWN_ACCOUNT: Final = int(EventReason.UNKNOWN_ACCOUNT)
_BAD_AMOUNT: Final = int(EventReason.BAD_AMOUNT)
_BALANCE_LIMIT: Final = int(EventReason.BALANCE_LIMIT)
_STALE_PRICE: Final = int(EventReason.STALE_PRICE)
_INSUFFICIENT_COLLATERAL: Final = int(EventReason.INSUFFICIENT_COLLATERAL)
_ACCOUNTS_FULL: Final = int(EventReason.ACCOUNTS_FULL)


@kernel
def _refusal(state: State, account: int, command: Row, bridge_only: bool) -> int:
    """What is wrong with a movement of money, short of the balances, or 0."""
    venue = read_venue(state, 0)
    if i64(command["instrument"]) | command["price"] | command["client_id"] or has_order_fields(command):
        return _MALFORMED
    if bridge_only and account != i64(venue["bridge_account"]):
        return _NOT_PERMITTED
    if not 0 <= command["target"] < i64(venue["accounts"]):
        return _UNKNOWN_ACCOUNT
    if not 0 < command["size"] <= AMOUNT_MAX:
        return _BAD_AMOUNT
    return 0


@kernel
def _refusal_to_pay(state: State, account: int, amount: int) -> int:
    """Why the account can't give up `amount`, or 0."""
    free = free_collateral(state, account)
    if free == STALE_COLLATERAL:
        return _STALE_PRICE
    return _INSUFFICIENT_COLLATERAL if free < amount else 0


@kernel
def _finish(state: State, account: int, command: Row, reason: int) -> None:
    if reason != 0:
        reject(state, account, command, reason)
    else:
        forget_headroom(state)
        record(state, _ACCEPTED, 0, OUTCOME, account, command["target"], 0, 0, 0, command["size"], 0, 0, 0, 0)


@kernel
def transfer(state: State, account: int, command: Row) -> None:
    """Carry out a TRANSFER."""
    amount, receiver = command["size"], command["target"]
    reason = _refusal(state, account, command, False)
    if reason == 0 and read_account(state, receiver)["balance"] + amount > BALANCE_MAX:
        reason = _BALANCE_LIMIT
    if reason == 0:
        reason = _refusal_to_pay(state, account, amount)
    if reason == 0:
        write_account(state, account)["balance"] -= amount
        write_account(state, receiver)["balance"] += amount
    _finish(state, account, command, reason)


@kernel
def deposit(state: State, account: int, command: Row) -> None:
    """Carry out a DEPOSIT: money that the bridge vouches for appears."""
    amount, receiver = command["size"], command["target"]
    reason = _refusal(state, account, command, True)
    if reason == 0:
        total = read_venue(state, 0)["deposited"] + amount
        if max(total, read_account(state, receiver)["balance"] + amount) > BALANCE_MAX:
            reason = _BALANCE_LIMIT
    if reason == 0:
        write_venue(state, 0)["deposited"] += amount
        write_account(state, receiver)["balance"] += amount
    _finish(state, account, command, reason)


@kernel
def withdraw(state: State, account: int, command: Row) -> None:
    """Carry out a WITHDRAW: money leaves the venue from the target account."""
    amount, payer = command["size"], command["target"]
    reason = _refusal(state, account, command, True)
    if reason == 0:
        reason = _refusal_to_pay(state, payer, amount)
    if reason == 0:
        write_venue(state, 0)["deposited"] -= amount
        write_account(state, payer)["balance"] -= amount
    _finish(state, account, command, reason)


@kernel
def open_account(state: State, account: int, command: Row) -> None:
    """Carry out an OPEN_ACCOUNT: the next number, for the key that four fields spell."""
    venue = read_venue(state, 0)
    number = i64(venue["accounts"])
    if i64(command["instrument"]) != 0 or has_order_fields(command):
        reject(state, account, command, _MALFORMED)
    elif account != i64(venue["bridge_account"]):
        reject(state, account, command, _NOT_PERMITTED)
    elif number >= i64(venue["accounts_max"]):
        reject(state, account, command, _ACCOUNTS_FULL)
    else:
        write_venue(state, 0)["accounts"] = number + 1
        write_account(state, number)["opened_height"] = venue["height"]
        key = write_key(state, number)
        key["key_0"] = command["price"]
        key["key_1"] = command["size"]
        key["key_2"] = command["client_id"]
        key["key_3"] = command["target"]
        record(state, _ACCEPTED, 0, OUTCOME, account, number, 0, 0, 0, 0, 0, 0, 0, 0)
