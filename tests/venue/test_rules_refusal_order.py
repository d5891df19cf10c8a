"""Which reason is given when several apply."""

from lockstep.base.limits import (
    BALANCE_MAX,
)
from lockstep.wire.command import Kind
from tests.support.venue_market import (
    ALICE,
    BALANCE,
    BOB,
    BRIDGE,
    BUY,
    CAROL,
    IOC,
    command,
    instrument,
    place,
)
from tests.support.venue_reason import made_rich
from tests.support.venue_script import (
    POST_ONLY,
    REDUCE_ONLY,
    desk,
    order_id,
    refusal,
)


def test_the_order_of_refusals_of_an_order() -> None:
    """One command with everything wrong; its faults are put right one by one."""
    d = desk(balances=(0, 0, 0, 100_000, BALANCE, BALANCE))

    def attempt(**fields: int) -> str:
        return refusal(d.quietly((ALICE, [command(Kind.PLACE, **fields)])))

    wrong = {"side": 2, "instrument": 9, "price": 0, "size": 0, "flags": REDUCE_ONLY | POST_ONLY, "client_id": 5}
    assert attempt(**wrong) == "MALFORMED"
    assert attempt(**(wrong := {**wrong, "side": BUY})) == "UNKNOWN_INSTRUMENT"
    assert attempt(**(wrong := {**wrong, "instrument": 0})) == "BAD_PRICE"
    assert attempt(**(wrong := {**wrong, "price": 1300})) == "BAD_SIZE"
    assert attempt(**(wrong := {**wrong, "size": 10_000})) == "STALE_PRICE"
    d.buy(ALICE, 900, 1, client_id=5)
    d.sell(BOB, 1100, 10_000)
    assert attempt(**wrong) == "PRICE_BAND"
    assert attempt(**(wrong := {**wrong, "price": 1100})) == "DUPLICATE_CLIENT_ID"
    assert attempt(**(wrong := {**wrong, "client_id": 0})) == "REDUCE_ONLY"
    d.tick()
    assert attempt(**(wrong := {**wrong, "flags": POST_ONLY})) == "POST_ONLY"
    assert attempt(**(wrong := {**wrong, "flags": 0})) == "POSITION_LIMIT"
    assert attempt(**(wrong := {**wrong, "size": 9_999})) == "INSUFFICIENT_MARGIN"
    d.tick()
    assert attempt(**{**wrong, "size": 1}) == ""


def test_too_many_orders_come_before_a_full_venue_and_both_after_the_client_id() -> None:
    d = desk(orders_max=2048)
    d.do(ALICE, *[place(BUY, 900, 1)] * 1023, place(BUY, 900, 1, client_id=5))
    d.do(BOB, *[place(BUY, 900, 1)] * 1022, place(BUY, 900, 1, client_id=6))
    wrong = {"flags": REDUCE_ONLY | POST_ONLY}
    assert refusal(d.buy(ALICE, 900, 1, client_id=5, **wrong)) == "DUPLICATE_CLIENT_ID"
    assert refusal(d.buy(ALICE, 900, 1, **wrong)) == "TOO_MANY_ORDERS"
    assert refusal(d.buy(BOB, 900, 1, client_id=6, **wrong)) == "DUPLICATE_CLIENT_ID"
    assert refusal(d.buy(BOB, 900, 1, **wrong)) == "ORDERS_FULL"
    assert refusal(d.buy(BOB, 900, 1, IOC, REDUCE_ONLY)) == "REDUCE_ONLY"


def test_a_full_venue_comes_before_too_many_positions_and_those_before_reduce_only() -> None:
    d = desk(instruments=[instrument(tick_value=1)] * 65)
    d.do(ALICE, *[place(BUY, 999, 1, instrument=number) for number in range(64)])
    assert refusal(d.sell(ALICE, 999, 1, flags=REDUCE_ONLY, instrument=64)) == "TOO_MANY_POSITIONS"
    d.do(BOB, *[place(BUY, 900, 1)] * (1023 - 64))
    assert refusal(d.sell(ALICE, 999, 1, flags=REDUCE_ONLY, instrument=64)) == "ORDERS_FULL"


def test_too_many_positions_come_before_a_full_table_of_them() -> None:
    d = desk(balances=[BALANCE] * 16, instruments=[instrument(tick_value=1)] * 65, orders_max=2048)
    for account in range(15):
        d.do(account, *[place(BUY, 999, 1, instrument=number) for number in range(64)])
    d.do(15, *[place(BUY, 999, 1, instrument=number) for number in range(63)])  # 15 x 64 + 63 = 1023
    assert refusal(d.buy(0, 999, 1, flags=REDUCE_ONLY, instrument=64)) == "TOO_MANY_POSITIONS"
    assert refusal(d.buy(15, 999, 1, flags=REDUCE_ONLY, instrument=64)) == "POSITIONS_FULL"


def test_the_balance_limit_comes_after_the_band_and_before_the_client_id() -> None:
    d = made_rich(ALICE, BALANCE_MAX - 999_999)
    assert refusal(d.buy(ALICE, 1300, 1, flags=REDUCE_ONLY)) == "PRICE_BAND"
    assert refusal(d.buy(ALICE, 999, 1, flags=REDUCE_ONLY)) == "BALANCE_LIMIT"


def test_the_order_of_refusals_of_a_replace() -> None:
    d = desk()
    d.sell(BOB, 1000, 1)
    mine = order_id(d.buy(ALICE, 900, 1))
    assert refusal(d.do(ALICE, command(Kind.REPLACE, target=0, side=1))) == "MALFORMED"
    assert refusal(d.replace(ALICE, 0, 0, 0)) == "UNKNOWN_ORDER"
    assert refusal(d.replace(ALICE, mine, 0, 0)) == "BAD_PRICE"
    assert refusal(d.replace(ALICE, mine, 1201, 0)) == "BAD_SIZE"
    assert refusal(d.replace(ALICE, mine, 1201, 1)) == "PRICE_BAND"


def test_the_order_of_refusals_of_money() -> None:
    d = desk(balances=(0, 0, 0, BALANCE_MAX - 100, 0, 0), maker_fee_ppm=0, taker_fee_ppm=0)
    deposit = {"size": 0, "target": 9}
    assert refusal(d.do(ALICE, command(Kind.DEPOSIT, price=1, **deposit))) == "MALFORMED"
    assert refusal(d.do(ALICE, command(Kind.DEPOSIT, **deposit))) == "NOT_PERMITTED"
    assert refusal(d.do(BRIDGE, command(Kind.DEPOSIT, **deposit))) == "UNKNOWN_ACCOUNT"
    assert refusal(d.move(Kind.DEPOSIT, BRIDGE, 0, ALICE)) == "BAD_AMOUNT"
    assert refusal(d.move(Kind.DEPOSIT, BRIDGE, 101, ALICE)) == "BALANCE_LIMIT"
    assert refusal(d.move(Kind.DEPOSIT, BRIDGE, 100, BOB)) == ""


def test_the_order_of_refusals_of_a_transfer() -> None:
    d = desk(balances=(0, 0, 0, BALANCE_MAX - 20_000, 20_000, 0), maker_fee_ppm=0, taker_fee_ppm=0)
    d.trade(buyer=BOB, seller=ALICE, price=1000, size=1)
    d.tick(0, 1000)  # BOB holds a lot, and its price is not known
    assert refusal(d.move(Kind.TRANSFER, BOB, 1 << 52, ALICE)) == "BALANCE_LIMIT"
    assert refusal(d.move(Kind.TRANSFER, BOB, 1 << 52, CAROL)) == "STALE_PRICE"
    d.tick(1000, 1000)
    assert refusal(d.move(Kind.TRANSFER, BOB, 10_001, CAROL)) == "INSUFFICIENT_COLLATERAL"
    assert refusal(d.move(Kind.TRANSFER, BOB, 10_000, CAROL)) == ""


def test_an_account_opened_by_a_stranger_when_full_is_not_permitted() -> None:
    d = desk(balances=[0] * 1024)
    assert refusal(d.do(ALICE, command(Kind.OPEN_ACCOUNT, side=1))) == "MALFORMED"
    assert refusal(d.do(ALICE, command(Kind.OPEN_ACCOUNT))) == "NOT_PERMITTED"
    assert refusal(d.do(BRIDGE, command(Kind.OPEN_ACCOUNT))) == "ACCOUNTS_FULL"
