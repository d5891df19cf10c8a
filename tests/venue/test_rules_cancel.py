"""Pulling orders: by id, by client id, all of them; and whose orders, and when."""

import pytest

from lockstep.wire.command import Kind
from tests.support.venue_market import ALICE, BOB, command, place, replace
from tests.support.venue_script import desk, lines, order_id, refusal


def test_cancel_by_id_removes_the_order_from_the_middle_of_its_line() -> None:
    d = desk()
    d.buy(BOB, 999, 1)
    mine = order_id(d.buy(ALICE, 999, 2))
    d.buy(BOB, 999, 3)
    assert lines(d.cancel(ALICE, mine)) == ["ALICE CANCELLED 2@999"]
    assert d.queue(999) == [("BOB", 1), ("BOB", 3)]


def test_cancel_of_a_partly_filled_order_names_what_was_left() -> None:
    d = desk()
    mine = order_id(d.buy(ALICE, 999, 5))
    d.sell(BOB, 999, 2)
    assert lines(d.cancel(ALICE, mine)) == ["ALICE CANCELLED 3@999"]


def test_cancel_of_the_best_order_uncovers_the_next_price() -> None:
    d = desk()
    best = order_id(d.buy(ALICE, 999, 1))
    d.buy(ALICE, 900, 1)
    d.cancel(ALICE, best)
    assert d.top() == (900, 0)


def test_cancelling_twice_finds_nothing_the_second_time() -> None:
    d = desk()
    mine = order_id(d.buy(ALICE, 999, 1))
    assert refusal(d.cancel(ALICE, mine)) == ""
    assert refusal(d.cancel(ALICE, mine)) == "UNKNOWN_ORDER"
    assert d.row["orders_open"] == 0


def test_a_filled_order_is_unknown() -> None:
    d = desk()
    mine = order_id(d.buy(ALICE, 999, 1))
    d.sell(BOB, 999, 1)
    assert refusal(d.cancel(ALICE, mine)) == "UNKNOWN_ORDER"


def test_a_stale_id_does_not_reach_the_order_that_has_its_slot_now() -> None:
    d = desk()
    old = order_id(d.buy(ALICE, 999, 1))
    d.cancel(ALICE, old)
    new = order_id(d.buy(ALICE, 998, 1))
    slots = 1024  # orders_max: an id is serial x 1024 + slot
    assert (new % slots, new // slots) == (old % slots, old // slots + 1), "the slot freed last is used first"
    assert refusal(d.cancel(ALICE, old)) == "UNKNOWN_ORDER"
    assert refusal(d.replace(ALICE, old, 998, 1)) == "UNKNOWN_ORDER"
    assert d.queue(998) == [("ALICE", 1)]


def test_another_accounts_order_is_unknown() -> None:
    d = desk()
    mine = order_id(d.buy(ALICE, 999, 1, client_id=5))
    assert refusal(d.cancel(BOB, mine)) == "UNKNOWN_ORDER"
    assert refusal(d.replace(BOB, mine, 999, 1)) == "UNKNOWN_ORDER"
    assert refusal(d.cancel_client(BOB, 5)) == "UNKNOWN_ORDER"
    assert d.queue(999) == [("ALICE", 1)]


@pytest.mark.parametrize("target", [0, 1, 1023, 1025, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_an_id_that_was_never_given_out_is_unknown(target: int) -> None:
    d = desk()  # the only order has slot 1 and serial 1: its id is 1 x 1024 + 1 = 1025, and BOB does not own it
    assert order_id(d.buy(ALICE, 999, 1)) == 1025
    assert refusal(d.cancel(BOB, target)) == "UNKNOWN_ORDER"


def test_cancel_by_client_id() -> None:
    d = desk()
    d.buy(ALICE, 999, 1, client_id=5)
    d.buy(ALICE, 998, 2, client_id=(1 << 64) - 1)
    events = d.cancel_client(ALICE, (1 << 64) - 1)
    assert lines(events) == ["ALICE CANCELLED 2@998"] and int(events[0]["client_id"]) == (1 << 64) - 1
    assert refusal(d.cancel_client(ALICE, (1 << 64) - 1)) == "UNKNOWN_ORDER"
    assert lines(d.cancel_client(ALICE, 5)) == ["ALICE CANCELLED 1@999"]


def test_two_accounts_may_use_the_same_client_id() -> None:
    d = desk()
    d.buy(ALICE, 999, 1, client_id=5)
    d.buy(BOB, 998, 2, client_id=5)
    assert lines(d.cancel_client(BOB, 5)) == ["BOB CANCELLED 2@998"]
    assert lines(d.cancel_client(ALICE, 5)) == ["ALICE CANCELLED 1@999"]


def test_a_client_id_is_free_again_when_its_order_is_gone() -> None:
    d = desk()
    d.buy(ALICE, 999, 1, client_id=5)
    assert refusal(d.buy(ALICE, 998, 1, client_id=5)) == "DUPLICATE_CLIENT_ID"
    d.sell(BOB, 999, 1)
    assert refusal(d.buy(ALICE, 998, 1, client_id=5)) == ""


def test_cancel_all_cancels_newest_first_and_counts() -> None:
    d = desk()
    d.buy(ALICE, 999, 1)
    d.sell(ALICE, 1001, 2, instrument=1)
    d.buy(BOB, 999, 9)
    assert lines(d.cancel_all(ALICE)) == [
        "ALICE CANCELLED 2@1001 CANCEL_ALL",
        "ALICE CANCELLED 1@999 CANCEL_ALL",
        "ALICE ACCEPTED 2",
    ]
    assert d.queue(999) == [("BOB", 9)]


def test_cancel_all_of_one_instrument_leaves_the_others() -> None:
    d = desk()
    d.buy(ALICE, 999, 1)
    d.sell(ALICE, 1001, 2, instrument=1)
    assert lines(d.cancel_all(ALICE, 1)) == ["ALICE CANCELLED 2@1001 CANCEL_ALL", "ALICE ACCEPTED 1"]
    assert d.queue(999) == [("ALICE", 1)]


def test_cancel_all_with_nothing_to_cancel_is_accepted() -> None:
    d = desk()
    assert lines(d.cancel_all(ALICE)) == ["ALICE ACCEPTED 0"]
    assert refusal(d.cancel_all(ALICE, 1)) == ""
    assert refusal(d.cancel_all(ALICE, 2)) == "UNKNOWN_INSTRUMENT"


def test_a_cancelled_orders_margin_is_free_again() -> None:
    # 10,000 lots at the mark need 10% of 1e9 = 1e8, and 300 ppm of 1e9 = 300,000 for the fee until they rest;
    # 1000 lots of the second instrument need 10% of 7,000,000
    d = desk(balances=(0, 0, 0, 100_300_000, 0, 0))
    mine = order_id(d.buy(ALICE, 1000, 10_000))
    assert refusal(d.sell(ALICE, 1001, 1000, instrument=1)) == "INSUFFICIENT_MARGIN"
    d.cancel(ALICE, mine)
    assert d.position(ALICE) is None
    assert refusal(d.sell(ALICE, 1001, 1000, instrument=1)) == ""


@pytest.mark.parametrize("field", ["side", "tif", "flags", "instrument", "price", "size", "client_id"])
def test_a_cancel_has_no_other_field(field: str) -> None:
    d = desk()
    mine = order_id(d.buy(ALICE, 999, 1))
    assert refusal(d.do(ALICE, command(Kind.CANCEL, target=mine, **{field: 1}))) == "MALFORMED"
    assert d.queue(999) == [("ALICE", 1)]


@pytest.mark.parametrize("field", ["side", "tif", "flags", "instrument", "price", "size", "target"])
def test_a_cancel_by_client_id_has_no_other_field(field: str) -> None:
    d = desk()
    d.buy(ALICE, 999, 1, client_id=5)
    assert refusal(d.do(ALICE, command(Kind.CANCEL_CLIENT, client_id=5, **{field: 1}))) == "MALFORMED"


@pytest.mark.parametrize("field", ["side", "tif", "flags", "price", "size", "client_id", "target"])
def test_a_cancel_all_has_no_other_field(field: str) -> None:
    assert refusal(desk().do(ALICE, command(Kind.CANCEL_ALL, **{field: 1}))) == "MALFORMED"


def test_one_block_can_place_replace_and_cancel_the_same_order() -> None:
    d = desk()
    first, second = 1024 + 1, 2 * 1024 + 1  # the new order takes the slot that the old one leaves
    events = d.do(ALICE, place(0, 999, 1), replace(first, 998, 1), command(Kind.CANCEL, target=second))
    assert lines(events) == ["ALICE RESTED 1@999", "ALICE RESTED 1@998", "ALICE CANCELLED 1@998"]
