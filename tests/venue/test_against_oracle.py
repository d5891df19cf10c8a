"""The engine and the oracle run the same blocks: their records must be equal byte for byte, their states in content."""

from dataclasses import dataclass, field

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.base.limits import AMOUNT_MAX
from lockstep.simulator.checkers.oracle import Oracle
from lockstep.venue import schema
from lockstep.venue.event import EventKind, EventReason
from lockstep.wire.command import ALL_INSTRUMENTS, Kind
from lockstep.wire.genesis import Account, Genesis
from lockstep.wire.observation import OBSERVATION
from tests.support.venue_invariants import check_invariants, check_outcomes
from tests.support.venue_market import (
    PRICE,
    Bundle,
    Command,
    Market,
    cancel,
    cancel_all,
    command,
    instrument,
    place,
    replace,
    rows_of,
    small_genesis,
    spans_of,
)

ACCOUNTS = 7
BALANCES = (50_000_000, 0, 300_000, 40_000_000, 40_000_000, 9_000_000, 2_000_000)

GENESIS = small_genesis(
    instruments=(
        instrument(position_lots_max=400),
        instrument(
            tick_value=7,
            maker_fee_ppm=20,
            price_band_ppm=30_000,
            initial_margin_ppm=20_000,
            maintenance_margin_ppm=10_000,
        ),
        instrument(tick_value=1, taker_fee_ppm=0, maker_fee_ppm=0, maintenance_margin_ppm=100_000),
    ),
    balances=BALANCES,
)
POOR = msgspec.structs.replace(
    GENESIS,
    accounts=tuple(
        Account(bytes(32), balance) for balance in (50_000_000, 0, 300_000, 2_000_000, 3_000_000, 900_000, 1_500_000)
    ),
)


class Pair:
    """Both engines, in step."""

    def __init__(self, genesis: Genesis = GENESIS) -> None:
        self.market = Market(genesis)
        self.oracle = Oracle(genesis)
        self.ids: list[int] = []
        """Order ids that ever rested."""
        self.reasons: set[tuple[int, int]] = set()

    def block(self, observations: np.ndarray, *bundles: Bundle) -> np.ndarray:
        """Run a block on both, and compare."""
        execution = self.market.block(*bundles, observations=observations)
        commands = rows_of(one for _, commands in bundles for one in commands)
        spans = spans_of(bundles, self.market.height)
        expected = self.oracle.block(self.market.time_ms, observations, spans, commands)
        assert execution.events.tolist() == expected.tolist()
        assert execution.events.tobytes() == expected.tobytes()
        assert execution.fills == self.oracle.fills
        check_outcomes(execution.events, len(commands))
        check_invariants(self.market.venue)
        self.compare()
        rested = execution.events[execution.events["kind"] == EventKind.RESTED]
        self.ids += rested["order_id"].tolist()
        self.reasons |= set(zip(execution.events["kind"].tolist(), execution.events["reason"].tolist(), strict=True))
        return execution.events

    def compare(self) -> None:
        """Balances, positions, orders in order of priority, marks."""
        accounts = self.market.venue.rows(schema.ACCOUNTS)
        assert accounts["balance"].tolist() == [a.balance for a in self.oracle.accounts]
        assert accounts["next_sequence"].tolist() == [a.next_sequence for a in self.oracle.accounts]
        for number, account in enumerate(self.oracle.accounts):
            for position in account.positions:
                row = self.market.position(number, position.number)
                assert (int(row["size"]), int(row["entry"])) == (position.size, position.entry)
        orders, levels = self.market.venue.rows(schema.ORDERS), self.market.venue.rows(schema.LEVELS)
        links = self.market.venue.rows(schema.ORDER_LINKS)
        for number, book in enumerate(self.oracle.books):
            row = self.market.instrument(number)
            assert bool(row["stale"]) == book.stale and int(row["mark"]) == book.mark
            for price, queue in book.queues.items():
                slot = int(levels[int(row["levels_first"]) + price]["first"])
                for order in queue:
                    found = orders[slot]
                    assert (int(found["id"]), int(found["remaining"])) == (order.id, order.lots)
                    slot = int(links[slot]["level_next"])
                assert slot == 0


prices = st.one_of(st.integers(PRICE - 12, PRICE + 12), st.sampled_from([-1, 0, 1, 700, 1300, 4095, 4096, 1 << 40]))
sizes = st.one_of(st.integers(1, 30), st.sampled_from([-1, 0, 100, 399, 400, 401, 10_000, 1 << 62]))
client_ids = st.one_of(st.just(0), st.integers(1, 6), st.sampled_from([1 << 63, (1 << 64) - 1]))
flags = st.sampled_from([0, 0, 0, 1, 2, 2, 4, 6, 3, 8])
tifs = st.sampled_from([0, 0, 0, 1, 1, 2, 3])
numbers = st.sampled_from([0, 0, 1, 2, 3])
picks = st.integers(0, 40)
accounts = st.integers(0, ACCOUNTS + 1)
amounts = st.one_of(st.integers(-1, 60_000_000), st.sampled_from([AMOUNT_MAX, AMOUNT_MAX + 1]))

places = st.builds(
    lambda side, price, size, tif, flag, number, client_id: place(
        side, price, size, tif, flag, instrument=number, client_id=client_id
    ),
    st.sampled_from([0, 0, 0, 1, 1, 1, 2]), prices, sizes, tifs, flags, numbers, client_ids,
)  # fmt: skip
money = st.builds(
    lambda kind, size, target: command(kind, size=size, target=target),
    st.sampled_from([Kind.TRANSFER, Kind.DEPOSIT, Kind.WITHDRAW]), amounts, accounts,
)  # fmt: skip
opens = st.builds(lambda words: command(Kind.OPEN_ACCOUNT, **words), st.fixed_dictionaries(
    {"price": st.integers(0, 1 << 62), "size": st.just(5), "client_id": st.just(6), "target": st.just(7)}
))  # fmt: skip
noise = st.tuples(
    st.integers(0, 11), *[st.integers(0, 1)] * 4, *[st.integers(0, 2)] * 4,
)  # fmt: skip


@dataclass(frozen=True)
class Aimed:
    """A command at an order that rested earlier: which one is known only when it is run."""

    kind: int
    pick: int
    price: int
    size: int
    tif: int = field(default=0)
    flags: int = field(default=0)
    client_id: int = field(default=0)

    def resolve(self, ids: list[int]) -> Command:
        order_id = ids[-1 - self.pick % len(ids)] if ids else self.pick
        if self.kind == Kind.CANCEL:
            return cancel(order_id)
        return replace(order_id, self.price, self.size, self.tif, self.flags, self.client_id)


aimed = st.builds(Aimed, st.sampled_from([Kind.CANCEL, Kind.REPLACE]), picks, prices, sizes, tifs, flags, client_ids)
others = st.one_of(
    st.builds(lambda c: command(Kind.CANCEL_CLIENT, client_id=c), client_ids),
    st.builds(cancel_all, st.sampled_from([0, 1, 5, ALL_INSTRUMENTS])),
    money, opens, noise,
)  # fmt: skip
commands = st.one_of(places, places, places, aimed, aimed, others)
bundles = st.lists(st.tuples(accounts, st.lists(commands, max_size=12)), max_size=6)
moves = st.one_of(st.just(0), st.integers(-4, 4), st.sampled_from([-120, -60, 60, 120]))


@dataclass(frozen=True)
class Step:
    """What one block brings: how far each price moves, who says so, and bundles."""

    moves: tuple[int, ...]
    silent: int
    """Validators that report nothing: with 2 of 4 the marks go stale once their last word is too old."""
    skewed: int
    """How far validator 0 is off."""
    bundles: list[tuple[int, list[Command | Aimed]]]


steps = st.builds(
    Step,
    st.tuples(moves, moves, moves),
    st.sampled_from([0, 0, 0, 1, 2, 4]),
    st.sampled_from([0, 0, -900, 3, 3000]),
    bundles,
)


def say(pair: Pair, walk: list[int], step: Step) -> np.ndarray:
    """The block's observations, some of them from the future or the past."""
    now = pair.market.time_ms + 1000
    rows = []
    for validator in range(4 - step.silent):
        for number, price in enumerate(walk):
            off = step.skewed if validator == 0 else 0
            rows.append((validator, number, price + off, now + (off if off < 0 else 0)))
            rows.append((validator, number, 5, now + 1))
    return np.array([*rows, (9, 0, 5, now), (0, 9, 5, now)], OBSERVATION)


def play(script: list[Step], genesis: Genesis = GENESIS) -> Pair:
    """Run a script on both engines."""
    pair, walk = Pair(genesis), [PRICE] * len(genesis.instruments)
    for step in script:
        walk = [max(1, price + move) for price, move in zip(walk, step.moves, strict=True)]
        said = say(pair, walk, step)
        resolved = [
            (account, [one.resolve(pair.ids) if isinstance(one, Aimed) else one for one in commands])
            for account, commands in step.bundles
        ]
        pair.block(said, *resolved)
    return pair


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, min_size=1, max_size=8))
def test_any_blocks_give_the_same_records_and_state(script: list[Step]) -> None:
    play(script)


class Trading:
    """A long random session, mostly valid: deep books, liquidations, insurance, accounts that fail."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.walk = [PRICE] * 3

    def integer(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high + 1))

    def step(self) -> Step:
        jump = self.integer(0, 5) == 0
        moves = tuple(self.integer(-80, 80) if jump else self.integer(-3, 3) for _ in range(3))
        self.walk = [price + move for price, move in zip(self.walk, moves, strict=True)]
        bundles = [(self.integer(0, ACCOUNTS - 1), self.orders()) for _ in range(self.integer(1, 6))]
        return Step(moves, self.integer(0, 1), 0, bundles)

    def orders(self) -> list[Command | Aimed]:
        return [self.order() for _ in range(self.integer(1, 25))]

    def order(self) -> Command | Aimed:
        kind = self.integer(0, 99)
        number, client_id = self.integer(0, 2), self.integer(0, 30)
        price, side = self.walk[number] + self.integer(-15, 15), self.integer(0, 1)
        size = self.integer(1, 200) if number == 0 else self.integer(1, 2000)
        flag = int(self.random.choice([0, 0, 0, 0, 1, 2, 4]))
        if kind < 60:
            tif = 0 if flag == 1 else int(self.random.choice([0, 0, 0, 1, 2]))
            return place(side, price, size, tif, flag, instrument=number, client_id=client_id)
        if kind < 90:
            return Aimed(Kind.CANCEL if kind < 78 else Kind.REPLACE, self.integer(0, 60), price, size)
        if kind < 96:
            return command(Kind.CANCEL_CLIENT, client_id=max(client_id, 1))
        if kind < 98:
            return command(Kind.TRANSFER, size=self.integer(1, 3_000_000), target=self.integer(0, ACCOUNTS - 1))
        return cancel_all()


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_long_session_gives_the_same_records_and_state(seed: int) -> None:
    trading = Trading(seed)
    pair = play([trading.step() for _ in range(60)], POOR)
    assert (EventKind.CANCELLED, EventReason.LIQUIDATION) in pair.reasons
    assert (EventKind.DEFICIT, 0) in pair.reasons
    assert pair.market.row["liquidations"] > 5 and pair.market.row["insurance_paid"] > 0
    assert pair.market.row["fills"] > 200 and pair.oracle.serial > 500
