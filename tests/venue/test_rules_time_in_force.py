"""How long an order lives: GTC, IOC, FOK, and the post-only flag."""

import pytest

from lockstep.base.limits import FILLS_PER_COMMAND_MAX
from tests.support.venue_market import ALICE, BOB, BUY, CAROL, FOK, GTC, IOC, PRICE, SELL, place
from tests.support.venue_script import CANCEL_TAKER, POST_ONLY, REDUCE_ONLY, desk, lines


def test_gtc_rests_where_nothing_crosses() -> None:
    d = desk()
    assert lines(d.buy(ALICE, 999, 5)) == ["ALICE RESTED 5@999"]
    assert lines(d.sell(BOB, 1000, 5)) == ["BOB RESTED 5@1000"]
    assert d.top() == (999, 1000)


def test_gtc_remainder_rests_at_its_limit() -> None:
    d = desk()
    d.sell(BOB, 1000, 3)
    assert lines(d.buy(ALICE, 1001, 5)) == ["ALICE TAKES 3@1000 FROM BOB", "ALICE RESTED 2@1001"]
    assert d.top() == (1001, 0)


def test_gtc_filled_in_full_does_not_rest() -> None:
    d = desk()
    d.sell(BOB, 1000, 5)
    assert lines(d.buy(ALICE, 1000, 5)) == ["ALICE TAKES 5@1000 FROM BOB", "ALICE FILLED 5@1000"]
    assert d.top() == (0, 0) and d.row["orders_open"] == 0


def test_ioc_remainder_is_cancelled() -> None:
    d = desk()
    d.sell(BOB, 1000, 3)
    assert lines(d.buy(ALICE, 1000, 5, IOC)) == [
        "ALICE TAKES 3@1000 FROM BOB",
        "ALICE CANCELLED 2@1000 IMMEDIATE_OR_CANCEL",
    ]
    assert d.row["orders_open"] == 0


def test_ioc_with_nothing_to_meet_is_cancelled_whole() -> None:
    d = desk()
    d.sell(BOB, 1001, 3)
    assert lines(d.buy(ALICE, 1000, 5, IOC)) == ["ALICE CANCELLED 5@1000 IMMEDIATE_OR_CANCEL"]
    assert d.position(ALICE) is None


@pytest.mark.parametrize(("size", "fills"), [(7, True), (8, False)])
def test_fok_trades_all_or_nothing_over_several_prices(size: int, fills: bool) -> None:
    d = desk()
    d.sell(BOB, 1000, 3)
    d.sell(CAROL, 1002, 4)
    taken = lines(d.buy(ALICE, 1002, size, FOK))
    if fills:
        assert taken == ["ALICE TAKES 3@1000 FROM BOB", "ALICE TAKES 4@1002 FROM CAROL", "ALICE FILLED 7@1002"]
    else:
        assert taken == ["ALICE CANCELLED 8@1002 FILL_OR_KILL"]
        assert d.queue(1000) == [("BOB", 3)] and d.queue(1002) == [("CAROL", 4)]


def test_fok_counts_no_price_beyond_its_limit() -> None:
    d = desk()
    d.buy(BOB, 1000, 3)
    d.buy(CAROL, 999, 4)
    assert lines(d.sell(ALICE, 1000, 4, FOK)) == ["ALICE CANCELLED 4@1000 FILL_OR_KILL"]
    assert lines(d.sell(ALICE, 999, 4, FOK))[-1] == "ALICE FILLED 4@999"


def test_fok_does_not_count_its_own_accounts_orders() -> None:
    d = desk()
    d.sell(ALICE, 1000, 4)
    d.sell(BOB, 1000, 3)
    assert lines(d.buy(ALICE, 1000, 4, FOK)) == ["ALICE CANCELLED 4@1000 FILL_OR_KILL"]
    assert d.queue(1000) == [("ALICE", 4), ("BOB", 3)], "a killed order cancels nothing either"
    assert lines(d.buy(ALICE, 1000, 3, FOK)) == [
        "ALICE CANCELLED 4@1000 SELF_TRADE",
        "ALICE TAKES 3@1000 FROM BOB",
        "ALICE FILLED 3@1000",
    ]


def test_fok_that_would_be_stopped_by_its_own_order_is_killed() -> None:
    d = desk()
    d.sell(BOB, 1000, 3)
    d.sell(ALICE, 1000, 1)
    d.sell(BOB, 1000, 3)
    assert lines(d.buy(ALICE, 1000, 4, FOK, CANCEL_TAKER)) == ["ALICE CANCELLED 4@1000 FILL_OR_KILL"]
    assert lines(d.buy(ALICE, 1000, 3, FOK, CANCEL_TAKER))[-1] == "ALICE FILLED 3@1000", "it ends before its own"


def test_fok_does_not_count_reduce_only_makers() -> None:
    d = desk()
    d.trade(buyer=BOB, seller=CAROL, price=PRICE, size=10)
    d.sell(BOB, 1001, 10, flags=REDUCE_ONLY)
    assert lines(d.buy(ALICE, 1001, 1, FOK)) == ["ALICE CANCELLED 1@1001 FILL_OR_KILL"]
    d.sell(CAROL, 1002, 1)
    assert lines(d.buy(ALICE, 1002, 1, FOK)) == ["ALICE TAKES 1@1001 FROM BOB", "ALICE FILLED 1@1002"]


@pytest.mark.parametrize(
    ("size", "last"), [(256, "ALICE FILLED 256@1000"), (257, "ALICE CANCELLED 257@1000 FILL_OR_KILL")]
)
def test_fok_may_need_as_many_makers_as_one_command_may_meet(size: int, last: str) -> None:
    assert FILLS_PER_COMMAND_MAX == 256
    d = desk()
    d.do(BOB, *[place(SELL, 1000, 1)] * 257)
    assert lines(d.buy(ALICE, 1000, size, FOK))[-1] == last


@pytest.mark.parametrize(("side", "others", "crossing", "clear"), [(BUY, SELL, 1000, 999), (SELL, BUY, 1000, 1001)])
def test_post_only_is_refused_at_the_opposite_price_and_rests_one_tick_away(
    side: int, others: int, crossing: int, clear: int
) -> None:
    d = desk()
    d.do(BOB, place(others, 1000, 5))
    assert lines(d.do(ALICE, place(side, crossing, 1, GTC, POST_ONLY))) == ["ALICE REJECTED POST_ONLY"]
    assert lines(d.do(ALICE, place(side, clear, 1, GTC, POST_ONLY))) == [f"ALICE RESTED 1@{clear}"]
    assert d.row["fills"] == 0


def test_post_only_is_refused_even_if_it_would_meet_only_its_own_order() -> None:
    d = desk()
    d.sell(ALICE, 1000, 5)
    assert lines(d.buy(ALICE, 1000, 1, GTC, POST_ONLY)) == ["ALICE REJECTED POST_ONLY"]
    assert d.queue(1000) == [("ALICE", 5)]


def test_post_only_rests_on_an_empty_book() -> None:
    assert lines(desk().buy(ALICE, 1200, 1, GTC, POST_ONLY)) == ["ALICE RESTED 1@1200"]
