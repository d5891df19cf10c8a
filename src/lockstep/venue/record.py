"""Writing event records."""

from typing import Final

from lockstep.venue.compiled import i64, in_line, kernel, out_of_line
from lockstep.venue.event import EventFlag, EventKind
from lockstep.venue.memory import CAUSE, EVENT_COUNT, Row, State, get, put, write_event

OUTCOME: Final = int(EventFlag.OUTCOME)
_REJECTED: Final = int(EventKind.REJECTED)
_PRICE_MAX: Final = (1 << 32) - 1


@kernel
def record(
    state: State,
    kind: int,
    reason: int,
    flags: int,
    account: int,
    other_account: int,
    instrument: int,
    side: int,
    price: int,
    size: int,
    order_id: int,
    other_order_id: int,
    client_id: int,
    fee: int,
) -> None:
    """Append a record. `run` has made sure that there is room."""
    in_line()
    at = get(state, EVENT_COUNT)
    put(state, EVENT_COUNT, at + 1)
    event = write_event(state, at)
    event["command"] = get(state, CAUSE)
    event["kind"] = kind
    event["reason"] = reason
    event["side"] = side
    event["flags"] = flags
    event["account"] = account
    event["other_account"] = other_account
    event["instrument"] = instrument
    event["price"] = price
    event["order_id"] = order_id
    event["other_order_id"] = other_order_id
    event["client_id"] = client_id
    event["size"] = size
    event["fee"] = fee


@kernel
def reject(state: State, account: int, command: Row, reason: int) -> None:
    """The outcome of a command that changed nothing: its fields as sent, a price that does not fit as 0."""
    out_of_line()
    price = command["price"]
    record(
        state,
        _REJECTED,
        reason,
        OUTCOME,
        account,
        0,
        i64(command["instrument"]),
        i64(command["side"]),
        price if 0 <= price <= _PRICE_MAX else 0,
        command["size"],
        command["target"],
        0,
        command["client_id"],
        0,
    )
