"""Below maintenance margin: orders go, positions are closed into the book, insurance pays, what is left is counted.

Fees are 0 unless a test says otherwise. ALICE has 1,000,000 and 100 lots bought at 1000. At mark m her equity is
1,000,000 - 10,000 (1000 - m) and her maintenance margin 5% of 10,000 m. At 948 these are 480,000 and 474,000; at 947
470,000 and 473,500: she fails.
"""

import pytest

from lockstep.venue.event import SYSTEM, EventFlag
from lockstep.wire.command import Kind
from tests.support.venue_invariants import check_invariants
from tests.support.venue_market import ALICE, BALANCE, BOB, BUY, CAROL, INSURANCE, place
from tests.support.venue_script import Desk, desk, lines

FREE = {"maker_fee_ppm": 0, "taker_fee_ppm": 0}
SOLD = "ALICE TAKES 100@{} FROM CAROL"


def leveraged(insurance: int = 0, balance: int = 1_000_000, **changes: int) -> Desk:
    """ALICE with her 100 lots; BOB sold them to her."""
    d = desk(balances=(0, BALANCE, insurance, balance, BALANCE, BALANCE), **{**FREE, **changes})
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=100)
    return d


def test_an_account_fails_below_its_maintenance_margin() -> None:
    d = leveraged()
    d.buy(CAROL, 940, 200)
    assert lines(d.tick(948, 1000)) == []
    assert lines(d.tick(947, 1000)) == [SOLD.format(940)]


@pytest.mark.parametrize(("balance", "fails"), [(1_450_000, False), (1_449_999, True)])
def test_equity_equal_to_the_requirement_is_enough(balance: int, fails: bool) -> None:
    d = leveraged(balance=balance)  # at 900: a loss of 1,000,000, a requirement of 450,000
    d.buy(CAROL, 890, 100)
    d.sell(ALICE, 1100, 1)
    events = d.tick(900, 1000)
    assert lines(events) == (["ALICE CANCELLED 1@1100 LIQUIDATION", SOLD.format(890)] if fails else [])


@pytest.mark.parametrize(("balance", "fails"), [(15_286, False), (15_285, True)])
def test_the_requirement_is_rounded_up(balance: int, fails: bool) -> None:
    rates = {"initial_margin_ppm": 50_001, "maintenance_margin_ppm": 50_001}
    d = desk(balances=(0, 0, 0, balance, BALANCE, BALANCE), **FREE, **rates)
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=3)
    d.buy(CAROL, 990, 3)
    # at 999: a loss of 300, and 299,700 x 50,001 ppm = 14,985.2997
    assert bool(lines(d.tick(999, 1000))) is fails


def test_resting_orders_are_cancelled_first_newest_first_in_every_instrument() -> None:
    d = leveraged()
    d.tick(1050, 1000)
    d.sell(ALICE, 1100, 3)
    d.buy(ALICE, 950, 4)
    d.buy(ALICE, 900, 1, instrument=1)
    d.buy(CAROL, 940, 100)
    events = d.tick(947, 1000)
    assert lines(events) == [
        "ALICE CANCELLED 1@900 LIQUIDATION",
        "ALICE CANCELLED 4@950 LIQUIDATION",
        "ALICE CANCELLED 3@1100 LIQUIDATION",
        SOLD.format(940),
    ]
    assert set(events["command"].tolist()) == {SYSTEM}
    assert set(events["flags"].tolist()) == {EventFlag.LIQUIDATION}


def test_its_records_come_after_those_of_the_commands() -> None:
    d = leveraged()
    d.prices = [947, 1000]
    events = d.buy(CAROL, 940, 100)
    assert lines(events) == ["CAROL RESTED 100@940", SOLD.format(940)]
    assert events["command"].tolist() == [0, SYSTEM]


def test_it_takes_the_best_bids_first_and_pays_the_takers_fee() -> None:
    # initial margin and the fee to be had: 1,000,000 + 300 ppm of 10,000,000; the rebate is 50 ppm of it, 500
    d = leveraged(balance=1_003_000, maker_fee_ppm=-50, taker_fee_ppm=300)
    d.buy(CAROL, 940, 200)
    d.buy(BOB, 941, 10)
    assert lines(d.tick(947, 1000)) == [], "equity 1,003,500 - 530,000 equals the requirement of 473,500"
    events = d.tick(946, 1000)
    assert lines(events) == ["ALICE TAKES 10@941 FROM BOB", "ALICE TAKES 90@940 FROM CAROL"]
    # 300 ppm of 941,000 is 282.3, up to 283; of 8,460,000 it is 2538
    assert events["fee"].tolist() == [283, 2538] and events["order_id"].tolist() == [0, 0]
    assert d.balance(ALICE) == 1_003_500 - 59_000 - 540_000 - 283 - 2538
    assert d.row["liquidations"] == 1


def test_a_short_is_bought_back() -> None:
    d = desk(balances=(0, 0, 0, 1_000_000, BALANCE, BALANCE), **FREE)
    d.trade(buyer=BOB, seller=ALICE, price=1000, size=100)
    d.sell(CAROL, 1060, 100)
    assert lines(d.tick(1047, 1000)) == [], "530,000 against 523,500"
    assert lines(d.tick(1048, 1000)) == [SOLD.format(1060)], "520,000 against 524,000"


def test_positions_are_closed_newest_first_and_only_until_the_account_is_healthy() -> None:
    d = leveraged()
    d.tick(1050, 1000)
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=500, instrument=1)  # 3,500,000: a rebate of 175
    d.buy(CAROL, 1000, 500, instrument=1)
    d.buy(CAROL, 900, 100)
    # at 955: equity 1,000,175 - 450,000; the requirement 477,500 + 175,000. Without the second, and 1050 of fee
    # less, 549,125 against 477,500
    assert lines(d.tick(955, 1000)) == ["ALICE TAKES 500@1000 FROM CAROL"]
    assert (d.lots(ALICE, 0), d.lots(ALICE, 1)) == (100, 0)


def test_a_position_that_nobody_bids_for_is_passed_over_for_the_next() -> None:
    d = leveraged()
    d.tick(1050, 1000)
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=500, instrument=1)
    d.buy(CAROL, 900, 100)
    assert lines(d.tick(955, 1000)) == [SOLD.format(900)]
    assert d.lots(ALICE, 1) == 500


@pytest.mark.parametrize(("bid", "taken"), [(752, True), (751, False)])
def test_bids_below_the_band_are_not_taken(bid: int, taken: bool) -> None:
    d = desk(balances=(0, 0, 0, 1_000_000, BALANCE, BALANCE), prices=[930, 1000], **FREE)
    d.buy(CAROL, bid, 100)  # the band of 930 begins at 744
    d.tick(1000, 1000)
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=100)
    assert lines(d.tick(940, 1000))[:1] == ([SOLD.format(752)] if taken else [])  # 940 - 188 = 752


@pytest.mark.parametrize(("ask", "taken"), [(1272, True), (1273, False)])
def test_asks_above_the_band_are_not_taken(ask: int, taken: bool) -> None:
    d = desk(balances=(0, 0, 0, 1_000_000, BALANCE, BALANCE), prices=[1070, 1000], **FREE)
    d.sell(CAROL, ask, 100)  # the band of 1070 ends at 1284
    d.tick(1000, 1000)
    d.trade(buyer=BOB, seller=ALICE, price=1000, size=100)
    assert lines(d.tick(1060, 1000))[:1] == ([SOLD.format(1272)] if taken else [])  # 1060 + 212 = 1272


def test_an_account_that_nobody_takes_from_is_tried_again_in_later_blocks() -> None:
    d = leveraged()
    assert lines(d.tick(947, 1000)) == []
    assert lines(d.tick()) == []
    assert lines(d.buy(CAROL, 940, 100)) == ["CAROL RESTED 100@940", SOLD.format(940)]


def test_it_meets_256_makers_and_the_account_is_judged_anew() -> None:
    d = desk(balances=(0, 0, 0, 3_000_000, BALANCE, BALANCE), **FREE)
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=300)
    d.do(CAROL, *[place(BUY, 940, 1)] * 300)
    assert len(d.tick(947, 1000)) == 256
    # 3,000,000 - 256 x 6000 - 44 x 5300 = 1,230,800 against 44 x 4735: healthy with what is left
    assert lines(d.tick()) == [] and d.lots(ALICE) == 44


@pytest.mark.parametrize(
    ("insurance", "record", "left"),
    [
        (0, "ALICE DEFICIT 0 PAID 1000000 LEFT", -1_000_000),
        (400_000, "ALICE DEFICIT 400000 PAID 600000 LEFT", -600_000),
        (1_000_000, "ALICE DEFICIT 1000000 PAID 0 LEFT", 0),
        (1_500_000, "ALICE DEFICIT 1000000 PAID 0 LEFT", 0),
    ],
)
def test_insurance_pays_a_deficit_as_far_as_it_can(insurance: int, record: str, left: int) -> None:
    d = leveraged(insurance)
    d.buy(CAROL, 800, 100)  # sold there, ALICE loses 100 x 200 x 100 = 2,000,000
    events = d.tick(900, 1000)
    assert lines(events) == [SOLD.format(800), record]
    assert int(events[1]["other_account"]) == INSURANCE
    assert d.balance(ALICE) == left and d.balance(INSURANCE) == insurance - (1_000_000 + left)
    assert d.row["insurance_paid"] == 1_000_000 + left and d.row["shortfalls"] == (left < 0)
    check_invariants(d.venue)


def test_a_balance_of_exactly_zero_is_no_deficit() -> None:
    d = leveraged(insurance=500)
    d.buy(CAROL, 900, 100)
    assert lines(d.tick(900, 1000)) == [SOLD.format(900)]
    assert d.balance(ALICE) == 0 and d.balance(INSURANCE) == 500


def test_nothing_is_covered_while_lots_are_left() -> None:
    d = leveraged(insurance=300_000)
    d.buy(CAROL, 800, 60)
    assert lines(d.tick(900, 1000)) == ["ALICE TAKES 60@800 FROM CAROL"]
    assert d.balance(ALICE) == -200_000 and d.balance(INSURANCE) == 300_000
    assert lines(d.buy(CAROL, 800, 40))[1:] == [
        "ALICE TAKES 40@800 FROM CAROL",
        "ALICE DEFICIT 300000 PAID 700000 LEFT",
    ]


def test_a_shortfall_is_told_once_and_covered_when_insurance_has_money_again() -> None:
    d = leveraged()
    d.buy(CAROL, 800, 100)
    d.tick(900, 1000)
    assert lines(d.tick(901, 1000)) == [], "the next round tells it not again"
    d.move(Kind.TRANSFER, CAROL, 400_000, INSURANCE)
    assert lines(d.tick(902, 1000)) == ["ALICE DEFICIT 400000 PAID 600000 LEFT"]
    d.move(Kind.TRANSFER, CAROL, 700_000, INSURANCE)
    assert lines(d.tick(903, 1000)) == ["ALICE DEFICIT 600000 PAID 0 LEFT"]
    assert d.row["shortfalls"] == 0 and d.balance(INSURANCE) == 100_000


def test_a_shortfall_that_the_account_makes_good_itself_is_counted_no_more() -> None:
    d = leveraged()
    d.buy(CAROL, 800, 100)
    d.tick(900, 1000)
    assert d.row["shortfalls"] == 1
    d.move(Kind.TRANSFER, CAROL, 1_000_000, ALICE)
    assert lines(d.tick(901, 1000)) == []
    assert d.row["shortfalls"] == 0 and d.row["insurance_paid"] == 0


def test_the_insurance_account_does_not_insure_itself() -> None:
    d = desk(balances=(0, 0, 1_000_000, 0, BALANCE, BALANCE), **FREE)
    d.trade(buyer=INSURANCE, seller=BOB, price=1000, size=100)
    d.buy(CAROL, 800, 100)
    assert lines(d.tick(900, 1000))[1] == "INSURANCE DEFICIT 0 PAID 1000000 LEFT"


def test_an_account_with_a_position_in_a_stale_instrument_is_left_alone() -> None:
    d = leveraged()
    d.tick(1050, 1000)
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=1, instrument=1)
    d.buy(CAROL, 940, 100)
    assert lines(d.tick(947, 0)) == [], "no opinion on the second instrument: its equity is not known"
    assert lines(d.tick(947, 1000)) == [SOLD.format(940)]


def test_1024_accounts_are_checked_after_a_block_and_the_rest_after_the_next() -> None:
    balances = [0] * 1100
    balances[3], balances[1023], balances[1024] = BALANCE, 1_000_000, 1_000_000
    d = desk(balances=balances, accounts_max=2048, **FREE)
    d.trade(buyer=1024, seller=3, price=1000, size=100)
    d.trade(buyer=1023, seller=3, price=1000, size=100)  # by now the first round is over
    d.buy(3, 940, 200)
    assert lines(d.tick(947, 1000)) == ["1023 TAKES 100@940 FROM ALICE"]
    assert lines(d.tick()) == ["1024 TAKES 100@940 FROM ALICE"]


def test_16_accounts_are_liquidated_after_a_block_and_the_next_after_the_next() -> None:
    d = desk(balances=[0, 0, 0, BALANCE, BALANCE, BALANCE] + [1_000_000] * 17, **FREE)
    d.sell(BOB, 1000, 1700)
    for account in range(6, 23):
        d.buy(account, 1000, 100)
    d.buy(CAROL, 940, 1700)
    assert [int(a) for a in d.tick(947, 1000)["account"]] == list(range(6, 22))
    assert [int(a) for a in d.tick()["account"]] == [22]
    assert lines(d.tick()) == []
