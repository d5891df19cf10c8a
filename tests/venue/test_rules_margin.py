"""What an account must have to place an order: initial margin in the worst case, to the micro-unit.

Unless a test says otherwise fees are 0, so that a lot of the first instrument at the mark of 1000 needs 10% of
100,000 = 10,000 micro-USD.
"""

import pytest

from tests.support.venue_market import ALICE, BOB, BUY, FOK, IOC, SELL, instrument, place
from tests.support.venue_script import REDUCE_ONLY, Desk, desk, order_id, refusal

RICH = 1_000_000_000
FREE = {"maker_fee_ppm": 0, "taker_fee_ppm": 0}


def with_alice(balance: int, **changes: int) -> Desk:
    """ALICE has exactly this, BOB and CAROL are rich."""
    return desk(balances=(0, RICH, 0, balance, RICH, RICH), **{**FREE, **changes})


def affords(balance: int, side: int, price: int, size: int, tif: int = 0, **changes: int) -> bool:
    """Whether ALICE, with nothing but this balance, may have the order."""
    reason = refusal(with_alice(balance, **changes).do(ALICE, place(side, price, size, tif)))
    assert reason in ("", "INSUFFICIENT_MARGIN")
    return reason == ""


@pytest.mark.parametrize("tif", [0, IOC, FOK])
@pytest.mark.parametrize(
    ("side", "price", "needs"),
    [
        (BUY, 1000, 70_000),  # 7 lots at the mark
        (BUY, 990, 70_000),  # a better price than the mark frees nothing
        (BUY, 1003, 72_100),  # and pays 3 ticks x 100 above it for each of 7 lots
        (SELL, 1000, 70_000),
        (SELL, 1010, 70_000),
        (SELL, 998, 71_400),
    ],
)
def test_an_order_needs_margin_at_the_mark_and_what_it_pays_beyond_it(
    side: int, price: int, needs: int, tif: int
) -> None:
    assert affords(needs, side, price, 7, tif)
    assert not affords(needs - 1, side, price, 7, tif)


def test_the_requirement_is_rounded_up() -> None:
    # 7 lots x 100,000 x 12,345 ppm = 8641.5
    rates = {"initial_margin_ppm": 12_345, "maintenance_margin_ppm": 12_345}
    assert affords(8642, BUY, 1000, 7, **rates)
    assert not affords(8641, BUY, 1000, 7, **rates)


def test_the_largest_taker_fee_is_needed_too() -> None:
    # 7 x 1003 x 100 = 702,100 at 300 ppm: 210.63, up to 211
    assert affords(72_100 + 211, BUY, 1003, 7, taker_fee_ppm=300)
    assert not affords(72_100 + 210, BUY, 1003, 7, taker_fee_ppm=300)


def test_orders_of_one_side_add_up() -> None:
    d = with_alice(100_000)
    d.buy(ALICE, 999, 6)
    assert refusal(d.buy(ALICE, 998, 5)) == "INSUFFICIENT_MARGIN"
    assert refusal(d.buy(ALICE, 998, 4)) == ""


def test_the_worse_side_counts_and_the_other_is_free() -> None:
    d = with_alice(100_000)
    d.buy(ALICE, 999, 10)
    assert refusal(d.sell(ALICE, 1001, 10)) == "", "not both can trade in full and need more"
    assert refusal(d.sell(ALICE, 1002, 1)) == "INSUFFICIENT_MARGIN"


def test_instruments_add_up() -> None:
    d = with_alice(100_000)
    d.buy(ALICE, 999, 9)  # 90,000
    # the second instrument: 10% of 7 x 1000 = 700 a lot, and the fee of 300 ppm: 2.1 a lot
    assert refusal(d.buy(ALICE, 999, 15, instrument=1)) == "INSUFFICIENT_MARGIN"
    assert refusal(d.buy(ALICE, 999, 14, instrument=1)) == "", "9800 and 29.37, up to 30"


def test_a_position_needs_margin_for_itself_and_its_orders() -> None:
    d = with_alice(100_000)
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=6)
    assert refusal(d.buy(ALICE, 999, 5)) == "INSUFFICIENT_MARGIN"
    assert refusal(d.buy(ALICE, 999, 4)) == ""


def test_an_order_that_reduces_needs_nothing() -> None:
    d = with_alice(100_000)
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=10)
    d.tick(960, 1000)  # equity 60,000, the ten lots need 96,000
    assert refusal(d.sell(ALICE, 960, 20)) == "", "at the worst it is short 10 where it was long 10"
    d.cancel_all(ALICE)
    assert refusal(d.sell(ALICE, 960, 21)) == "INSUFFICIENT_MARGIN"
    assert refusal(d.buy(ALICE, 960, 1)) == "INSUFFICIENT_MARGIN"


def test_reduce_only_needs_nothing_and_is_not_counted() -> None:
    d = with_alice(100_000)
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=10)
    d.tick(960, 1000)
    # 100 ticks x 100 x 10 below the mark would be a loss of 160,000 that no equity covers
    assert refusal(d.sell(ALICE, 800, 10, flags=REDUCE_ONLY)) == ""
    assert int(d.position(ALICE)["open_sell"]) == 0
    assert refusal(d.sell(ALICE, 800, 10)) == "INSUFFICIENT_MARGIN"


def test_a_loss_at_the_mark_counts_and_a_profit_too() -> None:
    d = with_alice(100_000)
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=5)
    d.tick(990, 1000)  # equity 95,000; a lot needs 9900: nine lots need 89,100, ten 99,000
    assert refusal(d.buy(ALICE, 990, 5)) == "INSUFFICIENT_MARGIN"
    d.tick(1010, 1000)  # equity 105,000; a lot needs 10,100: ten lots need 101,000
    assert refusal(d.buy(ALICE, 1010, 5)) == ""
    d.cancel_all(ALICE)
    assert refusal(d.buy(ALICE, 1010, 6)) == "INSUFFICIENT_MARGIN"


def test_a_replace_is_judged_as_if_the_old_order_were_gone() -> None:
    d = with_alice(100_000)
    mine = order_id(d.buy(ALICE, 999, 10))
    assert refusal(d.buy(ALICE, 998, 1)) == "INSUFFICIENT_MARGIN"
    assert refusal(d.replace(ALICE, mine, 1000, 11)) == "INSUFFICIENT_MARGIN"
    assert refusal(d.replace(ALICE, mine, 1001, 10)) == "INSUFFICIENT_MARGIN", "1000 more, for the tick above the mark"
    assert refusal(d.replace(ALICE, mine, 1000, 10)) == ""


def test_a_shrinking_replace_is_never_refused_for_margin() -> None:
    d = with_alice(100_000)
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=5)
    mine = order_id(d.buy(ALICE, 999, 5))
    d.tick(970, 1000)  # equity 85,000, ten lots need 97,000 + 5 x 29 x 100
    assert refusal(d.replace(ALICE, mine, 999, 5)) == ""
    assert refusal(d.replace(ALICE, mine, 999, 1)) == ""


def test_margin_is_that_of_the_mark_now_not_of_the_trade() -> None:
    d = with_alice(10_000 * 10)
    d.tick(800, 1000)
    assert refusal(d.buy(ALICE, 800, 13)) == "INSUFFICIENT_MARGIN", "13 x 8000 = 104,000"
    assert refusal(d.buy(ALICE, 800, 12)) == ""


def test_full_margin_is_the_whole_value() -> None:
    listed = (instrument(initial_margin_ppm=1_000_000, maintenance_margin_ppm=1_000_000, **FREE),)
    d = desk(balances=(0, 0, 0, 500_000, 0, 0), instruments=listed)
    assert refusal(d.buy(ALICE, 1000, 6)) == "INSUFFICIENT_MARGIN"
    assert refusal(d.buy(ALICE, 1000, 5)) == ""
