"""The venue's own book against the one that the exchange published beside its messages (LOBSTER, AAPL 2012-06-21).

`tests/market/test_replay.py` compares the book that a client rebuilds from event records. Here the tables are read:
best prices, and the lots of each level. The recorded book has orders that no message brought (below its ten levels);
from row 441 on one of them is the best bid, so only the rows before it are exact.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from lockstep.market import lobster
from lockstep.market.recording import Recording
from lockstep.market.replay import Accounts, Bundle, Replay
from lockstep.venue import schema
from lockstep.wire.observation import OBSERVATION
from tests.support.venue_invariants import check_invariants
from tests.support.venue_market import ALICE, BOB, BUY, CAROL, SELL, Market, command, small_genesis, spans_of

EXACT_ROWS = 440
RICH = 1 << 56


class Exchange(Market):
    """A market whose blocks hold one recorded bundle each."""

    def carry_out(self, bundle: Bundle) -> bytes:
        """The event records."""
        self.height += 1
        seen = np.array([(v, 0, self.prices[0], self.time_ms) for v in range(4)], OBSERVATION)
        spans = spans_of([(bundle.account, [command(0)] * len(bundle.commands))], self.height)
        execution = self.venue.execute(self.height, self.time_ms, seen, spans, bundle.commands)
        self.venue.commit()
        return execution.events.tobytes()

    def best(self, side: int) -> tuple[int, int]:
        """Best price of a side, and the lots there."""
        row = self.instrument()
        price = int(row["best_bid" if side == BUY else "best_ask"])
        return price, int(self.venue.rows(schema.LEVELS)[int(row["levels_first"]) + price]["size"])

    def levels(self) -> dict[int, int]:
        """Lots by price, both sides."""
        sizes = self.venue.rows(schema.LEVELS)["size"]
        return {int(price): int(sizes[price]) for price in np.flatnonzero(sizes)}


@pytest.fixture(scope="module")
def apple(shared_data: Path) -> Recording:
    """The recording, its rows numbered in place of their times, so that they can be replayed one by one."""
    recording = lobster.read(shared_data / "orderflow" / "lobster_aapl_2012-06-21_first_999_messages.csv")
    return dataclasses.replace(
        recording,
        seeds=tuple(dataclasses.replace(seed, time_us=0) for seed in recording.seeds),
        messages=[dataclasses.replace(message, time_us=n) for n, message in enumerate(recording.messages, 1)],
    )


def start(recording: Recording) -> tuple[Exchange, Replay]:
    exchange = Exchange(small_genesis((lobster.INSTRUMENT,), (RICH,) * 6), [recording.mids[0]])
    return exchange, Replay(recording, Accounts(bids=ALICE, asks=BOB, taker=CAROL))


def carry_out_up_to(row: int, exchange: Exchange, replay: Replay) -> None:
    while bundles := replay.take(row, 1):
        for bundle in bundles:
            replay.settled(bundle.number, exchange.carry_out(bundle))


@pytest.mark.real_data
def test_best_bid_and_ask_are_those_of_the_exchange(apple: Recording) -> None:
    exchange, replay = start(apple)
    for row, book in enumerate(apple.books[:EXACT_ROWS], 1):
        carry_out_up_to(row, exchange, replay)
        assert (exchange.best(BUY), exchange.best(SELL)) == (book.bids[0], book.asks[0]), f"row {row}"
    assert replay.position == EXACT_ROWS and replay.ladder.fills > 10
    check_invariants(exchange.venue)


@pytest.mark.real_data
def test_the_book_that_a_client_rebuilds_from_records_is_the_one_in_the_tables(apple: Recording) -> None:
    exchange, replay = start(apple)
    for row in range(1, len(apple.messages) + 1):
        carry_out_up_to(row, exchange, replay)
        if row % 37 == 0 or row == len(apple.messages):
            assert dict([*replay.ladder.levels(True, 999), *replay.ladder.levels(False, 999)]) == exchange.levels()
    check_invariants(exchange.venue)
