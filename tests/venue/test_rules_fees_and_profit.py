"""Who pays what: fees and rebates, entry cost, realised and unrealised profit, all to the micro-unit."""

import pytest

from lockstep.venue.event import fee_of
from tests.support.venue_invariants import check_invariants
from tests.support.venue_market import ALICE, BALANCE, BOB, CAROL, FEES, instrument
from tests.support.venue_script import Desk, desk

FREE = {"maker_fee_ppm": 0, "taker_fee_ppm": 0}


def books(d: Desk, account: int) -> tuple[int, int, int, int]:
    """(change of balance, lots, entry, realised of the position)."""
    check_invariants(d.venue)
    row = d.position(account)
    held = (0, 0, 0) if row is None else (int(row["size"]), int(row["entry"]), int(row["realised"]))
    return d.balance(account) - BALANCE, *held


def test_the_taker_pays_and_the_maker_gets_a_rebate() -> None:
    d = desk()
    d.trade(buyer=BOB, seller=ALICE, price=1000, size=10)
    # 10 x 1000 x 100 = 1,000,000: 300 ppm of it is 300, 50 ppm is 50
    assert d.balance(ALICE) == BALANCE - 300
    assert d.balance(BOB) == BALANCE + 50
    assert d.balance(FEES) == BALANCE + 250
    assert (d.account(ALICE)["fees_paid"], d.account(BOB)["fees_paid"]) == (300, -50)


def test_a_fill_record_holds_the_takers_fee() -> None:
    d = desk()
    d.buy(BOB, 1000, 10)
    assert d.sell(ALICE, 1000, 10)["fee"].tolist() == [300, 0]


@pytest.mark.parametrize(
    ("taker_ppm", "maker_ppm", "taker_pays", "maker_pays"),
    [
        (300, -50, 3, 0),  # 7007 x 300 / 1e6 = 2.1021 up to 3; 0.35035 of rebate down to 0
        (300, 20, 3, 1),  # 0.14014 up to 1
        (300, -300, 3, -2),  # 2.1021 of rebate down to 2
        (0, 0, 0, 0),
        (1, 0, 1, 0),  # 0.007 up to 1
        (100_000, -100_000, 701, -700),  # 700.7
    ],
)
def test_fees_and_rebates_round_towards_the_venue(
    taker_ppm: int, maker_ppm: int, taker_pays: int, maker_pays: int
) -> None:
    d = desk(tick_value=7, taker_fee_ppm=taker_ppm, maker_fee_ppm=maker_ppm)
    d.trade(buyer=BOB, seller=ALICE, price=1001, size=1)  # 1 x 1001 x 7 = 7007
    assert BALANCE - d.balance(ALICE) == taker_pays
    assert BALANCE - d.balance(BOB) == maker_pays
    assert d.balance(FEES) - BALANCE == taker_pays + maker_pays
    assert (fee_of(7007, taker_ppm), fee_of(7007, maker_ppm)) == (taker_pays, maker_pays)


def test_the_fee_is_rounded_once_for_each_fill() -> None:
    d = desk(tick_value=7, taker_fee_ppm=100, maker_fee_ppm=0)
    d.sell(BOB, 1000, 1)
    d.sell(CAROL, 1000, 1)
    d.buy(ALICE, 1000, 2)  # each fill 7000 x 100 / 1e6 = 0.7, up to 1; both at once would be 1.4, up to 2
    assert BALANCE - d.balance(ALICE) == 2
    d.sell(BOB, 1000, 2)
    d.buy(ALICE, 1000, 2)  # 14,000: 1.4 up to 2
    assert BALANCE - d.balance(ALICE) == 4


def test_opening_costs_nothing_but_the_fee() -> None:
    d = desk(**FREE)
    d.trade(buyer=ALICE, seller=BOB, price=1001, size=3)
    assert books(d, ALICE) == (0, 3, 300_300, 0)
    assert books(d, BOB) == (0, -3, -300_300, 0)


def test_adding_at_another_price_adds_to_the_entry() -> None:
    d = desk(**FREE)
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=3)
    d.trade(buyer=ALICE, seller=BOB, price=1010, size=1)
    assert books(d, ALICE) == (0, 4, 401_000, 0)


def test_reducing_realises_the_share_that_is_closed() -> None:
    d = desk(**FREE)
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=4)  # entry 400,000
    d.trade(buyer=CAROL, seller=ALICE, price=1010, size=1)  # sells for 101,000 what cost 100,000
    assert books(d, ALICE) == (1_000, 3, 300_000, 1_000)
    assert books(d, CAROL) == (0, 1, 101_000, 0)
    assert d.account(ALICE)["realised"] == 1_000


def test_a_short_gains_when_it_buys_back_lower() -> None:
    d = desk(**FREE)
    d.trade(buyer=BOB, seller=ALICE, price=1000, size=4)
    d.trade(buyer=ALICE, seller=CAROL, price=990, size=3)
    assert books(d, ALICE) == (3_000, -1, -100_000, 3_000)


def test_closing_realises_all_and_frees_the_row() -> None:
    d = desk(**FREE)
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=4)
    d.trade(buyer=BOB, seller=ALICE, price=990, size=4)
    assert books(d, ALICE) == (-4_000, 0, 0, 0) and d.position(ALICE) is None
    assert books(d, BOB) == (4_000, 0, 0, 0)
    assert (d.instrument()["open_interest"], d.instrument()["volume"]) == (0, 8)


def test_turning_realises_the_old_side_and_opens_the_new_at_the_new_price() -> None:
    d = desk(**FREE)
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=4)
    d.trade(buyer=CAROL, seller=ALICE, price=1010, size=6)
    assert books(d, ALICE) == (4_000, -2, -202_000, 4_000)
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=3)  # gains 2 x 10 x 100, then long 1 at 1000
    assert books(d, ALICE) == (6_000, 1, 100_000, 6_000)


def test_the_share_of_the_entry_is_rounded_down_and_the_rest_stays_in_it() -> None:
    d = desk(instruments=(instrument(tick_value=1, **FREE),))
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=2)
    d.trade(buyer=ALICE, seller=BOB, price=1001, size=1)  # entry 3001 for 3 lots
    d.trade(buyer=CAROL, seller=ALICE, price=1000, size=1)  # 3001 / 3 = 1000.33: 1000 taken out, 0 gained
    assert books(d, ALICE) == (0, 2, 2001, 0)
    d.trade(buyer=CAROL, seller=ALICE, price=1000, size=1)  # 2001 / 2 = 1000.5: 1000 taken out
    assert books(d, ALICE) == (0, 1, 1001, 0)
    d.trade(buyer=CAROL, seller=ALICE, price=1000, size=1)
    assert books(d, ALICE) == (-1, 0, 0, 0)
    assert books(d, BOB) == (0, -3, -3001, 0)


def test_a_shorts_share_of_the_entry_is_rounded_towards_zero_too() -> None:
    d = desk(instruments=(instrument(tick_value=1, **FREE),))
    d.trade(buyer=BOB, seller=ALICE, price=1000, size=2)
    d.trade(buyer=BOB, seller=ALICE, price=1001, size=1)  # entry -3001
    d.trade(buyer=ALICE, seller=CAROL, price=1000, size=1)  # 1000 of it taken out
    assert books(d, ALICE) == (0, -2, -2001, 0)


def test_unrealised_profit_follows_the_mark_and_moves_no_money() -> None:
    d = desk(balances=(0, 0, 0, 5_000_000, BALANCE, 0), **FREE)
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=100)
    d.tick(1100, 1000)
    assert d.balance(ALICE) == 5_000_000 and int(d.position(ALICE)["entry"]) == 10_000_000
    # equity 5,000,000 + 100 x 100 x 100 = 6,000,000 covers 10% of 110,000 a lot: 545 lots (5,995,000), not 546
    assert d.buy(ALICE, 1100, 446)["reason"].tolist() == [17]
    assert d.buy(ALICE, 1100, 445)["reason"].tolist() == [0]


def test_money_is_conserved_over_awkward_numbers() -> None:
    d = desk(tick_value=13, maker_fee_ppm=-7, taker_fee_ppm=333)
    total = sum(d.balance(a) for a in range(6))
    for step, (buyer, seller) in enumerate([(3, 4), (4, 5), (5, 3), (3, 5), (5, 4), (4, 3)] * 3):
        d.trade(buyer, seller, 991 + 3 * step % 17, 7 + 5 * step % 11)
        check_invariants(d.venue)
        entries = sum(int(d.position(a)["entry"]) for a in range(6) if d.position(a) is not None)
        assert sum(d.balance(a) for a in range(6)) - entries == total
        assert sum(d.lots(a) for a in range(6)) == 0
