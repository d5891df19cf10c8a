"""CANCEL, CANCEL_CLIENT and CANCEL_ALL. They work whatever the price's age: an order can always be pulled."""

from typing import Final

from lockstep.base.limits import CANCELS_PER_COMMAND_MAX, OPEN_ORDERS_PER_ACCOUNT_MAX
from lockstep.venue.book import cancel_order, find_order
from lockstep.venue.client_index import client_order
from lockstep.venue.compiled import i64, in_line, kernel
from lockstep.venue.event import EventKind, EventReason
from lockstep.venue.memory import Row, State, read_account, read_links, read_order, read_venue
from lockstep.venue.record import OUTCOME, record, reject
from lockstep.wire.command import ALL_INSTRUMENTS

_ACCEPTED: Final = int(EventKind.ACCEPTED)
_MALFORMED: Final = int(EventReason.MALFORMED)
_UNKNOWN_ORDER: Final = int(EventReason.UNKNOWN_ORDER)
_UNKNOWN_INSTRUMENT: Final = int(EventReason.UNKNOWN_INSTRUMENT)
_CANCEL_ALL: Final = int(EventReason.CANCEL_ALL)
assert CANCELS_PER_COMMAND_MAX >= OPEN_ORDERS_PER_ACCOUNT_MAX  # so that one command always cancels all


@kernel
def has_order_fields(command: Row) -> bool:
    """Whether a field that only orders have is set."""
    in_line()
    return i64(command["side"]) != 0 or i64(command["tif"]) != 0 or i64(command["flags"]) != 0


@kernel
def cancel(state: State, account: int, command: Row) -> None:
    """Carry out a CANCEL."""
    in_line()
    used = i64(command["instrument"]) | command["price"] | command["size"] | command["client_id"]
    if used != 0 or has_order_fields(command):
        reject(state, account, command, _MALFORMED)
        return
    _cancel_found(state, account, command, find_order(state, account, command["target"]))


@kernel
def cancel_client(state: State, account: int, command: Row) -> None:
    """Carry out a CANCEL_CLIENT."""
    used = i64(command["instrument"]) | command["price"] | command["size"] | command["target"]
    if used != 0 or has_order_fields(command) or command["client_id"] == 0:
        reject(state, account, command, _MALFORMED)
        return
    _cancel_found(state, account, command, client_order(state, account, command["client_id"]))


@kernel
def _cancel_found(state: State, account: int, command: Row, slot: int) -> None:
    if slot == 0:
        reject(state, account, command, _UNKNOWN_ORDER)
    else:
        cancel_order(state, slot, 0, OUTCOME)


@kernel
def cancel_all(state: State, account: int, command: Row) -> None:
    """Carry out a CANCEL_ALL: of one instrument, or of ALL_INSTRUMENTS."""
    number = i64(command["instrument"])
    used = command["price"] | command["size"] | command["client_id"] | command["target"]
    if used != 0 or has_order_fields(command):
        reject(state, account, command, _MALFORMED)
        return
    if number != ALL_INSTRUMENTS and number >= i64(read_venue(state, 0)["instruments"]):
        reject(state, account, command, _UNKNOWN_INSTRUMENT)
        return
    cancelled = cancel_orders(state, account, number, _CANCEL_ALL, 0)
    record(state, _ACCEPTED, 0, OUTCOME, account, 0, number, 0, 0, cancelled, 0, 0, 0, 0)


@kernel
def cancel_orders(state: State, account: int, number: int, reason: int, flags: int) -> int:
    """Cancel the account's orders in instrument `number` (or all), newest first; how many."""
    cancelled = 0
    slot = i64(read_account(state, account)["first_order"])
    while slot != 0:
        order = read_order(state, slot)
        after = i64(read_links(state, slot)["account_next"])
        if number == ALL_INSTRUMENTS or i64(order["instrument"]) == number:
            cancel_order(state, slot, reason, flags)
            cancelled += 1
        slot = after
    return cancelled
