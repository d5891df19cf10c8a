"""Mark prices: the stake-weighted median of fresh observations, the band around it, and what stops without it."""

from collections.abc import Sequence

import numpy as np
import pytest

from lockstep.wire.command import Kind
from lockstep.wire.observation import OBSERVATION
from tests.support.venue_market import ALICE, BALANCE, BOB, CAROL, PRICE, cancel, cancel_all, command, place, replace
from tests.support.venue_script import Desk, desk, lines, order_id, refusal


def hear(d: Desk, said: Sequence[tuple[int, ...]], instrument: int = 0) -> int:
    """A block with observations (validator, price, age in ms against the block); the mark, or 0 when stale."""
    now = d.time_ms + 1000
    rows = [(validator, instrument, price, now - age) for validator, price, *rest in said for age in (rest or [0])]
    d.block(observations=np.array(rows, OBSERVATION))
    row = d.instrument(instrument)
    return 0 if row["stale"] else int(row["mark"])


@pytest.mark.parametrize(
    ("stakes", "prices", "mark"),
    [
        ((10, 10, 10), (1000, 1005, 900), 1000),
        ((10, 10, 10, 10), (1003, 1001, 1002, 1000), 1001),  # of an even number the lower of the middle two
        ((1, 1, 1, 4), (900, 1000, 1100, 1200), 1200),  # 4 of 7 say so
        ((3, 1, 1, 1), (900, 1000, 1100, 1200), 900),  # exactly half are at or below 900
        ((2, 1, 1, 1), (900, 1000, 1100, 1200), 1000),  # 2 of 5 are not half, 3 are
        ((1, 1, 1, 2), (900, 1000, 1100, 1200), 1100),
        ((5,), (4095,), 4095),
        ((10, 10, 10, 10), (1000, 1000, 1000, 1), 1000),  # one liar moves nothing
    ],
)
def test_the_mark_is_the_stake_weighted_median(stakes: tuple, prices: tuple, mark: int) -> None:
    assert hear(desk(stakes=stakes), list(enumerate(prices))) == mark


@pytest.mark.parametrize(
    ("stakes", "heard", "mark"),
    [
        ((10, 10, 10), (0, 1), 0),  # exactly 2/3 is too little
        ((10, 10, 10), (0, 1, 2), PRICE),
        ((201, 100), (0,), PRICE),  # 201 of 301
        ((200, 100), (0,), 0),
        ((200, 101), (0,), 0),
        ((10, 10, 10, 10), (1, 3), 0),
        ((10, 10, 10, 10), (1, 2, 3), PRICE),
        ((10, 10, 10, 10), (), 0),
    ],
)
def test_more_than_two_thirds_of_the_stake_must_be_heard(stakes: tuple, heard: tuple, mark: int) -> None:
    assert hear(desk(stakes=stakes), [(validator, PRICE) for validator in heard]) == mark


def test_an_observation_counts_for_3000_ms_of_block_time() -> None:
    d = desk()
    everybody = [(v, PRICE) for v in range(4)]
    hear(d, everybody)
    assert [hear(d, []) for _ in range(4)] == [PRICE, PRICE, PRICE, 0], "1000, 2000, 3000 and 4000 ms later"
    assert hear(d, [(v, PRICE, 3001) for v in range(4)]) == 0
    assert hear(d, [(v, PRICE, 3000) for v in range(4)]) == PRICE


def test_validators_are_heard_one_by_one() -> None:
    d = desk()
    assert [hear(d, [(v, PRICE + v)]) for v in range(3)] == [0, 0, PRICE + 1]
    assert hear(d, [(3, PRICE)]) == PRICE, "1000, 1000, 1001, 1002"
    assert hear(d, []) == PRICE + 1, "validator 0 is too old: 1000, 1001, 1002"


def test_an_older_observation_does_not_replace_a_newer_one() -> None:
    d = desk()
    hear(d, [(v, PRICE) for v in range(4)])
    assert hear(d, [(v, 1100, 1001) for v in range(4)]) == PRICE
    assert hear(d, [(v, 1100, 2000) for v in range(4)]) == 1100, "as old as the stored one: the later word counts"


def test_an_observation_from_the_future_is_ignored() -> None:
    d = desk()
    assert hear(d, [(v, PRICE, -1) for v in range(4)]) == 0
    assert hear(d, [(v, PRICE) for v in range(4)]) == PRICE


@pytest.mark.parametrize("price", [-1, 4096, 1 << 62])
def test_an_impossible_price_is_ignored(price: int) -> None:
    d = desk()
    hear(d, [(v, PRICE) for v in range(4)])
    assert hear(d, [(v, price) for v in range(4)]) == PRICE


def test_price_0_withdraws_an_opinion() -> None:
    d = desk()
    hear(d, [(v, PRICE + v) for v in range(4)])
    assert hear(d, [(0, 0)]) == PRICE + 2, "1001, 1002, 1003"
    assert hear(d, [(1, 0)]) == 0


def test_strangers_and_unknown_instruments_are_ignored() -> None:
    d = desk()
    assert hear(d, [(v, PRICE) for v in range(4, 8)]) == 0
    now = d.time_ms + 1000
    d.block(observations=np.array([(v, 2, PRICE, now) for v in range(4)], OBSERVATION))
    assert d.instrument(0)["stale"] and d.instrument(1)["stale"]


@pytest.mark.parametrize(
    ("mark", "band_ppm", "lowest", "highest"),
    [
        (1000, 200_000, 800, 1200),
        (1004, 200_000, 804, 1204),  # 200.8 is cut to 200
        (4, 200_000, 4, 4),  # 0.8 to 0
        (3500, 200_000, 2800, 4095),  # not above the last tick
        (1000, 1_000_000, 1, 2000),  # not below the first
    ],
)
def test_the_band_is_a_share_of_the_mark_rounded_down(mark: int, band_ppm: int, lowest: int, highest: int) -> None:
    for side in (0, 1):
        for price, reason in ((lowest - 1, True), (lowest, False), (highest, False), (highest + 1, True)):
            d = desk(prices=[mark, PRICE], price_band_ppm=band_ppm)
            refused = refusal(d.do(ALICE, place(side, price, 1)))
            assert refused == (("PRICE_BAND" if 0 < price < 4096 else "BAD_PRICE") if reason else "")


def test_a_resting_order_outside_the_band_stays_and_trades() -> None:
    d = desk()
    d.buy(BOB, 800, 1)
    d.tick(1100, 1000)  # the band begins at 880
    assert d.queue(800) == [("BOB", 1)]
    assert refusal(d.sell(ALICE, 800, 1)) == "PRICE_BAND"
    d.tick(1000, 1000)
    assert lines(d.sell(ALICE, 800, 1))[0] == "ALICE TAKES 1@800 FROM BOB"


def halted() -> tuple[Desk, int, int]:
    """ALICE has two bids; then no price is fresh. The desk and the ids of the bids."""
    d = desk()
    first = order_id(d.buy(ALICE, 999, 5, client_id=1))
    second = order_id(d.buy(ALICE, 998, 5, client_id=2))
    d.hush()
    return d, first, second


def test_nothing_is_placed_or_matched_while_stale() -> None:
    d, first, _ = halted()
    for one in (place(1, 999, 1), place(1, 999, 1, 1), place(0, 990, 1), replace(first, 999, 1)):
        assert refusal(d.quietly((BOB if one[0] == Kind.PLACE else ALICE, [one]))) == "STALE_PRICE"
    assert refusal(d.quietly((ALICE, [replace(first, 1000, 9)]))) == "STALE_PRICE"
    assert d.row["fills"] == 0 and d.queue(999) == [("ALICE", 5)]


def test_orders_can_be_pulled_while_stale() -> None:
    d, first, _ = halted()
    assert lines(d.quietly((ALICE, [cancel(first)]))) == ["ALICE CANCELLED 5@999"]
    assert lines(d.quietly((ALICE, [command(Kind.CANCEL_CLIENT, client_id=2)]))) == ["ALICE CANCELLED 5@998"]
    d, _, _ = halted()
    assert lines(d.quietly((ALICE, [cancel_all()])))[-1] == "ALICE ACCEPTED 2"


def test_the_other_instrument_goes_on() -> None:
    d = desk()
    d.tick(0, PRICE)
    assert refusal(d.buy(ALICE, 999, 1)) == "STALE_PRICE"
    assert refusal(d.buy(ALICE, 999, 1, instrument=1)) == ""


def test_a_venue_is_stale_before_its_first_price_and_fresh_in_the_block_that_brings_it() -> None:
    d = desk()
    assert refusal(d.quietly((ALICE, [place(0, 999, 1)]))) == "STALE_PRICE"
    assert refusal(d.buy(ALICE, 999, 1)) == ""


def test_nobody_is_liquidated_on_a_price_from_before_a_halt() -> None:
    d = desk(balances=(0, 0, 0, 1_000_000, BALANCE, BALANCE), maker_fee_ppm=0, taker_fee_ppm=0)
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=100)
    d.tick(947, 1000)  # she fails, but nobody bids
    d.hush()
    d.prices = [1000, 1000]
    assert lines(d.buy(CAROL, 940, 100)) == ["CAROL RESTED 100@940"], "the price is back at 1000, and she is healthy"
    assert d.lots(ALICE) == 100


def test_a_stale_instrument_keeps_its_last_mark() -> None:
    d = desk()
    d.tick(1100, 1000)
    d.hush()
    assert d.instrument()["stale"] == 1 and d.instrument()["mark"] == 1100
