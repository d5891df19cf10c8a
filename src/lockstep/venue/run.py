"""The entry kernels: what Python calls for a block. Each takes `Memory.handle`.

`run_commands` and `run_checks` stop early, with True, when the event buffer or the undo segment may be too small for
the next step (NEED then says how many chunks that step may dirty). The caller makes room and calls again; they go on
where they stopped. So nothing is checked inside a step, and no step is ever half done.
"""

from typing import Final

from lockstep.base.limits import FILLS_PER_COMMAND_MAX, OPEN_ORDERS_PER_ACCOUNT_MAX
from lockstep.venue.cancel import cancel, cancel_all, cancel_client
from lockstep.venue.compiled import entry_kernel, i64, in_line, kernel
from lockstep.venue.event import SYSTEM, EventReason
from lockstep.venue.liquidation import (
    ACCOUNTS_PER_BLOCK_MAX,
    LIQUIDATIONS_PER_BLOCK_MAX,
    is_unhealthy,
    liquidate,
)
from lockstep.venue.margin import forget_headroom
from lockstep.venue.marks import set_marks, take_observations
from lockstep.venue.memory import (
    CAUSE,
    CHECKED,
    COMMAND_AT,
    COMMAND_COUNT,
    EVENT_CAPACITY,
    EVENT_COUNT,
    HEIGHT,
    LIQUIDATED,
    NEED,
    SPAN_AT,
    SPAN_COUNT,
    TIME_MS,
    Row,
    State,
    get,
    put,
    read_account,
    read_command,
    read_span,
    read_venue,
    undo_room,
    venue_row,
    write_account,
    write_venue,
)
from lockstep.venue.money import deposit, open_account, transfer, withdraw
from lockstep.venue.place import place, replace
from lockstep.venue.record import reject
from lockstep.wire.command import Kind

_PLACE: Final = int(Kind.PLACE)
_CANCEL: Final = int(Kind.CANCEL)
_CANCEL_CLIENT: Final = int(Kind.CANCEL_CLIENT)
_CANCEL_ALL: Final = int(Kind.CANCEL_ALL)
_REPLACE: Final = int(Kind.REPLACE)
_TRANSFER: Final = int(Kind.TRANSFER)
_DEPOSIT: Final = int(Kind.DEPOSIT)
_WITHDRAW: Final = int(Kind.WITHDRAW)
_OPEN_ACCOUNT: Final = int(Kind.OPEN_ACCOUNT)
_MALFORMED: Final = int(EventReason.MALFORMED)
_UNKNOWN_ACCOUNT: Final = int(EventReason.UNKNOWN_ACCOUNT)

_CHUNKS_PER_ORDER: Final = 17
"""Chunks that a fill or cancellation may dirty: the order, its links, those of two neighbours in each of its two lists,
its level, four ladder words, its client id's bucket, its position, the account's position before it, its account, its
instrument, and one to spare."""
_CHUNKS_ELSE: Final = 64
"""The same for everything else that one command may touch."""
_MATCHING_CHUNKS: Final = FILLS_PER_COMMAND_MAX * _CHUNKS_PER_ORDER + _CHUNKS_ELSE
_MATCHING_EVENTS: Final = 2 * FILLS_PER_COMMAND_MAX + 2
_CHECK_CHUNKS: Final = OPEN_ORDERS_PER_ACCOUNT_MAX * _CHUNKS_PER_ORDER + _MATCHING_CHUNKS
_CHECK_EVENTS: Final = OPEN_ORDERS_PER_ACCOUNT_MAX + _MATCHING_EVENTS
EVENTS_PER_STEP_MAX: Final = _CHECK_EVENTS
"""An event buffer must be longer than this."""


@kernel
def _has_room(state: State, chunks: int, events: int) -> bool:
    in_line()
    put(state, NEED, chunks)
    return undo_room(state) >= chunks and get(state, EVENT_CAPACITY) - get(state, EVENT_COUNT) >= events


@kernel
def _has_room_for(state: State, kind: int, account: int, known: bool) -> bool:
    """Whether a command of this kind surely fits."""
    in_line()
    if kind in (_PLACE, _REPLACE):
        return _has_room(state, _MATCHING_CHUNKS, _MATCHING_EVENTS)
    if kind == _CANCEL_ALL and known:
        orders = i64(read_account(state, account)["open_orders"])
        return _has_room(state, orders * _CHUNKS_PER_ORDER + _CHUNKS_ELSE, orders + 1)
    return _has_room(state, _CHUNKS_ELSE, 1)


@kernel
def _execute(state: State, account: int, kind: int, command: Row) -> None:
    """Carry out one command. It leaves exactly one record with the OUTCOME bit."""
    in_line()
    if kind == _PLACE:
        place(state, account, command)
    elif kind == _CANCEL:
        cancel(state, account, command)
    elif kind == _REPLACE:
        replace(state, account, command)
    elif kind == _CANCEL_CLIENT:
        cancel_client(state, account, command)
    elif kind == _CANCEL_ALL:
        cancel_all(state, account, command)
    elif kind == _TRANSFER:
        transfer(state, account, command)
    elif kind == _DEPOSIT:
        deposit(state, account, command)
    elif kind == _WITHDRAW:
        withdraw(state, account, command)
    elif kind == _OPEN_ACCOUNT:
        open_account(state, account, command)
    else:
        reject(state, account, command, _MALFORMED)


@entry_kernel
def run_commands(state: State) -> bool:
    """Carry out the block's commands, bundle by bundle."""
    at = get(state, COMMAND_AT)
    for span_at in range(get(state, SPAN_AT), get(state, SPAN_COUNT)):
        span = read_span(state, span_at)
        account, first = i64(span["account"]), i64(span["first"])
        forget_headroom(state)
        known = account < i64(read_venue(state, 0)["accounts"])
        if at < first:
            if not _has_room(state, _CHUNKS_ELSE, 1):
                return True
            at = first
            if known:
                write_account(state, account)["next_sequence"] = span["sequence"] + 1
        end = first + i64(span["count"])
        while at < end:
            command = read_command(state, at)
            kind = i64(command["kind"])
            put(state, COMMAND_AT, at)
            if not _has_room_for(state, kind, account, known):
                return True
            put(state, CAUSE, at)
            if known:
                _execute(state, account, kind, command)
            else:
                reject(state, account, command, _UNKNOWN_ACCOUNT)
            at += 1
        venue_row(state, 0)["commands"] += i64(span["count"])
        put(state, SPAN_AT, span_at + 1)
        at = i64(-1)
        put(state, COMMAND_AT, at)
    return False


@kernel
def _spans_cover_commands(state: State) -> bool:
    """Whether the bundles follow each other and take up all commands."""
    at = i64(0)
    for span_at in range(get(state, SPAN_COUNT)):
        span = read_span(state, span_at)
        if i64(span["first"]) != at:
            return False
        at += i64(span["count"])
    return at == get(state, COMMAND_COUNT)


@entry_kernel
def begin_block(state: State) -> bool:
    """Write the block's height and time, and bring prices up to date. False when the bundles do not divide the
    commands: then nothing is done."""
    if not _spans_cover_commands(state):
        return False
    venue = write_venue(state, 0)
    venue["height"] = get(state, HEIGHT)
    venue["time_ms"] = get(state, TIME_MS)
    take_observations(state)
    set_marks(state)
    return True


@entry_kernel
def run_checks(state: State) -> bool:
    """Check the accounts whose turn it is, and liquidate."""
    venue = write_venue(state, 0)
    put(state, CAUSE, SYSTEM)
    forget_headroom(state)
    while i64(venue["scan_left"]) > 0 and get(state, CHECKED) < ACCOUNTS_PER_BLOCK_MAX:
        account = i64(venue["scan_cursor"])
        if account >= i64(venue["accounts"]):
            account = i64(0)
        unhealthy = is_unhealthy(state, account)
        if unhealthy:
            if get(state, LIQUIDATED) == LIQUIDATIONS_PER_BLOCK_MAX:
                return False
            if not _has_room(state, _CHECK_CHUNKS, _CHECK_EVENTS):
                return True
            put(state, LIQUIDATED, get(state, LIQUIDATED) + 1)
        venue["scan_cursor"] = account + 1
        venue["scan_left"] = i64(venue["scan_left"]) - 1
        put(state, CHECKED, get(state, CHECKED) + 1)
        if unhealthy:
            liquidate(state, account)
    return False
