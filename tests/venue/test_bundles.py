"""What the engine remembers from one command of a bundle to the next (headroom, positions, vacancies) is no state:
commands give the same records and the same state as one bundle, and as bundles of one command each."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.base.limits import OPEN_ORDERS_PER_ACCOUNT_MAX
from lockstep.venue.event import EventKind, EventReason
from lockstep.wire.command import Flag, Kind
from tests.support.venue_invariants import check_invariants
from tests.support.venue_market import (
    ALICE,
    BOB,
    BUY,
    IOC,
    PRICE,
    SELL,
    Command,
    Market,
    cancel_all,
    command,
    instrument,
    outcomes,
    place,
    replace,
    small_genesis,
)

BALANCE = 400_000
"""Enough for about 40 lots at the mark."""
GENESIS = small_genesis(
    instruments=(instrument(), instrument(tick_value=7, initial_margin_ppm=30_000, maintenance_margin_ppm=20_000)),
    balances=(BALANCE, 0, 0, BALANCE, 1_000_000_000),
)
QUOTES = [
    place(side, PRICE + offset * (1 if side == SELL else -1), 5, instrument=number)
    for number in (0, 1)
    for offset in (20, 60, 150)
    for side in (BUY, SELL)
]

places = st.builds(
    lambda side, offset, size, tif, flag, number, client_id: place(
        side, PRICE + offset, size, tif, flag, instrument=number, client_id=client_id
    ),
    st.integers(0, 1), st.integers(-180, 180), st.integers(1, 30), st.sampled_from([0, 0, 0, 1, 2]),
    st.sampled_from([0, 0, 0, 2, 4]), st.integers(0, 1), st.integers(0, 8),
)  # fmt: skip
cancels = st.builds(lambda client_id: command(Kind.CANCEL_CLIENT, client_id=client_id), st.integers(1, 8))
transfers = st.builds(lambda size: command(Kind.TRANSFER, size=size, target=BOB), st.integers(1, BALANCE // 2))
commands = st.one_of(places, places, places, cancels, transfers, st.sampled_from([cancel_all(0), cancel_all(1)]))


def run(*bundles: list[Command], quotes: list[Command] = QUOTES) -> tuple[bytes, bytes, np.ndarray]:
    """State root, event root and records of one block of Alice's bundles, after Bob has quoted."""
    market = Market(GENESIS)
    market.do(BOB, *quotes)
    execution = market.block(*((ALICE, bundle) for bundle in bundles))
    check_invariants(market.venue)
    return execution.state_root, execution.event_root, execution.events


@settings(max_examples=200, deadline=None)
@given(st.lists(commands, min_size=1, max_size=30))
def test_one_bundle_or_many_give_the_same(script: list[Command]) -> None:
    assert run(script)[:2] == run(*([one] for one in script))[:2]


def test_an_order_too_many_is_refused_in_the_middle_of_a_bundle() -> None:
    # 10,000 micro-USD of margin a lot: 40 lots use up the balance, and the fee of the last one is not left
    script = [place(BUY, PRICE, 1) for _ in range(45)]
    outcome = outcomes(run(script)[2])
    assert (outcome["kind"][:39] == EventKind.RESTED).all()
    assert set(outcome["reason"][39:].tolist()) == {EventReason.INSUFFICIENT_MARGIN}


def test_cancelling_an_order_below_the_mark_leaves_less_headroom() -> None:
    # the cheap buy makes up for the loss in the dear one: together they need 240,000, the dear one alone 300,000
    cheap, dear = place(BUY, PRICE - 150, 12, client_id=1), place(BUY, PRICE + 150, 12)
    gone, more = command(Kind.CANCEL_CLIENT, client_id=1), place(BUY, PRICE, 12)
    outcome = outcomes(run([cheap, dear, gone, more], quotes=[])[2])
    assert outcome["reason"].tolist() == [0, 0, 0, EventReason.INSUFFICIENT_MARGIN]
    assert outcomes(run([cheap, dear, more], quotes=[])[2])["reason"].tolist() == [0, 0, 0]


def test_many_orders_and_cancellations_in_one_bundle() -> None:
    ids = range(1, 700)
    script = [place(BUY, PRICE - 20 - i % 100, 1, instrument=1, client_id=i) for i in ids]
    script += [command(Kind.CANCEL_CLIENT, client_id=i) for i in ids if i % 3]
    script += [place(SELL, PRICE + 170, 1, instrument=1, client_id=i) for i in ids]
    assert len(ids) < OPEN_ORDERS_PER_ACCOUNT_MAX
    assert run(script)[:2] == run(*([one] for one in script))[:2]


def test_a_reducing_trade_at_a_loss_leaves_less_headroom() -> None:
    # ten lots bought at 1020 and sold at 850, which the margin check of reducing orders does not count
    quotes = [place(SELL, PRICE + 20, 10), place(BUY, PRICE - 150, 10)]
    bought, known = [place(BUY, PRICE + 20, 10, IOC)], place(BUY, PRICE - 160, 1)
    loss, more = place(SELL, PRICE - 150, 10, IOC, Flag.REDUCE_ONLY), place(SELL, PRICE + 10, 24)
    outcome = outcomes(run(bought, [known, loss, more], quotes=quotes)[2])
    assert outcome["kind"][:3].tolist() == [EventKind.FILLED, EventKind.RESTED, EventKind.FILLED]
    assert outcome["reason"][3] == EventReason.INSUFFICIENT_MARGIN


def test_a_transfer_leaves_less_headroom() -> None:
    script = [place(BUY, PRICE, 1), command(Kind.TRANSFER, size=300_000, target=BOB), place(BUY, PRICE, 20)]
    assert outcomes(run(script, quotes=[])[2])["reason"].tolist() == [0, 0, EventReason.INSUFFICIENT_MARGIN]


def test_every_client_id_is_found_after_replacements() -> None:
    # all of them begin their probing at the same place of their bucket, and there are sixteen buckets
    market = Market(GENESIS)
    ids = [1 + 256 * i for i in range(120)]
    rested = outcomes(market.do(BOB, *(place(BUY, PRICE - 100, 1, client_id=i) for i in ids)))
    renamed = [i + 256 * len(ids) for i in ids]
    orders = zip(rested["order_id"].tolist(), renamed, strict=True)
    replaced = outcomes(market.do(BOB, *(replace(order, PRICE - 90, 1, client_id=i) for order, i in orders)))
    assert (replaced["kind"] == EventKind.RESTED).all()
    gone = outcomes(market.do(BOB, *(command(Kind.CANCEL_CLIENT, client_id=i) for i in renamed)))
    assert (gone["kind"] == EventKind.CANCELLED).all() and gone["order_id"].tolist() == replaced["order_id"].tolist()
    check_invariants(market.venue)


def test_a_position_that_closes_within_a_bundle_is_not_remembered() -> None:
    # the third order takes over the row of the position that two orders had kept
    cancels = [command(Kind.CANCEL_CLIENT, client_id=i) for i in (1, 2)]
    orders = [place(BUY, PRICE - 100, 1, client_id=i) for i in (1, 2)]
    script = [*orders, *cancels, place(BUY, PRICE - 100, 1, instrument=1), place(BUY, PRICE - 100, 1)]
    assert run(script)[:2] == run(*([one] for one in script))[:2]
