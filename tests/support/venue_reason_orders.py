"""Cases: what is wrong with a command or its price, what an order would do, and how it ends."""

from lockstep.base.limits import (
    ORDER_LOTS_MAX,
)
from lockstep.venue.event import EventReason
from lockstep.wire.command import ALL_INSTRUMENTS, Kind
from tests.support.venue_market import (
    ALICE,
    BALANCE,
    BOB,
    BRIDGE,
    BUY,
    CAROL,
    FOK,
    IOC,
    SELL,
    cancel_all,
    command,
    place,
    replace,
)
from tests.support.venue_reason import Script, due
from tests.support.venue_script import (
    CANCEL_TAKER,
    POST_ONLY,
    REDUCE_ONLY,
    desk,
    order_id,
)

R = EventReason


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
