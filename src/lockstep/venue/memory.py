"""How kernels reach the tables: through addresses that one small array holds.

A NamedTuple of a dozen tables is five hundred machine words, which Numba copies, with reference counts, at every
call of a helper: measured on a sketch of this engine, 3,400 ns a command and 25 s of compiling, against 40 ns and
2 s this way (docs/decisions/0010-kernels-reach-tables-through-addresses.md). So a compiled kernel gets one integer,
the address of the *registers*: an int64 array with the address of each table and of the block's inputs, and the few
values that kernels pass to each other.

    order = read_order(state, slot)     # the row itself, not a copy
    order = write_order(state, slot)    # the same, after announcing the write to the ledger

The 64-bit columns are signed inside kernels, whatever the table's layout says: mixing signed and unsigned would make
Numba fall back to floating point. Narrower columns are unsigned: lift them with `np.int64` before computing.

With NUMBA_DISABLE_JIT=1 the kernels get the `Memory` itself, and the same accessors index NumPy arrays.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import from_dtype, types

from lockstep.base.limits import INSTRUMENTS_MAX
from lockstep.ledger.table import CHUNK_BYTES, CHUNK_WORDS, Table, Undo, room, touch
from lockstep.venue import schema
from lockstep.venue.compiled import UNCOMPILED, kernel, native, numba, out_of_line
from lockstep.venue.event import EVENT
from lockstep.wire.command import COMMAND
from lockstep.wire.observation import OBSERVATION

# -- registers ---------------------------------------------------------------------------------------
_EPOCH: Final = 0
_UNDO: Final = 1  # addresses of epoch, images, places, used; then the capacity in chunks
_COMMANDS: Final = 8
_SPANS: Final = 9
_SEEN: Final = 10
_EVENTS: Final = 11
SPAN_COUNT: Final = 12
SEEN_COUNT: Final = 13
EVENT_COUNT: Final = 14
EVENT_CAPACITY: Final = 15
SPAN_AT: Final = 16
"""The bundle in work."""
COMMAND_AT: Final = 17
"""The command in work, counted in the block; -1 before a bundle has been begun."""
CAUSE: Final = 18
"""`command` of the records being written."""
FILLS: Final = 19
"""Fills of the block so far."""
NEED: Final = 20
"""Chunks of undo that the kernel waits for."""
STOP: Final = 21
"""Why matching stopped short (an EventReason), or 0."""
MET: Final = 22
"""Makers that matching met."""
SIZE: Final = 23
"""The size that admission granted."""
EQUITY: Final = 24
STALE: Final = 25
"""What `margin.survey_initial` and `survey_maintenance` found."""
VACANCY: Final = 26
"""Where the client id in work could be entered (see `client_index`)."""
COMMAND_COUNT: Final = 27
HEIGHT: Final = 28
TIME_MS: Final = 29
"""Of the block."""
CHECKED: Final = 30
LIQUIDATED: Final = 31
"""Accounts checked and liquidated after this block."""
HEADROOM_OF: Final = 32
"""Number of an account plus one, or 0."""
HEADROOM: Final = 33
"""That account's equity is at least so far above its initial margin, micro-USD (see `margin`)."""
POSITION_MEMO: Final = 34
"""One register an instrument: where the account in work has its position, if known (see `positions`)."""
_TABLES: Final = POSITION_MEMO + INSTRUMENTS_MAX
_BLOCK: Final = slice(SPAN_AT, _TABLES)
"""What begins at 0 in every block."""
_STRIDE: Final = 5  # addresses of rows, marks, count, shape; then the number of chunks
_REGISTERS: Final = _TABLES + schema.TABLES * _STRIDE

State = Any
"""What kernels get: an address, or the `Memory` when uncompiled."""
Row = Any
"""One row of a table, writable in place."""


def _signed(dtype: "np.dtype[Any]") -> "np.dtype[Any]":
    """The layout as kernels see it: 64-bit columns signed."""
    fields = dtype.fields
    assert fields is not None and dtype.names is not None
    formats = [fields[name][0] for name in dtype.names]
    signed = ["<i8" if f == np.dtype("<u8") else f for f in formats]
    offsets = [fields[name][1] for name in dtype.names]
    return np.dtype({"names": dtype.names, "formats": signed, "offsets": offsets, "itemsize": dtype.itemsize})


_SIGNED: Final = {dtype: _signed(dtype) for dtype in (EVENT, COMMAND, OBSERVATION, schema.BUNDLE_SPAN)}


def _address(array: "np.ndarray[Any, Any]") -> int:
    address: int = array.ctypes.data  # `__array_interface__` would spell out the row's layout each time
    return address


_COPIED_BYTES_MAX: Final = 16 * 1024
"""So much is copied sooner than NumPy tells an array's address (2 to 20 us)."""


class Memory:
    """The arrays of one venue, and the registers that lead to them."""

    def __init__(self, tables: tuple[Table, ...]) -> None:
        self.registers = np.zeros(_REGISTERS, np.int64)
        self.tables = tables
        self.arrays: dict[int, np.ndarray[Any, Any]] = {}
        self._inputs = dict.fromkeys((_SEEN, _SPANS, _COMMANDS), memoryview(bytearray()))
        self._events = np.zeros(0, EVENT)
        self._undos: dict[int, tuple[Undo, Any]] = {}
        self.handle: State = self if UNCOMPILED else _address(self.registers)
        """The argument of every entry kernel."""
        for number, table in enumerate(tables):
            base = _TABLES + number * _STRIDE
            parts = (table.rows, table.mark, table.count, table.shape)
            self.registers[base : base + 4] = [_address(part) for part in parts]
            self.registers[base + 4] = len(table.words)
            self.arrays[base] = table.rows.view(_signed(table.rows.dtype))

    def use_undo(self, undo: Undo) -> None:
        """Write through this undo segment from now on."""
        self.undo = undo
        self.registers[_EPOCH] = undo.epoch[0]
        _, self.registers[_UNDO : _UNDO + 5] = self._known_undo(undo)

    def _known_undo(self, undo: Undo) -> tuple[Undo, Any]:
        """The segment's addresses, looked up once: the ledger uses its segments again and again."""
        known = self._undos.get(id(undo))
        if known is None:
            parts = (undo.epoch, undo.images, undo.places, undo.used)
            registers = np.array([*map(_address, parts), len(undo.places)], np.int64)
            known = self._undos[id(undo)] = (undo, registers)  # kept alive, so that its id stays its own
        return known

    def use_inputs(self, seen: Any, spans: Any, commands: Any) -> None:
        """Take a block's observations, bundles and commands."""
        self._take_in(_SEEN, seen)
        self._take_in(_SPANS, spans)
        self._take_in(_COMMANDS, commands)
        self.registers[_BLOCK] = 0
        self.registers[SEEN_COUNT], self.registers[SPAN_COUNT] = len(seen), len(spans)
        self.registers[COMMAND_COUNT], self.registers[COMMAND_AT] = len(commands), -1

    def make_event_room(self, records: int) -> None:
        """Have room for at least so many event records."""
        if records > len(self._events):
            self._events = np.empty(records, EVENT)  # pages that are not written cost nothing
            self._use(_EVENTS, self._events)
            self.registers[EVENT_CAPACITY] = records

    @property
    def event_room(self) -> int:
        """How many more records fit."""
        return int(self.registers[EVENT_CAPACITY] - self.registers[EVENT_COUNT])

    def take_events(self) -> Any:
        """The records written since this was last called, read only. Ask for room before any are written again."""
        events = self._events[: self.registers[EVENT_COUNT]]
        self.registers[EVENT_COUNT] = 0
        if events.nbytes <= _COPIED_BYTES_MAX:
            return np.frombuffer(events.tobytes(), EVENT)
        self._events = np.zeros(0, EVENT)  # given away
        self.registers[EVENT_CAPACITY] = 0
        events.flags.writeable = False
        return events

    def _take_in(self, register: int, rows: Any) -> None:
        """Copied to where its kind lies for good, if it is small; else used where it is, and kept alive."""
        if rows.nbytes > _COPIED_BYTES_MAX:
            self._inputs[register] = memoryview(bytearray())
            self._use(register, np.ascontiguousarray(rows))
            return
        data = rows.tobytes()
        if len(data) > len(self._inputs[register]):
            room = np.empty(len(rows), rows.dtype)
            self._use(register, room)
            self._inputs[register] = room.view(np.uint8).data
        self._inputs[register][: len(data)] = data

    def _use(self, register: int, array: Any) -> None:
        self.arrays[register] = array.view(_SIGNED[array.dtype]) if UNCOMPILED else array
        self.registers[register] = _address(array)


_carray: Final = numba.carray

# -- compiled access -----------------------------------------------------------------------------------

_I64: Final = ir.IntType(64)


def _emit_register(builder: Any, state: Any, register: Any) -> Any:
    return builder.inttoptr(builder.add(state, builder.mul(register, _I64(8))), _I64.as_pointer())


def _emit_constant(builder: Any, state: Any, register: Any) -> Any:
    """Load a register that no kernel changes: LLVM may keep the value across stores and calls."""
    value = builder.load(_emit_register(builder, state, register))
    value.set_metadata("invariant.load", builder.module.add_metadata([]))
    return value


@native
def _get_compiled(typingctx: Any, state: Any, number: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_emit_register(builder, *arguments))

    return types.int64(types.int64, types.int64), codegen


@native
def _set_compiled(typingctx: Any, state: Any, number: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _emit_register(builder, *arguments[:2]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@native
def _pointer(typingctx: Any, address: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), codegen


def _row_intrinsic(register: int, dtype: "np.dtype[Any]") -> Any:
    record = from_dtype(_signed(dtype))

    @native
    def row_at(typingctx: Any, state: Any, row: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            base = _emit_constant(builder, arguments[0], _I64(register))
            place = builder.add(base, builder.mul(arguments[1], _I64(dtype.itemsize)))
            return builder.inttoptr(place, context.get_value_type(record))

        return record(types.int64, types.int64), codegen

    return row_at


@native
def _is_saved(typingctx: Any, state: Any, marks: Any, chunk: Any) -> Any:
    """Whether the mark of a chunk is the present epoch, so that its pre-image is saved."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        state, marks, chunk = arguments
        base = _emit_constant(builder, state, marks)
        place = builder.add(base, builder.mul(chunk, _I64(4)))
        mark = builder.load(builder.inttoptr(place, ir.IntType(32).as_pointer()))
        epoch = _emit_constant(builder, state, _I64(_EPOCH))
        return builder.icmp_unsigned("==", builder.zext(mark, _I64), epoch)

    return types.boolean(types.int64, types.int64, types.int64), codegen


@kernel
def _save(state: State, base: int, row: int) -> None:
    """The first write to a chunk in an epoch: hand it to the ledger's `touch`."""
    out_of_line()
    chunks = _get_compiled(state, base + 4)
    words = _carray(_pointer(_get_compiled(state, base)), (chunks, CHUNK_WORDS), np.uint64)
    mark = _carray(_pointer(_get_compiled(state, base + 1)), (chunks,), np.uint32)
    count = _carray(_pointer(_get_compiled(state, base + 2)), (1,), np.int64)
    shape = _carray(_pointer(_get_compiled(state, base + 3)), (2,), np.int64)
    capacity = _get_compiled(state, _UNDO + 4)
    epoch = _carray(_pointer(_get_compiled(state, _UNDO)), (1,), np.uint32)
    images = _carray(_pointer(_get_compiled(state, _UNDO + 1)), (capacity, CHUNK_WORDS), np.uint64)
    places = _carray(_pointer(_get_compiled(state, _UNDO + 2)), (capacity, 2), np.int32)
    used = _carray(_pointer(_get_compiled(state, _UNDO + 3)), (1,), np.int64)
    touch(Table(words, words, mark, count, shape), Undo(epoch, images, places, used), row)


def _compiled_write(number: int, dtype: "np.dtype[Any]", row_at: Any) -> Any:
    base = _TABLES + number * _STRIDE
    log2_rows = (CHUNK_BYTES // dtype.itemsize).bit_length() - 1

    @kernel
    def write(state: State, row: int) -> Row:
        if not _is_saved(state, base + 1, row >> log2_rows):
            _save(state, base, row)
        return row_at(state, row)

    return write


@native
def _undo_used(typingctx: Any, state: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _emit_constant(builder, arguments[0], _I64(_UNDO + 3))
        return builder.load(builder.inttoptr(place, _I64.as_pointer()))

    return types.int64(types.int64), codegen


@kernel
def _room_compiled(state: State) -> int:
    return _get_compiled(state, _UNDO + 4) - _undo_used(state)


# -- what kernels call -----------------------------------------------------------------------------------

Access = Callable[[State, Any], Row]


def _input(register: int, dtype: "np.dtype[Any]") -> Access:
    def row_at(state: State, row: Any) -> Row:
        return state.arrays[register][row]

    return row_at if UNCOMPILED else _row_intrinsic(register, dtype)


def _table(number: int) -> tuple[Access, Access]:
    """The pair (read, write) of a table."""
    dtype = schema.ROWS[number][1]
    read = _input(_TABLES + number * _STRIDE, dtype)

    def write(state: State, row: Any) -> Row:
        touch(state.tables[number], state.undo, row)
        return read(state, row)

    return read, (write if UNCOMPILED else _compiled_write(number, dtype, read))


def _get(state: State, number: int) -> Any:
    return state.registers[number]


def _set(state: State, number: int, value: Any) -> None:
    state.registers[number] = value


def _room(state: State) -> Any:
    return room(state.undo)


undo_room: Final = _room if UNCOMPILED else _room_compiled
"""undo_room(state) -> chunks that can still be saved"""
get: Final = _get if UNCOMPILED else _get_compiled
"""get(state, register) -> int64"""
put: Final = _set if UNCOMPILED else _set_compiled
"""put(state, register, value)"""

read_venue, write_venue = _table(schema.VENUE)
venue_row: Final = read_venue
"""The one row of `venue`, to write to: `begin_block` has announced that for the whole block."""
read_instrument, write_instrument = _table(schema.INSTRUMENTS)
read_validator, write_validator = _table(schema.VALIDATORS)
read_observation, write_observation = _table(schema.OBSERVATIONS)
read_account, write_account = _table(schema.ACCOUNTS)
read_key, write_key = _table(schema.KEYS)
read_order, write_order = _table(schema.ORDERS)
read_links, write_links = _table(schema.ORDER_LINKS)
read_level, write_level = _table(schema.LEVELS)
read_ladder, write_ladder = _table(schema.LADDER)
read_client_id, write_client_id = _table(schema.CLIENT_IDS)
read_position, write_position = _table(schema.POSITIONS)

read_command: Final = _input(_COMMANDS, COMMAND)
read_span: Final = _input(_SPANS, schema.BUNDLE_SPAN)
read_seen: Final = _input(_SEEN, OBSERVATION)
write_event: Final = _input(_EVENTS, EVENT)
