"""The flow: reproducible, consistent in its client ids, bounded in what it leaves resting, and cheap."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.base.limits import BUNDLE_COMMANDS_MAX, OPEN_ORDERS_PER_ACCOUNT_MAX
from lockstep.market import agents
from lockstep.market.agents import Stage
from lockstep.market.cast import FIRST_TRADER, Role, Trader, genesis_accounts, traders
from lockstep.market.flow import Flow, live_orders_for
from lockstep.market.listings import LISTINGS, choose
from lockstep.market.script import Script
from lockstep.wire.command import ALL_INSTRUMENTS, COMMAND, Kind, TimeInForce

CAST = traders(1, 64)


def play(flow: Flow, trader: Trader, total: int, batch: int) -> np.ndarray:
    return np.concatenate([flow.commands(trader.account, batch) for _ in range(total // batch)])


def of_role(role: Role) -> Trader:
    return next(trader for trader in CAST if trader.role is role)


def test_same_seed_same_flow() -> None:
    flows = [Flow(seed, LISTINGS, CAST, 4_000) for seed in (5, 5, 6)]
    for role in (Role.MAKER, Role.TAKER, Role.NOISE, Role.GAMBLER):
        first, again, other = (play(flow, of_role(role), 2_000, 100) for flow in flows)
        assert first.tobytes() == again.tobytes()
        assert first.tobytes() != other.tobytes()


@given(st.lists(st.integers(1, 300) | st.just(BUNDLE_COMMANDS_MAX), min_size=1, max_size=8))
@settings(deadline=None, max_examples=20)
def test_batch_sizes_do_not_change_the_stream(counts: list[int]) -> None:
    in_parts, at_once = (agents.maker(Stage(LISTINGS, (3,)), np.random.default_rng(9), 100) for _ in range(2))
    prices = np.array([*(listing.opening_price for listing in LISTINGS), 0])
    parts = np.concatenate([in_parts.take(count, prices) for count in counts])
    whole = np.concatenate([at_once.take(1, prices) for _ in range(sum(counts))])
    assert parts.tobytes() == whole.tobytes()


@pytest.mark.parametrize("role", [Role.MAKER, Role.NOISE])
def test_a_client_id_is_never_live_twice(role: Role) -> None:
    live: dict[int, int] = {}
    most = 0
    for row in play(Flow(2, LISTINGS, CAST, 16_000), of_role(role), 10_000, 250):
        if row["kind"] == Kind.PLACE and row["client_id"]:
            assert row["tif"] == TimeInForce.GTC
            assert int(row["client_id"]) not in live
            live[int(row["client_id"])] = int(row["instrument"])
        elif row["kind"] == Kind.CANCEL_CLIENT:
            live.pop(int(row["client_id"]), None)
        elif row["kind"] == Kind.CANCEL_ALL:
            gone = int(row["instrument"])
            live = {i: where for i, where in live.items() if gone not in (where, ALL_INSTRUMENTS)}
        most = max(most, len(live))
    assert 0 < most <= OPEN_ORDERS_PER_ACCOUNT_MAX


def test_a_maker_opens_all_its_slots_and_keeps_them() -> None:
    flow = Flow(2, LISTINGS, CAST, 4_400)
    makers = sum(t.role is Role.MAKER for t in CAST)
    slots = 4_400 // makers
    rows = play(flow, of_role(Role.MAKER), 10 * slots, slots)
    assert (rows["kind"][:slots] == Kind.PLACE).all()
    later = rows[slots:]
    assert (later["kind"][0::2] == Kind.CANCEL_CLIENT).all()
    assert (later["kind"][1::2] == Kind.PLACE).all()
    assert (later["client_id"][0::2] == later["client_id"][1::2]).all()


def test_prices_follow_the_index() -> None:
    flow = Flow(4, LISTINGS, CAST, 2_000)
    prices = np.array([listing.opening_price for listing in LISTINGS]) * 3 // 2
    flow.observe(prices)
    rows = play(flow, of_role(Role.MAKER), 400, 100)
    placed = rows[rows["kind"] == Kind.PLACE]
    distance = placed["price"] / prices[placed["instrument"]] - 1
    assert (np.abs(distance) < 0.02).all()
    assert (np.sign(distance) == np.where(placed["side"] == 0, -1, 1)).all()
    assert (rows["price"][rows["kind"] == Kind.CANCEL_CLIENT] == 0).all()


def test_noise_holds_every_kind_of_order_and_some_nonsense() -> None:
    rows = play(Flow(4, LISTINGS, CAST, 2_000), of_role(Role.NOISE), 4_000, 200)
    kinds = Counter(rows["kind"].tolist())
    for kind in (Kind.PLACE, Kind.CANCEL, Kind.CANCEL_CLIENT, Kind.CANCEL_ALL, Kind.TRANSFER, 77):
        assert kinds[kind] > 0
    nonsense = kinds[77] + kinds[Kind.CANCEL] + int((rows["instrument"] == len(LISTINGS) + 1).sum())
    assert nonsense < 0.10 * len(rows)
    assert set(rows["tif"].tolist()) == {0, 1, 2}


def test_every_turn_of_the_schedule_is_spread_evenly() -> None:
    flow = Flow(1, LISTINGS, CAST, 2_000)
    turns = Counter(flow.schedule)
    assert turns == {t.account: t.weight for t in CAST if t.weight}
    maker = of_role(Role.MAKER)
    places = [i for i, account in enumerate(flow.schedule) if account == maker.account]
    gaps = np.diff(places)
    assert gaps.max() < 3 * len(flow.schedule) / maker.weight


def test_the_cast_has_its_keys_and_money_in_the_genesis() -> None:
    accounts = genesis_accounts(1, CAST)
    assert [a.public_key for a in accounts[FIRST_TRADER:]] == [t.key.public for t in CAST]
    assert len({a.public_key for a in accounts}) == len(accounts)
    assert genesis_accounts(1, CAST) == accounts
    assert genesis_accounts(2, CAST)[0] != accounts[0]


def test_live_orders_follow_the_rate() -> None:
    assert [live_orders_for(rate) for rate in (0, 100, 5_000, 10**6)] == [16_000, 2_000, 5_000, 16_000]


def test_a_script_shorter_than_a_bundle_wraps_as_often_as_needed() -> None:
    cycle = np.zeros(3, COMMAND)
    cycle["kind"] = Kind.CANCEL_CLIENT
    cycle["client_id"] = [1, 2, 3]
    script = Script(np.zeros(0, COMMAND), cycle, 1)
    prices = np.array([100, 0])
    assert script.take(8, prices)["client_id"].tolist() == [1, 2, 3, 1, 2, 3, 1, 2]
    assert script.take(2, prices)["client_id"].tolist() == [3, 1]


def test_listings_are_chosen_by_name() -> None:
    assert [listing.instrument.symbol for listing in choose("eth-perp, BTC-PERP")] == ["ETH-PERP", "BTC-PERP"]
    assert choose("") == LISTINGS
