"""What every command leaves behind: exactly one record with the OUTCOME bit, its fields as documented."""

import numpy as np
import pytest

from lockstep.venue.event import EVENT, SYSTEM, EventFlag, EventKind, EventReason
from lockstep.wire.command import ALL_INSTRUMENTS, Kind
from tests.support.venue_invariants import check_outcomes
from tests.support.venue_market import (
    ALICE,
    BALANCE,
    BOB,
    BRIDGE,
    BUY,
    CAROL,
    IOC,
    SELL,
    cancel_all,
    command,
    outcomes,
    place,
    replace,
)
from tests.support.venue_script import desk, lines, order_id

OUTCOME = EventFlag.OUTCOME


def fields(event: np.void) -> dict[str, int]:
    """The fields that are not zero."""
    return {name: int(event[name]) for name in EVENT.names or () if event[name]}


@pytest.mark.parametrize(
    "one",
    [
        *[command(kind) for kind in range(12)],
        place(BUY, 999, 1),
        place(BUY, 1000, 3),
        place(BUY, 1000, 9, IOC),
        place(SELL, 1000, 1),
        place(BUY, 5000, 1),
        cancel_all(),
        cancel_all(1),
        replace(1025, 1000, 1),
        command(Kind.CANCEL, target=1025),
        command(Kind.CANCEL_CLIENT, client_id=5),
        command(Kind.TRANSFER, size=5, target=BOB),
        command(Kind.DEPOSIT, size=5, target=BOB),
        command(Kind.WITHDRAW, size=5, target=BOB),
    ],
)
@pytest.mark.parametrize("account", [BRIDGE, ALICE, BOB, 6])
def test_a_command_has_one_outcome_and_it_is_its_last_record(account: int, one: tuple[int, ...]) -> None:
    d = desk()
    d.do(BOB, place(SELL, 1000, 2, client_id=5), place(SELL, 1000, 2))
    check_outcomes(d.do(account, one), 1)


def test_outcomes_are_in_order_of_command_across_bundles() -> None:
    d = desk()
    execution = d.block(
        (BOB, [place(SELL, 1000, 1), place(SELL, 1000, 1), place(SELL, 0, 1)]),
        (ALICE, [place(BUY, 1000, 2), cancel_all()]),
        (7, [cancel_all()]),
        (BOB, []),
        (CAROL, [place(BUY, 999, 1), cancel_all()]),
    )
    check_outcomes(execution.events, 8)
    assert lines(execution.events) == [
        "BOB RESTED 1@1000",
        "BOB RESTED 1@1000",
        "BOB REJECTED BAD_PRICE",
        "ALICE TAKES 1@1000 FROM BOB",
        "ALICE TAKES 1@1000 FROM BOB",
        "ALICE FILLED 2@1000",
        "ALICE ACCEPTED 0",
        "7 REJECTED UNKNOWN_ACCOUNT",
        "CAROL RESTED 1@999",
        "CAROL CANCELLED 1@999 CANCEL_ALL",
        "CAROL ACCEPTED 1",
    ]
    assert execution.events["command"].tolist() == [0, 1, 2, 3, 3, 3, 4, 5, 6, 7, 7]
    assert execution.fills == 2


def test_a_bundle_sets_the_next_sequence_of_its_account_whatever_its_commands_did() -> None:
    d = desk()
    d.tick()
    d.do(ALICE, command(0))  # the desk's bundles have the block's height as sequence
    assert int(d.account(ALICE)["next_sequence"]) == 3
    d.block((ALICE, []))
    assert int(d.account(ALICE)["next_sequence"]) == 4


def test_the_fields_of_a_resting_order() -> None:
    d = desk()
    (event,) = d.sell(ALICE, 1001, 4, instrument=1, client_id=9)
    assert fields(event) == {
        "kind": EventKind.RESTED, "flags": OUTCOME, "account": ALICE, "instrument": 1, "side": SELL, "price": 1001,
        "size": 4, "order_id": 1025, "client_id": 9,
    }  # fmt: skip


def test_the_fields_of_a_fill_and_of_the_filled_order() -> None:
    d = desk()
    maker = order_id(d.sell(BOB, 1000, 4, client_id=9))
    fill, filled = d.buy(ALICE, 1001, 3, client_id=8)
    taker = 2 * 1024 + 2  # serial 2 in slot 2, which it gives back
    assert fields(fill) == {
        "kind": EventKind.FILL, "account": ALICE, "other_account": BOB, "price": 1000, "size": 3, "order_id": taker,
        "other_order_id": maker, "client_id": 9, "fee": 90,
    }  # fmt: skip
    assert fields(filled) == {
        "kind": EventKind.FILLED, "flags": OUTCOME, "account": ALICE, "price": 1001, "size": 3, "order_id": taker,
        "client_id": 8,
    }  # fmt: skip


def test_the_fields_of_a_cancelled_order() -> None:
    d = desk()
    mine = order_id(d.sell(ALICE, 1001, 4, instrument=1, client_id=9))
    (event,) = d.cancel(ALICE, mine)
    assert fields(event) == {
        "kind": EventKind.CANCELLED, "flags": OUTCOME, "account": ALICE, "instrument": 1, "side": SELL, "price": 1001,
        "size": 4, "order_id": mine, "client_id": 9,
    }  # fmt: skip


def test_the_fields_of_a_new_order_that_is_cancelled_and_of_a_replaced_one() -> None:
    d = desk()
    old = order_id(d.buy(ALICE, 999, 4, client_id=9))
    (event,) = d.replace(ALICE, old, 998, 5, tif=IOC)
    assert fields(event) == {
        "kind": EventKind.CANCELLED, "reason": EventReason.IMMEDIATE_OR_CANCEL, "flags": OUTCOME, "account": ALICE,
        "price": 998, "size": 5, "order_id": 2 * 1024, "other_order_id": old, "client_id": 9,
    }  # fmt: skip


def test_the_fields_of_a_rejected_command_are_those_sent() -> None:
    sent = {"side": 1, "instrument": 7, "price": (1 << 32) - 1, "size": -5, "client_id": 6, "target": 8}
    (event,) = desk().do(ALICE, command(Kind.PLACE, **sent))
    assert fields(event) == {
        "kind": EventKind.REJECTED, "reason": EventReason.MALFORMED, "flags": OUTCOME, "account": ALICE, "side": 1,
        "instrument": 7, "price": (1 << 32) - 1, "size": -5, "order_id": 8, "client_id": 6,
    }  # fmt: skip


@pytest.mark.parametrize("price", [-1, 1 << 32])
def test_a_rejected_price_that_does_not_fit_is_0(price: int) -> None:
    (event,) = desk().buy(ALICE, price, 1)
    assert (event["kind"], event["reason"], event["price"]) == (EventKind.REJECTED, EventReason.BAD_PRICE, 0)


def test_the_fields_of_an_accepted_transfer_and_cancel_all() -> None:
    d = desk()
    (event,) = d.move(Kind.TRANSFER, ALICE, 7, BOB)
    assert fields(event) == {
        "kind": EventKind.ACCEPTED, "flags": OUTCOME, "account": ALICE, "other_account": BOB, "size": 7
    }  # fmt: skip
    (event,) = d.cancel_all(ALICE)
    assert fields(event) == {
        "kind": EventKind.ACCEPTED, "flags": OUTCOME, "account": ALICE, "instrument": ALL_INSTRUMENTS
    }  # fmt: skip


def test_records_that_no_command_caused_come_last_and_have_no_outcome() -> None:
    d = desk(balances=(0, 0, 0, 1_000_000, BALANCE, BALANCE), maker_fee_ppm=0, taker_fee_ppm=0)
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=100)
    d.buy(CAROL, 800, 100)
    d.prices = [900, 1000]
    events = d.cancel_all(BOB)
    assert events["command"].tolist() == [0, SYSTEM, SYSTEM]
    assert events["flags"].tolist() == [OUTCOME, EventFlag.LIQUIDATION, EventFlag.LIQUIDATION]
    assert len(outcomes(events)) == 1


def test_a_block_with_more_records_than_the_buffer_holds_is_executed_in_stretches() -> None:
    # two records a command and a fixed number are made room for; here one command in 257 leaves 257 records
    d = desk(orders_max=4096)
    for account in (BOB, CAROL, BRIDGE):
        d.do(account, *[place(SELL, 1000, 1)] * 1024)
    events = d.do(ALICE, *[place(BUY, 1000, 256)] * 12)
    check_outcomes(events, 12)
    assert len(events) == 12 * 257 and d.lots(ALICE) == 3072
