"""The venue: a ledger, and blocks executed on it one after the other."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lockstep.base.digest import digest
from lockstep.base.errors import InvariantBroken
from lockstep.ledger.changes import ChunkSet
from lockstep.ledger.ledger import Ledger
from lockstep.ledger.table import Undo
from lockstep.venue import schema
from lockstep.venue.event import EVENT
from lockstep.venue.founding import found
from lockstep.venue.memory import FILLS, HEIGHT, NEED, TIME_MS, Memory
from lockstep.venue.roster_rows import CHUNKS_MAX, read_roster, turn_epoch, write_roster
from lockstep.venue.run import EVENTS_PER_STEP_MAX, begin_block, run_checks, run_commands
from lockstep.venue.summary import summarise
from lockstep.wire.command import COMMAND
from lockstep.wire.genesis import Genesis
from lockstep.wire.observation import OBSERVATION
from lockstep.wire.roster import Roster
from lockstep.wire.set_change import SetChange

_EVENTS_PER_COMMAND: Final = 2
"""There is room for so many events a command. A block with more events is executed in several stretches."""
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Execution:
    """What a block did."""

    height: int
    state_root: bytes
    events: Array
    """(n,) EVENT rows, in order of command; read only."""
    event_root: bytes
    """BLAKE3 of the events' bytes."""
    opened: tuple[tuple[int, bytes, int], ...]
    """Accounts opened: number, public key, height."""
    fills: int
    instruments: bytes
    """The rows of the `instruments` table as of the end of the block."""

    @property
    def summary(self) -> Array:
        """(instruments,) SUMMARY rows as of the end of the block."""
        return summarise(np.frombuffer(self.instruments, schema.INSTRUMENT_ROW))


class Venue:
    """Executes blocks over its ledger. One thread at a time; kernels release the GIL."""

    def __init__(self, genesis: Genesis, stored: tuple[bytes, Iterable[ChunkSet]] | None = None) -> None:
        """A venue at its genesis, which `check_genesis` has passed; or at a `stored` state, given as the manifest and
        the chunks of all checkpoints. That state is committed. Raises `StorageFailed` when the chunks do not have the
        manifest's hashes."""
        self.ledger = Ledger(schema.layouts(genesis))
        if stored is None:
            self._found(genesis)
        else:
            self.ledger.load(*stored)
        self._memory = Memory(self.ledger.tables)
        row = self.ledger.tables[schema.VENUE].rows
        self._venue = {name: row[name] for name in ("accounts", "orders_used", "positions_used", "change_height")}
        """Columns of the one row of `venue`: read after every block, and by way of the row several times as slow."""
        self._opened_before = len(genesis.accounts)
        self._genesis = genesis

    def _found(self, genesis: Genesis) -> None:
        undo = self.ledger.begin()
        founding_chunks = 64 + sum(
            len(rows) for rows in (genesis.accounts, genesis.validators, genesis.validators, genesis.instruments)
        )
        while len(undo.places) < founding_chunks:
            undo = self.ledger.grow_undo()
        found(genesis, self.ledger.tables, undo)
        self.ledger.seal()
        self.ledger.commit()

    def execute(
        self, height: int, time_ms: int, observations: Array, bundles: Array, commands: Array,
        change: SetChange | None = None,
    ) -> Execution:  # fmt: skip
        """Execute a block in a new epoch and seal it.

        `observations` (OBSERVATION rows), `bundles` (BUNDLE_SPAN rows) and `commands` (COMMAND rows) are those of the
        block, whose signatures, sequences and expiry the caller has checked, like `change`. Raises `InvariantBroken`
        when the bundles do not divide the commands.
        """
        events = self.run(height, time_ms, observations, bundles, commands, change)
        instruments = self.ledger.tables[schema.INSTRUMENTS]
        return Execution(
            height=height,
            state_root=self.ledger.seal(),
            events=events,
            event_root=digest(events.tobytes()),
            opened=self.opened(self._opened_before),
            fills=int(self._memory.registers[FILLS]),
            instruments=instruments.rows[: instruments.count[0]].tobytes(),
        )

    def run(
        self, height: int, time_ms: int, observations: Array, bundles: Array, commands: Array,
        change: SetChange | None = None,
    ) -> Array:  # fmt: skip
        """The part of `execute` before hashing: the block's events, in a new epoch that is not sealed yet."""
        self._opened_before = int(self.ledger.tables[schema.ACCOUNTS].count[0])
        self._memory.use_undo(self.ledger.begin())
        self._memory.use_inputs(
            _columns(observations, OBSERVATION),
            _columns(bundles, schema.BUNDLE_SPAN),
            _columns(commands, COMMAND),
        )
        event_room = _EVENTS_PER_COMMAND * len(commands) + EVENTS_PER_STEP_MAX
        self._memory.make_event_room(event_room)
        registers = self._memory.registers
        registers[HEIGHT], registers[TIME_MS] = height, time_ms
        handle = self._memory.handle
        if not begin_block(handle):
            self.ledger.rollback()
            raise InvariantBroken("the bundles do not divide the block's commands")
        stretches: list[Array] = []
        for kernel in (run_commands, run_checks):
            while kernel(handle):
                if self._memory.event_room < EVENTS_PER_STEP_MAX:
                    stretches.append(self._memory.take_events())
                    self._memory.make_event_room(event_room)
                self._grow_undo()
        stretches.append(self._memory.take_events())
        self._set_counts()
        self._change_validators(height, change)
        return stretches[0] if len(stretches) == 1 else _joined(stretches)

    @property
    def roster(self) -> Roster:
        """The validators, as of the newest block."""
        return read_roster(self.ledger.tables, self._genesis)

    def _change_validators(self, height: int, change: SetChange | None) -> None:
        """At the end of a block: a change of validators is ordered, or one takes effect."""
        tables = self.ledger.tables
        if change is None and not self._venue["change_height"][0] == height > 0:
            return
        undo = self._memory.undo
        while _room(undo) < CHUNKS_MAX:
            undo = self.ledger.grow_undo()
        if change is not None:
            write_roster(tables, undo, height, self._genesis.parameters.epoch_blocks, change)
        else:
            turn_epoch(tables, undo)

    def rollback(self) -> None:
        """Take back the newest block."""
        self.ledger.rollback()

    def commit(self) -> None:
        """Make the oldest block that is not final yet final."""
        self.ledger.commit()

    def rows(self, table: int) -> Array:
        """The used rows of a table (see `schema`), as a view: read only, and only until the next block."""
        state = self.ledger.tables[table]
        view = state.rows[: int(state.count[0])]
        view.flags.writeable = False
        return view

    def opened(self, first: int = 0) -> tuple[tuple[int, bytes, int], ...]:
        """Number, public key and opening height of every account from number `first` on."""
        if first == self.ledger.tables[schema.ACCOUNTS].count[0]:
            return ()
        keys, accounts = self.rows(schema.KEYS)[first:], self.rows(schema.ACCOUNTS)[first:]
        return tuple(
            (first + i, key.tobytes(), int(height))
            for i, (key, height) in enumerate(zip(keys, accounts["opened_height"], strict=True))
        )

    def _grow_undo(self) -> None:
        """More room for pre-images, if that is what the kernel waits for."""
        need = int(self._memory.registers[NEED])
        undo = self._memory.undo
        while _room(undo) < need:
            before = len(undo.places)
            undo = self.ledger.grow_undo()
            if len(undo.places) <= before and _room(undo) < need:
                raise InvariantBroken(f"a command needs room for {need} pre-images, but a segment has {before}")
        self._memory.use_undo(undo)

    def _set_counts(self) -> None:
        venue, tables = self._venue, self.ledger.tables
        tables[schema.ACCOUNTS].count[0] = tables[schema.KEYS].count[0] = venue["accounts"][0]
        tables[schema.ORDERS].count[0] = tables[schema.ORDER_LINKS].count[0] = venue["orders_used"][0] + 1
        tables[schema.POSITIONS].count[0] = venue["positions_used"][0] + 1


def _columns(array: Array, dtype: "np.dtype[Any]") -> Array:
    """As rows of this type, without a copy where they are."""
    return array if array.dtype is dtype else array.astype(dtype)


def _joined(stretches: list[Array]) -> Array:
    """Concatenated as bytes: NumPy would copy structured rows field by field."""
    return np.concatenate([rows.view(np.uint8) for rows in stretches]).view(EVENT)


def _room(undo: Undo) -> int:
    return len(undo.places) - int(undo.used[0])
