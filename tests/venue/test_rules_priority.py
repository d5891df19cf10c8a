"""Who trades first, and at what price: better price, then older order; what a REPLACE does to a place in line."""

import pytest

from lockstep.base.limits import FILLS_PER_COMMAND_MAX
from tests.support.venue_market import ALICE, BOB, BUY, CAROL, GTC, IOC, SELL, place
from tests.support.venue_script import POST_ONLY, REDUCE_ONLY, desk, lines, order_id, refusal


def test_the_better_ask_trades_first_whatever_its_age() -> None:
    d = desk()
    d.sell(BOB, 1002, 1)
    d.sell(CAROL, 1001, 1)
    assert lines(d.buy(ALICE, 1005, 2)) == [
        "ALICE TAKES 1@1001 FROM CAROL",
        "ALICE TAKES 1@1002 FROM BOB",
        "ALICE FILLED 2@1005",
    ]


def test_the_better_bid_trades_first_whatever_its_age() -> None:
    d = desk()
    d.buy(BOB, 998, 1)
    d.buy(CAROL, 999, 1)
    assert lines(d.sell(ALICE, 995, 2))[:2] == ["ALICE TAKES 1@999 FROM CAROL", "ALICE TAKES 1@998 FROM BOB"]


def test_within_a_price_the_older_order_trades_first() -> None:
    d = desk()
    d.sell(BOB, 1000, 2)
    d.sell(CAROL, 1000, 2)
    assert lines(d.buy(ALICE, 1000, 3))[:2] == ["ALICE TAKES 2@1000 FROM BOB", "ALICE TAKES 1@1000 FROM CAROL"]
    assert d.queue(1000) == [("CAROL", 1)]


def test_a_partly_filled_order_keeps_its_place() -> None:
    d = desk()
    d.sell(BOB, 1000, 5)
    d.sell(CAROL, 1000, 5)
    d.buy(ALICE, 1000, 1)
    assert d.queue(1000) == [("BOB", 4), ("CAROL", 5)]


@pytest.mark.parametrize(("side", "others", "limit"), [(BUY, SELL, 1010), (SELL, BUY, 990)])
def test_a_trade_is_at_the_makers_price(side: int, others: int, limit: int) -> None:
    d = desk()
    d.do(BOB, place(others, 1000, 1))
    assert lines(d.do(ALICE, place(side, limit, 1)))[0] == "ALICE TAKES 1@1000 FROM BOB"
    assert d.instrument()["last_price"] == 1000


def test_the_next_price_is_found_across_the_whole_band() -> None:
    d = desk()
    for price in (801, 831, 832, 1000):  # 832 = 13 x 64 begins a word of the bitmap
        d.buy(BOB, price, 1)
    for best in (1000, 832, 831, 801):
        assert d.top() == (best, 0)
        assert lines(d.sell(ALICE, 800, 1))[0] == f"ALICE TAKES 1@{best} FROM BOB"
    assert d.top() == (0, 0)


def test_instruments_have_books_of_their_own() -> None:
    d = desk()
    d.sell(BOB, 1000, 1, instrument=1)
    assert lines(d.buy(ALICE, 1000, 1, instrument=0)) == ["ALICE RESTED 1@1000"]
    assert lines(d.buy(CAROL, 1000, 1, instrument=1))[0] == "CAROL TAKES 1@1000 FROM BOB"


def two_in_line() -> tuple:
    """BOB before CAROL at 1000, five lots each; and the id of BOB's order."""
    d = desk()
    first = order_id(d.sell(BOB, 1000, 5, client_id=7))
    d.sell(CAROL, 1000, 5)
    return d, first


@pytest.mark.parametrize("size", [1, 4, 5])
def test_a_replace_that_only_shrinks_keeps_its_place_and_its_id(size: int) -> None:
    d, first = two_in_line()
    events = d.replace(BOB, first, 1000, size)
    assert lines(events) == [f"BOB RESTED {size}@1000"]
    assert (int(events[0]["order_id"]), int(events[0]["other_order_id"])) == (first, first)
    assert d.queue(1000) == [("BOB", size), ("CAROL", 5)]


@pytest.mark.parametrize(
    ("changes", "queue"),
    [
        ({"size": 6}, [("CAROL", 5), ("BOB", 6)]),
        ({"size": 5, "client_id": 8}, [("CAROL", 5), ("BOB", 5)]),
        ({"size": 5, "flags": POST_ONLY}, [("CAROL", 5), ("BOB", 5)]),
    ],
)
def test_any_other_replace_goes_to_the_end_of_the_line(changes: dict, queue: list) -> None:
    d, first = two_in_line()
    events = d.replace(BOB, first, 1000, **changes)
    assert lines(events) == [f"BOB RESTED {changes['size']}@1000"]
    assert int(events[0]["order_id"]) != first and int(events[0]["other_order_id"]) == first
    assert d.queue(1000) == queue
    assert refusal(d.cancel(BOB, first)) == "UNKNOWN_ORDER"


def test_a_replace_at_another_price_moves_there() -> None:
    d, first = two_in_line()
    assert lines(d.replace(BOB, first, 1001, 5)) == ["BOB RESTED 5@1001"]
    assert d.queue(1000) == [("CAROL", 5)] and d.queue(1001) == [("BOB", 5)]


def test_a_replace_at_a_crossing_price_trades() -> None:
    d, first = two_in_line()
    d.buy(ALICE, 999, 2)
    assert lines(d.replace(BOB, first, 999, 5)) == ["BOB TAKES 2@999 FROM ALICE", "BOB RESTED 3@999"]


def test_a_replace_as_ioc_removes_what_does_not_trade() -> None:
    d, first = two_in_line()
    assert lines(d.replace(BOB, first, 1000, 5, tif=IOC)) == ["BOB CANCELLED 5@1000 IMMEDIATE_OR_CANCEL"]
    assert d.queue(1000) == [("CAROL", 5)]


def test_a_rejected_replace_leaves_the_old_order_in_its_place() -> None:
    d, first = two_in_line()
    d.buy(ALICE, 999, 2)
    assert refusal(d.replace(BOB, first, 999, 5, flags=POST_ONLY)) == "POST_ONLY"
    assert refusal(d.replace(BOB, first, 1000, 0)) == "BAD_SIZE"
    assert refusal(d.replace(BOB, first, 1201, 5)) == "PRICE_BAND"
    assert refusal(d.replace(BOB, first, 1000, 5, flags=REDUCE_ONLY)) == "REDUCE_ONLY"
    assert d.queue(1000) == [("BOB", 5), ("CAROL", 5)]


def test_a_replace_keeps_the_client_id_unless_it_gives_another() -> None:
    d, first = two_in_line()
    second = order_id(d.replace(BOB, first, 1001, 5))
    assert lines(d.replace(BOB, second, 1002, 5, client_id=9)) == ["BOB RESTED 5@1002"]
    assert refusal(d.cancel_client(BOB, 7)) == "UNKNOWN_ORDER"
    assert lines(d.cancel_client(BOB, 9)) == ["BOB CANCELLED 5@1002"]


def test_a_taker_meets_256_makers_and_no_more() -> None:
    assert FILLS_PER_COMMAND_MAX == 256
    d = desk()
    d.do(BOB, *[place(SELL, 1000, 1)] * 258)
    events = d.buy(ALICE, 1000, 258)
    assert len(events) == 257
    assert lines(events)[-1] == "ALICE CANCELLED 2@1000 FILL_LIMIT", "a GTC remainder may not rest in a crossed book"
    assert d.lots(ALICE) == 256 and d.top() == (0, 1000)


def test_a_taker_of_exactly_256_makers_is_filled() -> None:
    d = desk()
    d.do(BOB, *[place(SELL, 1000, 1)] * 257)
    assert lines(d.buy(ALICE, 1000, 256))[-1] == "ALICE FILLED 256@1000"


def test_a_remainder_rests_when_the_256th_maker_was_the_last() -> None:
    d = desk()
    d.do(BOB, *[place(SELL, 1000, 1)] * 256)
    assert lines(d.buy(ALICE, 1000, 300, GTC))[-1] == "ALICE RESTED 44@1000"
