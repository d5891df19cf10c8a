"""Every reason to refuse or to cancel: where it is due, and that it is not one step earlier.

A case is a script that yields (reason expected, records). `test_a_reason_is_given_where_due_and_not_before` asks for a
case of every member of EventReason, so a new reason without one fails.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from lockstep.base.limits import (
    BALANCE_MAX,
    OPEN_ORDERS_PER_ACCOUNT_MAX,
    ORDER_LOTS_MAX,
    POSITIONS_PER_ACCOUNT_MAX,
)
from lockstep.venue.event import EventReason, reason_text
from lockstep.wire.command import ALL_INSTRUMENTS, Kind
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
    SELL,
    cancel_all,
    command,
    instrument,
    place,
    replace,
)
from tests.support.venue_script import (
    CANCEL_TAKER,
    POST_ONLY,
    REDUCE_ONLY,
    Desk,
    desk,
    order_id,
    reasons,
    refusal,
)

R = EventReason
Script = Iterator[tuple[EventReason, np.ndarray]]
CASES: dict[EventReason, list[Callable[[], Script]]] = {}


def due(reason: EventReason) -> Callable[[Callable[[], Script]], Callable[[], Script]]:
    """Enter a script as a case of a reason."""

    def enter(script: Callable[[], Script]) -> Callable[[], Script]:
        CASES.setdefault(reason, []).append(script)
        return script

    return enter


@pytest.mark.parametrize("reason", list(EventReason), ids=lambda reason: reason.name)
def test_a_reason_is_given_where_due_and_not_before(reason: EventReason) -> None:
    for script in CASES[reason]:
        seen = set()
        for step, (expected, events) in enumerate(script()):
            given = reasons(events) or {R.NONE}
            assert given == {expected}, f"{script.__name__}, step {step}"
            seen |= given
        assert reason in seen, f"{script.__name__} never reached it"
        assert len(seen) > 1 or reason == R.NONE, f"{script.__name__} shows no case without it"


@pytest.mark.parametrize("reason", list(EventReason), ids=lambda reason: reason.name)
def test_a_reason_has_its_own_sentence(reason: EventReason) -> None:
    others = {reason_text(other) for other in EventReason if other != reason}
    assert reason_text(reason) not in others and (reason_text(reason) or reason == R.NONE)


@due(R.NONE)
def nothing_is_wrong() -> Script:
    d = desk()
    yield R.NONE, d.buy(ALICE, 1000, 1)
    yield R.NONE, d.sell(BOB, 1000, 1, FOK)


# -- the command itself ------------------------------------------------------------------------------


@due(R.MALFORMED)
def a_kind_that_does_not_exist() -> Script:
    for kind in (0, 10, 255):
        yield R.MALFORMED, desk().do(ALICE, command(kind))
    yield R.NONE, desk().do(ALICE, cancel_all())


@due(R.MALFORMED)
def an_order_with_impossible_options() -> Script:
    d = desk()
    for options in ({"tif": 3}, {"tif": 255}, {"flags": 8}, {"flags": 255}, {"target": 1}):
        yield R.MALFORMED, d.buy(ALICE, 999, 1, **options)
    for tif in (IOC, FOK):
        yield R.MALFORMED, d.buy(ALICE, 999, 1, tif, POST_ONLY)
    yield R.MALFORMED, d.do(ALICE, place(2, 999, 1))
    yield R.NONE, d.buy(ALICE, 999, 1, flags=POST_ONLY | CANCEL_TAKER)


@due(R.MALFORMED)
def a_replace_with_fields_that_it_has_not() -> Script:
    d = desk()
    mine = order_id(d.sell(ALICE, 1001, 2, instrument=1))
    fields = {"target": mine, "price": 1001, "size": 1}
    for more in ({"side": 1}, {"instrument": 1}, {"tif": 3}, {"flags": 8}, {"tif": IOC, "flags": POST_ONLY}):
        yield R.MALFORMED, d.do(ALICE, command(Kind.REPLACE, **fields, **more))
    yield R.NONE, d.do(ALICE, command(Kind.REPLACE, **fields))


@due(R.MALFORMED)
def a_client_id_of_0_names_no_order() -> Script:
    d = desk()
    d.buy(ALICE, 999, 1)
    yield R.MALFORMED, d.cancel_client(ALICE, 0)
    d.buy(ALICE, 999, 1, client_id=1)
    yield R.NONE, d.cancel_client(ALICE, 1)


@due(R.UNKNOWN_INSTRUMENT)
def instruments_are_counted_from_0() -> Script:
    d = desk()
    yield R.NONE, d.buy(ALICE, 999, 1, instrument=1)
    yield R.UNKNOWN_INSTRUMENT, d.buy(ALICE, 999, 1, instrument=2)
    yield R.UNKNOWN_INSTRUMENT, d.buy(ALICE, 999, 1, instrument=ALL_INSTRUMENTS)
    yield R.UNKNOWN_INSTRUMENT, d.cancel_all(ALICE, 2)
    yield R.UNKNOWN_INSTRUMENT, d.cancel_all(ALICE, ALL_INSTRUMENTS - 1)


@due(R.BAD_PRICE)
def a_price_is_from_1_to_the_last_tick() -> Script:
    for price in (1, 4095):  # the band of 2100, all of it wide, is 1 to 4095
        yield R.NONE, desk(prices=[2100, 1000], price_band_ppm=1_000_000).buy(ALICE, price, 1)
    for price in (-(1 << 63), -1, 0, 4096, 1 << 32, (1 << 63) - 1):
        yield R.BAD_PRICE, desk(prices=[2100, 1000], price_band_ppm=1_000_000).buy(ALICE, price, 1)


@due(R.BAD_PRICE)
def so_is_a_replacements() -> Script:
    d = desk(prices=[2100, 1000], price_band_ppm=1_000_000)
    mine = order_id(d.buy(ALICE, 2000, 1))
    yield R.BAD_PRICE, d.replace(ALICE, mine, 0, 1)
    yield R.BAD_PRICE, d.replace(ALICE, mine, 4096, 1)
    yield R.NONE, d.replace(ALICE, mine, 1, 1)


@due(R.BAD_SIZE)
def a_size_is_from_1_to_the_position_limit() -> Script:
    for size in (1, 10_000):
        yield R.NONE, desk().buy(ALICE, 999, size)
    for size in (-(1 << 63), -1, 0, 10_001, ORDER_LOTS_MAX, (1 << 63) - 1):
        yield R.BAD_SIZE, desk().buy(ALICE, 999, size)


@due(R.BAD_SIZE)
def a_replacement_of_0_lots_is_no_cancellation() -> Script:
    d = desk()
    mine = order_id(d.buy(ALICE, 999, 5))
    for size in (-1, 0, 10_001):
        yield R.BAD_SIZE, d.replace(ALICE, mine, 999, size)
    yield R.NONE, d.replace(ALICE, mine, 999, 1)


# -- prices ------------------------------------------------------------------------------------------


@due(R.STALE_PRICE)
def a_price_is_stale_after_3000_ms() -> Script:
    d = desk()
    d.tick()
    d.hush(2)
    yield R.NONE, d.quietly((ALICE, [place(BUY, 999, 1)]))
    yield R.STALE_PRICE, d.quietly((ALICE, [place(BUY, 999, 1)]))
    yield R.NONE, d.buy(ALICE, 999, 1)


@due(R.STALE_PRICE)
def even_an_order_that_only_shrinks_waits_for_a_price() -> Script:
    d = desk()
    mine = order_id(d.buy(ALICE, 999, 5))
    d.hush()
    yield R.STALE_PRICE, d.quietly((ALICE, [replace(mine, 999, 1)]))
    yield R.NONE, d.replace(ALICE, mine, 999, 1)


@due(R.PRICE_BAND)
def the_band_of_1000_is_800_to_1200() -> Script:
    d = desk()
    for side in (BUY, SELL):
        yield R.PRICE_BAND, d.do(ALICE, place(side, 799, 1))
        yield R.PRICE_BAND, d.do(ALICE, place(side, 1201, 1))
    yield R.NONE, d.buy(ALICE, 800, 1)
    yield R.NONE, d.sell(ALICE, 1200, 1)


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


def made_rich(who: int, start: int) -> Desk:
    """`who` had `start` and gains 1,000,000: 10,000 lots bought from BOB at 1000, sold to CAROL at 1001."""
    balances = [0, 0, 0, 10_000, 10_000, 10_000]
    balances[who] = start
    rates = {"initial_margin_ppm": 1, "maintenance_margin_ppm": 1, "maker_fee_ppm": 0, "taker_fee_ppm": 0}
    d = desk(balances=balances, **rates)
    d.trade(buyer=who, seller=BOB, price=1000, size=10_000)
    d.prices = [1001, 1000]
    d.block((who, [place(SELL, 1001, 10_000, client_id=5)]), (CAROL, [place(BUY, 1001, 10_000)]))
    assert d.balance(who) == start + 1_000_000
    return d


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


# -- what an order would do --------------------------------------------------------------------------


@due(R.REDUCE_ONLY)
def there_must_be_a_position_to_reduce() -> Script:
    d = desk()
    yield R.REDUCE_ONLY, d.sell(ALICE, 1000, 1, flags=REDUCE_ONLY)
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=1)
    yield R.REDUCE_ONLY, d.buy(ALICE, 1000, 1, flags=REDUCE_ONLY)
    yield R.NONE, d.sell(ALICE, 1001, 1, flags=REDUCE_ONLY)
    d.buy(CAROL, 1000, 1)
    d.sell(ALICE, 1000, 1, FOK)
    yield R.REDUCE_ONLY, d.buy(CAROL, 1001, 1)  # ALICE's order is met with nothing left to reduce, and cancelled


@due(R.POSITION_LIMIT)
def position_and_orders_of_a_side_stay_within_the_limit() -> Script:
    d = desk()
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=4000)
    d.buy(ALICE, 999, 3000)
    yield R.POSITION_LIMIT, d.buy(ALICE, 999, 3001)
    yield R.NONE, d.buy(ALICE, 999, 3000)
    yield R.POSITION_LIMIT, d.buy(ALICE, 999, 1)
    yield R.POSITION_LIMIT, d.sell(BOB, 1001, 6001)
    yield R.NONE, d.sell(BOB, 1001, 6000)
    yield R.NONE, d.buy(ALICE, 999, 1, instrument=1)


@due(R.POSITION_LIMIT)
def orders_that_would_turn_a_position_count_by_themselves() -> Script:
    d = desk()
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=4000)
    d.buy(BOB, 999, 6000)  # short 4000: these would leave 2000 long, and yet no more than 10,000 may rest
    yield R.POSITION_LIMIT, d.buy(BOB, 999, 4001)
    yield R.NONE, d.buy(BOB, 999, 4000)


@due(R.POSITION_LIMIT)
def a_replaced_order_does_not_count() -> Script:
    d = desk()
    mine = order_id(d.buy(ALICE, 999, 6000))
    d.buy(ALICE, 999, 3000)
    yield R.POSITION_LIMIT, d.replace(ALICE, mine, 998, 7001)
    yield R.NONE, d.replace(ALICE, mine, 998, 7000)


@due(R.POST_ONLY)
def a_post_only_order_would_trade() -> Script:
    d = desk()
    d.sell(BOB, 1000, 1)
    yield R.POST_ONLY, d.buy(ALICE, 1000, 1, flags=POST_ONLY)
    yield R.NONE, d.buy(ALICE, 999, 1, flags=POST_ONLY)
    yield R.POST_ONLY, d.sell(BOB, 999, 1, flags=POST_ONLY)
    yield R.NONE, d.sell(BOB, 1000, 1, flags=POST_ONLY)


@due(R.INSUFFICIENT_MARGIN)
def equity_covers_the_requirement_exactly() -> Script:
    # 7 lots at the mark: 10% of 700,000, and 300 ppm of it for the fee
    yield R.NONE, desk(balances=(0, 0, 0, 70_210, 0, 0)).buy(ALICE, 1000, 7)
    yield R.INSUFFICIENT_MARGIN, desk(balances=(0, 0, 0, 70_209, 0, 0)).buy(ALICE, 1000, 7)


# -- orders that are not there -----------------------------------------------------------------------


@due(R.UNKNOWN_ORDER)
def an_order_is_known_to_its_owner_while_it_rests() -> Script:
    d = desk()
    mine = order_id(d.buy(ALICE, 999, 2, client_id=5))
    for no_order in (0, mine - 1, mine + 1, mine + 1024, mine | 1 << 63):
        yield R.UNKNOWN_ORDER, d.cancel(ALICE, no_order)
        yield R.UNKNOWN_ORDER, d.replace(ALICE, no_order, 999, 1)
    yield R.UNKNOWN_ORDER, d.cancel(BOB, mine)
    yield R.UNKNOWN_ORDER, d.cancel_client(BOB, 5)
    yield R.UNKNOWN_ORDER, d.cancel_client(ALICE, 6)
    yield R.NONE, d.replace(ALICE, mine, 999, 1)
    yield R.NONE, d.cancel(ALICE, mine)
    yield R.UNKNOWN_ORDER, d.cancel(ALICE, mine)
    yield R.UNKNOWN_ORDER, d.cancel_client(ALICE, 5)


# -- money -------------------------------------------------------------------------------------------


@due(R.UNKNOWN_ACCOUNT)
def accounts_are_counted_from_0() -> Script:
    for kind in (Kind.TRANSFER, Kind.DEPOSIT, Kind.WITHDRAW):
        yield R.NONE, desk().move(kind, BRIDGE, 1, CAROL)
        yield R.UNKNOWN_ACCOUNT, desk().move(kind, BRIDGE, 1, CAROL + 1)


@due(R.UNKNOWN_ACCOUNT)
def a_bundle_of_an_unknown_account_does_nothing() -> Script:
    d = desk()
    yield R.UNKNOWN_ACCOUNT, d.buy(CAROL + 1, 999, 1)
    yield R.UNKNOWN_ACCOUNT, d.cancel_all(CAROL + 1)
    yield R.UNKNOWN_ACCOUNT, d.do(CAROL + 1, command(0))
    yield R.NONE, d.do(BRIDGE, command(Kind.OPEN_ACCOUNT))
    yield R.NONE, d.cancel_all(CAROL + 1)


@due(R.NOT_PERMITTED)
def what_only_the_bridge_may_do() -> Script:
    for kind in (Kind.DEPOSIT, Kind.WITHDRAW, Kind.OPEN_ACCOUNT):
        fields = {} if kind == Kind.OPEN_ACCOUNT else {"size": 1, "target": ALICE}
        yield R.NOT_PERMITTED, desk().do(ALICE, command(kind, **fields))
        yield R.NONE, desk().do(BRIDGE, command(kind, **fields))
    yield R.NONE, desk().move(Kind.TRANSFER, ALICE, 1, BOB)


@due(R.BAD_AMOUNT)
def an_amount_is_from_1_to_2_to_the_52nd() -> Script:
    for kind in (Kind.TRANSFER, Kind.DEPOSIT, Kind.WITHDRAW):
        for amount, reason in ((-(1 << 63), R.BAD_AMOUNT), (0, R.BAD_AMOUNT), (1, R.NONE), (1 << 52, R.NONE)):
            yield reason, desk(balances=(1 << 53, 0, 0, 1 << 53, 0, 0)).move(kind, BRIDGE, amount, ALICE)
        yield R.BAD_AMOUNT, desk(balances=(1 << 53, 0, 0, 1 << 53, 0, 0)).move(kind, BRIDGE, (1 << 52) + 1, ALICE)


@due(R.INSUFFICIENT_COLLATERAL)
def no_more_than_is_free() -> Script:
    d = desk(balances=(0, 0, 0, 100_000, 0, 0))
    d.buy(ALICE, 999, 6)  # 60,000 of initial margin
    yield R.INSUFFICIENT_COLLATERAL, d.move(Kind.TRANSFER, ALICE, 40_001, BOB)
    yield R.NONE, d.move(Kind.TRANSFER, ALICE, 40_000, BOB)
    yield R.INSUFFICIENT_COLLATERAL, d.move(Kind.WITHDRAW, BRIDGE, 1, ALICE)


@due(R.ACCOUNTS_FULL)
def the_venue_has_as_many_accounts_as_it_was_founded_for() -> Script:
    d = desk(balances=[0] * 1023)
    yield R.NONE, d.do(BRIDGE, command(Kind.OPEN_ACCOUNT))
    yield R.ACCOUNTS_FULL, d.do(BRIDGE, command(Kind.OPEN_ACCOUNT))


# -- cancellations -----------------------------------------------------------------------------------


@due(R.IMMEDIATE_OR_CANCEL)
def an_ioc_that_is_not_filled() -> Script:
    d = desk()
    d.sell(BOB, 1000, 2)
    yield R.NONE, d.buy(ALICE, 1000, 1, IOC)
    yield R.IMMEDIATE_OR_CANCEL, d.buy(ALICE, 1000, 2, IOC)


@due(R.FILL_OR_KILL)
def a_fok_that_can_not_be_filled() -> Script:
    d = desk()
    d.sell(BOB, 1000, 2)
    yield R.FILL_OR_KILL, d.buy(ALICE, 1000, 3, FOK)
    yield R.NONE, d.buy(ALICE, 1000, 2, FOK)


@due(R.FILL_LIMIT)
def a_257th_maker() -> Script:
    d = desk()
    d.do(BOB, *[place(SELL, 1000, 1)] * 512)
    yield R.NONE, d.buy(ALICE, 1000, 256)
    for tif in (0, IOC):
        more = desk()
        more.do(BOB, *[place(SELL, 1000, 1)] * 257)
        yield R.FILL_LIMIT, more.buy(ALICE, 1000, 257, tif)


@due(R.SELF_TRADE)
def an_order_meets_one_of_its_account() -> Script:
    for flags in (0, CANCEL_TAKER):
        d = desk()
        d.sell(ALICE, 1000, 1)
        yield R.NONE, d.buy(ALICE, 999, 1, flags=flags)
        yield R.NONE, d.sell(CAROL, 999, 1)
        yield R.SELF_TRADE, d.buy(ALICE, 1000, 1, flags=flags)


@due(R.CANCEL_ALL)
def orders_cancelled_together() -> Script:
    d = desk()
    yield R.NONE, d.cancel_all(ALICE)
    d.buy(ALICE, 999, 1)
    yield R.CANCEL_ALL, d.cancel_all(ALICE)


@due(R.LIQUIDATION)
def orders_of_an_account_below_maintenance_margin() -> Script:
    d = desk(balances=(0, 0, 0, 1_000_000, BALANCE, BALANCE), maker_fee_ppm=0, taker_fee_ppm=0)
    d.trade(buyer=ALICE, seller=BOB, price=1000, size=100)
    d.sell(ALICE, 1100, 1)
    yield R.NONE, d.tick(948, 1000)  # 480,000 against 474,000
    yield R.LIQUIDATION, d.tick(947, 1000)  # 470,000 against 473,500


# -- which reason is given when several apply --------------------------------------------------------


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
