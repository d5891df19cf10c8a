"""Cases: balances, client ids, and tables and accounts that are full."""

from lockstep.base.limits import (
    BALANCE_MAX,
    OPEN_ORDERS_PER_ACCOUNT_MAX,
    POSITIONS_PER_ACCOUNT_MAX,
)
from lockstep.venue.event import EventReason
from lockstep.wire.command import Kind
from tests.support.venue_market import (
    ALICE,
    BALANCE,
    BOB,
    BRIDGE,
    BUY,
    CAROL,
    FEES,
    FOK,
    IOC,
    command,
    instrument,
    place,
)
from tests.support.venue_reason import Script, due, made_rich
from tests.support.venue_script import (
    desk,
    order_id,
)

R = EventReason


# -- balances ----------------------------------------------------------------------------------------


@due(R.BALANCE_LIMIT)
def deposits_up_to_the_largest_balance() -> Script:
    d = desk(balances=(0, 0, 0, BALANCE_MAX - 10, 0, 0))
    yield R.BALANCE_LIMIT, d.move(Kind.DEPOSIT, BRIDGE, 11, ALICE)
    yield R.NONE, d.move(Kind.DEPOSIT, BRIDGE, 10, ALICE)
    yield R.BALANCE_LIMIT, d.move(Kind.DEPOSIT, BRIDGE, 1, BOB)


@due(R.BALANCE_LIMIT)
def transfers_up_to_the_largest_balance() -> Script:
    d = desk(balances=(0, 0, 0, BALANCE_MAX - 1, 1, 0))
    d.move(Kind.TRANSFER, BOB, 1, ALICE)  # to exactly the largest: allowed, as the next step shows by its refusal
    yield R.BALANCE_LIMIT, d.move(Kind.TRANSFER, ALICE, 1, ALICE)
    yield R.NONE, d.move(Kind.TRANSFER, ALICE, 1, BOB)


@due(R.BALANCE_LIMIT)
def an_account_above_the_largest_balance_places_nothing() -> Script:
    yield R.NONE, made_rich(ALICE, BALANCE_MAX - 1_000_000).buy(ALICE, 999, 1)
    d = made_rich(ALICE, BALANCE_MAX - 999_999)
    yield R.BALANCE_LIMIT, d.buy(ALICE, 999, 1)
    yield R.NONE, d.sell(CAROL, 1001, 1)


@due(R.BALANCE_LIMIT)
def nobody_places_when_the_fee_account_is_above_it() -> Script:
    yield R.NONE, made_rich(FEES, BALANCE_MAX - 1_000_000).buy(ALICE, 999, 1, instrument=1)
    yield R.BALANCE_LIMIT, made_rich(FEES, BALANCE_MAX - 999_999).buy(ALICE, 999, 1, instrument=1)


# -- client ids and room -----------------------------------------------------------------------------


@due(R.DUPLICATE_CLIENT_ID)
def a_client_id_names_one_open_order_of_an_account() -> Script:
    d = desk()
    first = order_id(d.buy(ALICE, 999, 1, client_id=5))
    yield R.DUPLICATE_CLIENT_ID, d.buy(ALICE, 998, 1, client_id=5)
    yield R.DUPLICATE_CLIENT_ID, d.buy(ALICE, 998, 1, IOC, client_id=5)
    yield R.DUPLICATE_CLIENT_ID, d.buy(ALICE, 998, 1, client_id=5, instrument=1)
    yield R.NONE, d.buy(BOB, 998, 1, client_id=5)
    yield R.NONE, d.buy(ALICE, 998, 1, client_id=6)
    yield R.NONE, d.buy(ALICE, 998, 1)
    yield R.NONE, d.buy(ALICE, 998, 1)
    yield R.DUPLICATE_CLIENT_ID, d.replace(ALICE, first, 997, 1, client_id=6)
    yield R.NONE, d.replace(ALICE, first, 997, 1, client_id=5)


def crowding_ids(account: int, count: int) -> tuple[list[int], int]:
    """`count` client ids that may all go into the same two buckets of the index only, and one that may go elsewhere.

    With orders_max 1024 the index has 16 buckets of 256. The two of an id follow from the id without its low 7 bits,
    and the account: worked out here as `client_index` describes it, as somebody would who wants to fill them.
    """
    crowd: list[int] = []
    pair: set[int] = set()
    for group in range(1, 1 << 20):
        mixed = group * 1_640_531_527 ^ (account + 1) * 2_057_660_513
        mixed = ((mixed ^ mixed >> 31) & 0x7FFF_FFFF) * 1_597_334_677
        first, second = mixed >> 33 & 15, mixed >> 8 & 15
        both = {first, second if second != first else first ^ 1}
        pair = pair or both
        if both == pair and len(crowd) < count:
            crowd += range(group << 7, (group + 1) << 7)
        elif not both & pair and len(crowd) >= count:
            return crowd[:count], group << 7
    raise AssertionError


@due(R.CLIENT_ID_BUSY)
def both_buckets_of_a_client_id_are_full_with_512() -> Script:
    ids, elsewhere = crowding_ids(ALICE, 513)
    d = desk()
    d.do(ALICE, *[place(BUY, 900, 1, client_id=one) for one in ids[:511]])
    yield R.NONE, d.buy(ALICE, 900, 1, client_id=ids[511])
    yield R.CLIENT_ID_BUSY, d.buy(ALICE, 900, 1, client_id=ids[512])
    yield R.NONE, d.buy(ALICE, 900, 1, client_id=elsewhere)
    yield R.NONE, d.buy(ALICE, 900, 1)
    d.sell(BOB, 1000, 1)
    yield R.NONE, d.buy(ALICE, 1000, 1, FOK, client_id=ids[512])  # it does not rest, so it needs no room
    yield R.NONE, d.cancel_client(ALICE, ids[100])
    yield R.NONE, d.buy(ALICE, 900, 1, client_id=ids[512])
    left = [*ids[:100], *ids[101:]]  # every removal moves others, and each must still be found
    yield R.NONE, d.do(ALICE, *[command(Kind.CANCEL_CLIENT, client_id=one) for one in left])


@due(R.TOO_MANY_ORDERS)
def an_account_has_1024_open_orders() -> Script:
    assert OPEN_ORDERS_PER_ACCOUNT_MAX == 1024
    d = desk(orders_max=2048)
    d.do(ALICE, *[place(BUY, 900, 1)] * 1023)
    last = order_id(d.buy(ALICE, 901, 1))
    yield R.TOO_MANY_ORDERS, d.buy(ALICE, 900, 1)
    yield R.TOO_MANY_ORDERS, d.buy(ALICE, 900, 1, instrument=1)
    d.sell(BOB, 1000, 1)
    yield R.NONE, d.buy(ALICE, 1000, 1, FOK)
    yield R.NONE, d.replace(ALICE, last, 902, 1)
    yield R.NONE, d.buy(BOB, 900, 1)
    d.sell(BOB, 902, 1)
    yield R.NONE, d.buy(ALICE, 900, 1)


@due(R.ORDERS_FULL)
def the_venue_has_1023_resting_orders() -> Script:
    d = desk()  # orders_max 1024: row 0 stays empty
    d.do(ALICE, *[place(BUY, 900, 1)] * 1000)
    d.do(BOB, *[place(BUY, 900, 1)] * 22)
    last = order_id(d.buy(BOB, 901, 1))
    yield R.ORDERS_FULL, d.buy(CAROL, 900, 1)
    yield R.ORDERS_FULL, d.sell(CAROL, 901, 1)  # a GTC order needs room although it would trade at once
    yield R.NONE, d.replace(BOB, last, 902, 1)
    yield R.NONE, d.sell(CAROL, 902, 1, FOK)
    yield R.NONE, d.buy(CAROL, 900, 1)
    yield R.ORDERS_FULL, d.buy(CAROL, 900, 1)


@due(R.TOO_MANY_POSITIONS)
def an_account_has_positions_or_orders_in_64_instruments() -> Script:
    assert POSITIONS_PER_ACCOUNT_MAX == 64
    d = desk(instruments=[instrument(tick_value=1)] * 65)
    d.do(ALICE, *[place(BUY, 999, 1, instrument=number) for number in range(63)])
    yield R.NONE, d.buy(ALICE, 999, 1, instrument=63)
    yield R.TOO_MANY_POSITIONS, d.buy(ALICE, 999, 1, instrument=64)
    yield R.TOO_MANY_POSITIONS, d.buy(ALICE, 999, 1, IOC, instrument=64)
    yield R.NONE, d.buy(ALICE, 999, 1, instrument=63)
    d.cancel_all(ALICE, 7)
    yield R.NONE, d.buy(ALICE, 999, 1, instrument=64)


@due(R.POSITIONS_FULL)
def the_venue_has_1023_positions() -> Script:
    d = desk(balances=[BALANCE] * 17, instruments=[instrument(tick_value=1)] * 64, orders_max=2048)
    for account in range(15):
        d.do(account, *[place(BUY, 999, 1, instrument=number) for number in range(64)])
    d.do(15, *[place(BUY, 999, 1, instrument=number) for number in range(62)])
    yield R.NONE, d.buy(15, 999, 1, instrument=62)  # the 15 x 64 + 63rd
    yield R.POSITIONS_FULL, d.buy(15, 999, 1, instrument=63)
    yield R.POSITIONS_FULL, d.buy(16, 999, 1, IOC)
    yield R.NONE, d.buy(15, 999, 1, instrument=62)
    d.cancel_all(14, 63)
    yield R.NONE, d.buy(16, 999, 1)
    yield R.POSITIONS_FULL, d.buy(16, 999, 1, instrument=1)
