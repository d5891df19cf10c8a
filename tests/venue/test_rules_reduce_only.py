"""Reduce-only orders: cut to what is held, when placed and when met; they never open or turn a position."""

from tests.support.venue_market import ALICE, BOB, CAROL, FOK, IOC
from tests.support.venue_script import REDUCE_ONLY, Desk, desk, lines, refusal


def holding(lots: int) -> Desk:
    """ALICE holds `lots`, bought from BOB at 1000."""
    d = desk()
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=lots)
    return d


def test_it_is_refused_without_a_position_or_on_its_side() -> None:
    d = holding(5)
    assert refusal(d.sell(CAROL, 1000, 1, flags=REDUCE_ONLY)) == "REDUCE_ONLY"
    assert refusal(d.buy(ALICE, 1000, 1, flags=REDUCE_ONLY)) == "REDUCE_ONLY"
    assert refusal(d.sell(BOB, 1000, 1, flags=REDUCE_ONLY)) == "REDUCE_ONLY"
    assert refusal(d.sell(ALICE, 1000, 1, flags=REDUCE_ONLY, instrument=1)) == "REDUCE_ONLY"
    assert refusal(d.buy(BOB, 1000, 1, flags=REDUCE_ONLY)) == ""


def test_its_size_is_cut_to_the_position() -> None:
    d = holding(5)
    assert lines(d.sell(ALICE, 1001, 6, flags=REDUCE_ONLY)) == ["ALICE RESTED 5@1001"]
    d = holding(5)
    assert lines(d.sell(ALICE, 1001, 4, flags=REDUCE_ONLY)) == ["ALICE RESTED 4@1001"]


def test_cut_to_the_position_it_is_filled_and_does_not_turn_it() -> None:
    d = holding(5)
    d.buy(CAROL, 1000, 9)
    assert lines(d.sell(ALICE, 1000, 9, FOK, REDUCE_ONLY)) == ["ALICE TAKES 5@1000 FROM CAROL", "ALICE FILLED 5@1000"]
    assert d.position(ALICE) is None


def test_a_resting_one_trades_no_more_than_is_held_then() -> None:
    d = holding(5)
    d.sell(ALICE, 1001, 5, flags=REDUCE_ONLY)
    d.buy(CAROL, 1000, 3)
    d.sell(ALICE, 1000, 3, IOC)  # 2 lots are left
    assert lines(d.buy(CAROL, 1001, 4)) == [
        "CAROL TAKES 2@1001 FROM ALICE",
        "ALICE CANCELLED 3@1001 REDUCE_ONLY",
        "CAROL RESTED 2@1001",
    ]
    assert d.lots(ALICE) == 0


def test_one_with_nothing_left_to_reduce_is_cancelled_when_met_and_not_before() -> None:
    d = holding(5)
    d.sell(ALICE, 1001, 5, flags=REDUCE_ONLY)
    d.buy(CAROL, 1000, 5)
    assert lines(d.sell(ALICE, 1000, 5, IOC))[-1] == "ALICE FILLED 5@1000"
    assert d.queue(1001) == [("ALICE", 5)]
    assert lines(d.buy(CAROL, 1001, 1)) == ["ALICE CANCELLED 5@1001 REDUCE_ONLY", "CAROL RESTED 1@1001"]


def test_two_of_one_account_share_the_position() -> None:
    d = holding(5)
    d.sell(ALICE, 1001, 3, flags=REDUCE_ONLY)
    d.sell(ALICE, 1002, 3, flags=REDUCE_ONLY)
    assert lines(d.buy(CAROL, 1002, 6)) == [
        "CAROL TAKES 3@1001 FROM ALICE",
        "CAROL TAKES 2@1002 FROM ALICE",
        "ALICE CANCELLED 1@1002 REDUCE_ONLY",
        "CAROL RESTED 1@1002",
    ]
    assert d.lots(ALICE) == 0


def test_what_it_asks_beyond_the_position_goes_with_the_last_lot_not_when_next_met() -> None:
    d = holding(5)
    d.sell(ALICE, 1001, 5, flags=REDUCE_ONLY)
    d.buy(CAROL, 1000, 3)
    d.sell(ALICE, 1000, 3, IOC)  # 2 lots are left
    assert lines(d.buy(CAROL, 1001, 2)) == [
        "CAROL TAKES 2@1001 FROM ALICE",
        "ALICE CANCELLED 3@1001 REDUCE_ONLY",
        "CAROL FILLED 2@1001",
    ]
    assert d.top() == (0, 0)
