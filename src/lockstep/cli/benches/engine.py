"""The engine alone: mixed flow through one venue, no network, no signatures, one core.

Four instruments, 128 accounts, about 20,000 resting orders, bundles of 256 commands. Each bundle is half limit orders
around the mark with a client id (GTC, nine in ten passive), a third cancels (two in three by order id, the rest by
client id), one in twenty a replacement, the rest small immediate-or-cancel orders through the spread. Every order
passes the initial-margin check, and every account is checked for maintenance margin as prices move.
Commands are made between the timed blocks, from the orders that rest at that moment.
"""

from dataclasses import dataclass, field
from time import thread_time
from typing import Any, Final

import numpy as np

from lockstep.venue.event import EventKind
from lockstep.venue.schema import BUNDLE_SPAN, ORDERS, POSITIONS, VENUE
from lockstep.venue.venue import Venue
from lockstep.wire.command import COMMAND, Kind, Side, TimeInForce
from lockstep.wire.genesis import Account, Genesis, Instrument, Parameters, Validator
from lockstep.wire.observation import OBSERVATION

INSTRUMENTS: Final = 4
ACCOUNTS: Final = 128
BUNDLE: Final = 256
LIVE_ORDERS: Final = 20_000
PRICE: Final = 30_000
_FIRST_TRADER: Final = 3
_BALANCE: Final = 1 << 50

Array = np.ndarray[Any, Any]


def bench_genesis() -> Genesis:
    """Four instruments of 65,536 ticks and default table sizes."""
    instruments = (
        Instrument(f"BENCH-{i}", 1_000, 65_536, 1 << 20, -50, 300, 50_000, 25_000, 100_000) for i in range(INSTRUMENTS)
    )
    accounts = (Account(i.to_bytes(32, "little"), _BALANCE) for i in range(_FIRST_TRADER + ACCOUNTS))
    validators = (Validator(f"v{i}", bytes([i]) * 32, 1, b"", "", "") for i in range(4))
    return Genesis("bench", 0, tuple(validators), tuple(instruments), tuple(accounts), 0, 1, 2, Parameters())


class Flow:
    """Makes the blocks of a session."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._client_ids = np.zeros(_FIRST_TRADER + ACCOUNTS, np.uint64)
        self.mark = np.full(INSTRUMENTS, PRICE)

    def observations(self, time_ms: int) -> Array:
        """All validators agree; the mark walks a tick or two a block."""
        self.mark += self._random.integers(-2, 3, INSTRUMENTS)
        rows = [(v, i, self.mark[i], time_ms) for v in range(4) for i in range(INSTRUMENTS)]
        return np.array(rows, OBSERVATION)

    def block(self, venue: Venue, commands: int, fill_book: bool = False) -> tuple[Array, Array]:
        """(bundle spans, commands) of one block; `fill_book` leaves only limit orders."""
        bundles = commands // BUNDLE
        spans = np.zeros(bundles, BUNDLE_SPAN)
        spans["account"] = self._random.permutation(ACCOUNTS)[np.arange(bundles) % ACCOUNTS] + _FIRST_TRADER
        spans["count"] = BUNDLE
        spans["first"] = np.arange(bundles) * BUNDLE
        live = venue.rows(ORDERS)
        live = live[live["id"] != 0]
        owners = venue.rows(POSITIONS)["account"][live["position"]]
        by_owner = np.argsort(owners, kind="stable")
        live, owners = live[by_owner], owners[by_owner]
        edges = np.searchsorted(owners, np.arange(_FIRST_TRADER + ACCOUNTS + 1))
        block = np.zeros(commands, COMMAND)
        for span in spans:
            account, first = int(span["account"]), int(span["first"])
            mine = live[edges[account] : edges[account + 1]]
            self._bundle(block[first : first + BUNDLE], account, mine, fill_book)
        return spans, block

    def _bundle(self, rows: Array, account: int, mine: Array, fill_book: bool) -> None:
        draw = self._random
        self._orders(rows, account)
        if fill_book:
            return
        dice = draw.random(BUNDLE)
        takers = dice < 0.12
        rows["tif"][takers] = TimeInForce.IOC
        rows["client_id"][takers] = 0
        rows["price"][takers] = self._prices(rows["instrument"], rows["side"], -4)[takers]
        target = 0.38 * len(mine) * ACCOUNTS / LIVE_ORDERS
        aimed = np.flatnonzero((dice >= 0.12) & (dice < 0.12 + target))[: len(mine)]
        old = mine[draw.permutation(len(mine))[: len(aimed)]]
        for places, kind, column in (
            (slice(0, None, 8), Kind.REPLACE, "target"),
            (slice(1, None, 8), Kind.CANCEL_CLIENT, "client_id"),
            (slice(2, None, 8), Kind.CANCEL_CLIENT, "client_id"),
            *((slice(i, None, 8), Kind.CANCEL, "target") for i in range(3, 8)),
        ):
            chosen = rows[aimed[places]]
            was = old[places]
            fresh = np.zeros(len(chosen), COMMAND)
            fresh["kind"] = kind
            fresh[column] = was["client_id" if column == "client_id" else "id"]
            if kind == Kind.REPLACE:
                fresh["price"], fresh["size"] = was["price"], was["remaining"] + 1
            rows[aimed[places]] = fresh

    def _orders(self, rows: Array, account: int) -> None:
        """Fill `rows` with limit orders."""
        draw = self._random
        rows["kind"] = Kind.PLACE
        rows["side"] = draw.integers(0, 2, BUNDLE)
        rows["instrument"] = draw.integers(0, INSTRUMENTS, BUNDLE)
        rows["size"] = draw.integers(1, 20, BUNDLE)
        rows["price"] = self._prices(rows["instrument"], rows["side"], 1)
        rows["client_id"] = self._client_ids[account] + np.arange(1, BUNDLE + 1, dtype=np.uint64)
        self._client_ids[account] += np.uint64(BUNDLE)

    def _prices(self, instrument: Array, side: Array, offset: int) -> Array:
        """Mark, and a distance away from it that is exponential with a mean of 40 ticks."""
        distance = offset + (self._random.exponential(40, BUNDLE) if offset > 0 else np.zeros(BUNDLE)).astype(np.int64)
        return self.mark[instrument] + np.where(side == Side.BUY, -distance, distance)


@dataclass(slots=True)
class Session:
    """Sums over the timed blocks."""

    commands: int = 0
    blocks: int = 0
    fills: int = 0
    events: int = 0
    engine_s: float = 0.0
    sealed_s: float = 0.0
    kinds: Array = field(default_factory=lambda: np.zeros(8, np.int64))


def run_session(block_commands: int, total: int, seed: int = 7) -> Session:
    """Time `total` commands in blocks of `block_commands`, after filling the books."""
    venue, flow, session = Venue(bench_genesis()), Flow(seed), Session()
    height = 0
    while session.commands < total:
        filling = venue.rows(VENUE)["orders_open"][0] < LIVE_ORDERS and session.blocks == 0
        height += 1
        observations = flow.observations(100 * height)
        spans, commands = flow.block(venue, 5_120 if filling else block_commands, filling)
        begun = thread_time()
        events = venue.run(height, 100 * height, observations, spans, commands)
        ran = thread_time()
        venue.ledger.seal()
        sealed = thread_time()
        venue.commit()
        if not filling:
            _add(session, venue, commands, events)
            session.engine_s += ran - begun
            session.sealed_s += sealed - begun
    return session


def _add(session: Session, venue: Venue, commands: Array, events: Array) -> None:
    session.commands += len(commands)
    session.blocks += 1
    session.fills += int((events["kind"] == EventKind.FILL).sum())
    session.events += len(events)
    session.kinds += np.bincount(events["kind"], minlength=8)


def engine(total: int = 1_200_000) -> dict[str, Any]:
    """Commands/s of the kernels (events and margin included, hashing not), in blocks of 5,120 commands."""
    run_session(5_120, 5_120)
    detail: dict[str, Any] = {}
    for block_commands in (20_480, 5_120):
        session = run_session(block_commands, total)
        detail[f"blocks_of_{block_commands}"] = {
            "commands": session.commands,
            "commands_per_second": round(session.commands / session.engine_s),
            "with_state_hashing": round(session.commands / session.sealed_s),
            "fills": session.fills,
            "records": {kind.name.lower(): int(session.kinds[kind]) for kind in EventKind},
        }
    return {"value": round(session.commands / session.engine_s), "unit": "commands/s", "detail": detail}
