"""An account never trades with itself: its resting order goes, or the new one stops."""

import pytest

from tests.support.venue_market import ALICE, BOB, BUY, CAROL, IOC, PRICE, SELL, place
from tests.support.venue_script import CANCEL_TAKER, REDUCE_ONLY, desk, lines


def test_by_default_the_resting_order_is_cancelled_and_the_new_one_goes_on() -> None:
    d = desk()
    d.sell(ALICE, 1000, 2)
    d.sell(BOB, 1000, 2)
    assert lines(d.buy(ALICE, 1000, 3)) == [
        "ALICE CANCELLED 2@1000 SELF_TRADE",
        "ALICE TAKES 2@1000 FROM BOB",
        "ALICE RESTED 1@1000",
    ]


def test_cancel_taker_trades_up_to_its_own_order_and_stops() -> None:
    d = desk()
    d.sell(BOB, 1000, 2)
    d.sell(ALICE, 1000, 2)
    d.sell(CAROL, 1000, 2)
    assert lines(d.buy(ALICE, 1000, 5, flags=CANCEL_TAKER)) == [
        "ALICE TAKES 2@1000 FROM BOB",
        "ALICE CANCELLED 3@1000 SELF_TRADE",
    ]
    assert d.queue(1000) == [("ALICE", 2), ("CAROL", 2)]


@pytest.mark.parametrize(("side", "others"), [(BUY, SELL), (SELL, BUY)])
def test_no_lots_change_hands(side: int, others: int) -> None:
    for flags in (0, CANCEL_TAKER):
        d = desk()
        d.do(ALICE, place(others, PRICE, 2))
        d.do(ALICE, place(side, PRICE, 2, IOC, flags))
        assert d.lots(ALICE) == 0 and d.row["fills"] == 0 and d.balance(ALICE) == 1_000_000_000


def test_own_orders_beyond_the_limit_stay() -> None:
    d = desk()
    d.sell(ALICE, 1001, 2)
    assert lines(d.buy(ALICE, 1000, 3)) == ["ALICE RESTED 3@1000"]
    assert d.top() == (1000, 1001)


def test_own_orders_behind_the_last_maker_needed_stay() -> None:
    d = desk()
    d.sell(BOB, 1000, 2)
    d.sell(ALICE, 1000, 2)
    assert lines(d.buy(ALICE, 1000, 2)) == ["ALICE TAKES 2@1000 FROM BOB", "ALICE FILLED 2@1000"]
    assert d.queue(1000) == [("ALICE", 2)]


def test_cancel_taker_that_is_filled_before_its_own_order_is_filled() -> None:
    d = desk()
    d.sell(BOB, 1000, 2)
    d.sell(ALICE, 1000, 2)
    assert lines(d.buy(ALICE, 1000, 2, flags=CANCEL_TAKER))[-1] == "ALICE FILLED 2@1000"


def test_makers_cancelled_by_self_trade_prevention_count_as_met() -> None:
    d = desk()
    d.do(ALICE, *[place(SELL, 1000, 1)] * 256)
    d.sell(BOB, 1000, 1)
    events = d.buy(ALICE, 1000, 1)
    assert len(events) == 257 and lines(events)[-1] == "ALICE CANCELLED 1@1000 FILL_LIMIT"
    assert d.queue(1000) == [("BOB", 1)]


def test_a_resting_orders_flag_does_not_matter_only_the_takers() -> None:
    d = desk()
    d.sell(ALICE, 1000, 2, flags=CANCEL_TAKER)
    assert lines(d.buy(ALICE, 1000, 1)) == ["ALICE CANCELLED 2@1000 SELF_TRADE", "ALICE RESTED 1@1000"]


def test_own_reduce_only_order_is_a_self_trade_too() -> None:
    d = desk()
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=5)
    d.sell(ALICE, 1001, 5, flags=REDUCE_ONLY)
    assert lines(d.buy(ALICE, 1001, 1)) == ["ALICE CANCELLED 5@1001 SELF_TRADE", "ALICE RESTED 1@1001"]
