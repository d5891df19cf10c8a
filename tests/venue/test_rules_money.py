"""Transfers, and the bridge's deposits, withdrawals and new accounts."""

import pytest

from lockstep.base.limits import AMOUNT_MAX, BALANCE_MAX
from lockstep.wire.command import Kind
from tests.support.venue_invariants import check_invariants
from tests.support.venue_market import ALICE, BALANCE, BOB, BRIDGE, CAROL, command
from tests.support.venue_script import Desk, desk, lines, refusal

FREE = {"maker_fee_ppm": 0, "taker_fee_ppm": 0}
TRANSFER, DEPOSIT, WITHDRAW = Kind.TRANSFER, Kind.DEPOSIT, Kind.WITHDRAW
KEY = {"price": 11, "size": 22, "client_id": 33, "target": 44}


def test_a_transfer_moves_the_amount_and_nothing_else() -> None:
    d = desk()
    events = d.move(TRANSFER, ALICE, 700, BOB)
    assert lines(events) == ["ALICE ACCEPTED 700"] and int(events[0]["other_account"]) == BOB
    assert (d.balance(ALICE), d.balance(BOB)) == (BALANCE - 700, BALANCE + 700)
    assert d.row["deposited"] == 6 * BALANCE


def test_a_deposit_appears_and_a_withdrawal_goes() -> None:
    d = desk()
    assert lines(d.move(DEPOSIT, BRIDGE, 700, ALICE)) == ["BRIDGE ACCEPTED 700"]
    assert d.balance(ALICE) == BALANCE + 700 and d.row["deposited"] == 6 * BALANCE + 700
    assert lines(d.move(WITHDRAW, BRIDGE, 200, ALICE)) == ["BRIDGE ACCEPTED 200"]
    assert d.balance(ALICE) == BALANCE + 500 and d.row["deposited"] == 6 * BALANCE + 500
    assert d.balance(BRIDGE) == BALANCE, "the bridge's own account is not touched"
    check_invariants(d.venue)


@pytest.mark.parametrize("kind", [TRANSFER, WITHDRAW])
def test_all_of_a_balance_may_go_and_no_more(kind: Kind) -> None:
    sender, target = (ALICE, BOB) if kind == TRANSFER else (BRIDGE, ALICE)
    d = desk(balances=(0, 0, 0, 700, 0, 0))
    assert refusal(d.move(kind, sender, 701, target)) == "INSUFFICIENT_COLLATERAL"
    assert refusal(d.move(kind, sender, 700, target)) == ""
    assert d.balance(ALICE) == 0


@pytest.mark.parametrize("kind", [TRANSFER, DEPOSIT, WITHDRAW])
@pytest.mark.parametrize(
    ("amount", "reason"),
    [(-1, "BAD_AMOUNT"), (0, "BAD_AMOUNT"), (1, ""), (AMOUNT_MAX, ""), (AMOUNT_MAX + 1, "BAD_AMOUNT")],
)
def test_an_amount_is_from_1_to_the_largest(kind: Kind, amount: int, reason: str) -> None:
    d = desk(balances=(AMOUNT_MAX + 1, 0, 0, AMOUNT_MAX + 1, 0, 0))
    assert refusal(d.move(kind, BRIDGE, amount, ALICE)) == reason


@pytest.mark.parametrize("kind", [TRANSFER, DEPOSIT, WITHDRAW])
@pytest.mark.parametrize("target", [6, 1 << 63, (1 << 64) - 1])
def test_the_other_account_must_exist(kind: Kind, target: int) -> None:
    assert refusal(desk().move(kind, BRIDGE, 1, target)) == "UNKNOWN_ACCOUNT"
    assert refusal(desk().move(kind, BRIDGE, 1, 5)) == ""


@pytest.mark.parametrize("kind", [DEPOSIT, WITHDRAW])
def test_only_the_bridge_deposits_and_withdraws(kind: Kind) -> None:
    d = desk()
    assert refusal(d.move(kind, ALICE, 1, ALICE)) == "NOT_PERMITTED"
    assert d.balance(ALICE) == BALANCE


@pytest.mark.parametrize("kind", [TRANSFER, DEPOSIT, WITHDRAW])
@pytest.mark.parametrize("field", ["side", "tif", "flags", "instrument", "price", "client_id"])
def test_money_has_no_order_fields(kind: Kind, field: str) -> None:
    assert refusal(desk().do(BRIDGE, command(kind, size=1, target=ALICE, **{field: 1}))) == "MALFORMED"


def test_margin_in_use_can_not_be_taken_out() -> None:
    d = desk(balances=(0, 0, 0, 100_000, BALANCE, 0), **FREE)
    d.buy(ALICE, 999, 6)  # 60,000 of initial margin
    assert refusal(d.move(TRANSFER, ALICE, 40_001, BOB)) == "INSUFFICIENT_COLLATERAL"
    assert refusal(d.move(WITHDRAW, BRIDGE, 40_001, ALICE)) == "INSUFFICIENT_COLLATERAL"
    assert refusal(d.move(TRANSFER, ALICE, 40_000, BOB)) == ""


def test_an_unrealised_loss_can_not_be_taken_out_either() -> None:
    d = desk(balances=(0, 0, 0, 100_000, BALANCE, 0), **FREE)
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=5)
    d.tick(990, 1000)  # equity 95,000, five lots need 49,500
    assert refusal(d.move(TRANSFER, ALICE, 45_501, BOB)) == "INSUFFICIENT_COLLATERAL"
    assert refusal(d.move(TRANSFER, ALICE, 45_500, BOB)) == ""


def test_an_unrealised_profit_stays_in() -> None:
    d = desk(balances=(0, 0, 0, 10_000, BALANCE, 0), **FREE)
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=1)
    d.tick(1200, 1000)  # equity 30,000, one lot needs 12,000: 18,000 are free, but the balance is 10,000
    assert refusal(d.move(TRANSFER, ALICE, 10_001, BOB)) == "INSUFFICIENT_COLLATERAL"
    assert refusal(d.move(TRANSFER, ALICE, 10_000, BOB)) == ""


def test_nothing_is_taken_out_with_a_position_in_a_stale_instrument() -> None:
    d = desk(**FREE)
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=1)
    d.tick(0, 1000)
    assert refusal(d.move(TRANSFER, ALICE, 1, BOB)) == "STALE_PRICE"
    assert refusal(d.move(WITHDRAW, BRIDGE, 1, ALICE)) == "STALE_PRICE"
    assert refusal(d.move(TRANSFER, CAROL, 1, ALICE)) == "", "who holds nothing may, and anybody may receive"
    assert refusal(d.move(DEPOSIT, BRIDGE, 1, ALICE)) == ""


def test_deposits_stop_at_the_largest_balance() -> None:
    d = desk(balances=(0, 0, 0, BALANCE_MAX - 10, 0, 0))
    assert refusal(d.move(DEPOSIT, BRIDGE, 11, ALICE)) == "BALANCE_LIMIT"
    assert refusal(d.move(DEPOSIT, BRIDGE, 11, BOB)) == "BALANCE_LIMIT", "the whole venue holds no more than that"
    assert refusal(d.move(DEPOSIT, BRIDGE, 10, BOB)) == ""


def test_a_transfer_to_oneself_changes_nothing() -> None:
    d = desk(balances=(0, 0, 0, BALANCE_MAX - 10, 0, 0))
    assert refusal(d.move(TRANSFER, ALICE, 11, ALICE)) == "BALANCE_LIMIT"
    assert refusal(d.move(TRANSFER, ALICE, 10, ALICE)) == ""
    assert d.balance(ALICE) == BALANCE_MAX - 10


def open_one(d: Desk, account: int, **changes: int) -> str:
    return refusal(d.do(account, command(Kind.OPEN_ACCOUNT, **{**KEY, **changes})))


def test_an_account_gets_the_next_number_and_the_key_that_four_fields_spell() -> None:
    d = desk()
    execution = d.block((BRIDGE, [command(Kind.OPEN_ACCOUNT, **KEY)]))
    assert lines(execution.events) == ["BRIDGE ACCEPTED 0"] and int(execution.events[0]["other_account"]) == 6
    key = b"".join(word.to_bytes(8, "little") for word in (11, 22, 33, 44))
    assert execution.opened == ((6, key, 1),)
    assert (d.balance(6), int(d.account(6)["opened_height"])) == (0, 1)


def test_two_accounts_may_have_one_key() -> None:
    d = desk()
    assert (open_one(d, BRIDGE), open_one(d, BRIDGE)) == ("", "")
    assert d.row["accounts"] == 8


def test_an_account_opened_in_a_block_can_be_used_in_the_same_block() -> None:
    d = desk()
    events = d.do(BRIDGE, command(Kind.OPEN_ACCOUNT, **KEY), command(TRANSFER, size=5, target=6))
    assert lines(events) == ["BRIDGE ACCEPTED 0", "BRIDGE ACCEPTED 5"] and d.balance(6) == 5
    assert lines(d.move(TRANSFER, 6, 5, ALICE)) == ["6 ACCEPTED 5"]


def test_only_the_bridge_opens_accounts_and_only_until_they_are_full() -> None:
    d = desk(balances=[0] * 1023)  # accounts_max is 1024
    assert open_one(d, ALICE) == "NOT_PERMITTED"
    assert open_one(d, BRIDGE) == ""
    assert open_one(d, BRIDGE) == "ACCOUNTS_FULL"
    assert d.row["accounts"] == 1024


@pytest.mark.parametrize("field", ["side", "tif", "flags", "instrument"])
def test_a_new_account_has_no_order_fields(field: str) -> None:
    assert open_one(desk(), BRIDGE, **{field: 1}) == "MALFORMED"
