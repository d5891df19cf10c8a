"""A node of the simulated network that is far behind fetches the state, goes on from it and votes again."""

import numpy as np
import pytest

from lockstep.ledger.manifest import Manifest
from lockstep.node import synchronizer
from lockstep.simulator.behaviour import Actor, Honest, Leaving
from lockstep.simulator.disk import Survival
from lockstep.simulator.simulated_store import SimulatedStore
from lockstep.simulator.world import World
from lockstep.wire.client import AskStatus, StatusReply
from lockstep.wire.command import Side
from lockstep.wire.message import PeerMessage, StatePart
from tests.support.small_network import PRICE, Trader, keep_reporting, orders, small_world

SECOND = 1_000_000
BEHIND = 32


@pytest.fixture(autouse=True)
def replay_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few hundred blocks of a small network are replayed in no time; these tests want the other way taken."""
    monkeypatch.setattr(synchronizer, "BEHIND_BLOCKS_MIN", BEHIND)
    monkeypatch.setattr(synchronizer, "replay_ms", lambda behind, replay, network: 1 << 40)


def grow(world: World, height: int) -> None:
    """Let the network reach a height."""
    assert world.run_until(lambda: world.nodes[0].replica.final.height >= height, 600 * SECOND)


def trade(world: World, traders: list[Trader], rounds: int) -> None:
    for number in range(rounds):
        for place, trader in enumerate(traders):
            side = Side.BUY if place % 2 else Side.SELL
            trader.submit(orders(side, 2_000 + 5 * (number % 7) - 15, [3] * 5, 1 + 100 * number))
        world.run(200_000)


def noted(world: World, index: int, text: str) -> bool:
    return any(text in note.text for note in world.nodes[index].notes)


def agree(world: World) -> None:
    roots: dict[int, bytes] = {}
    for node in world.nodes:
        for height, (_, root) in node.finals.items():
            assert roots.setdefault(height, root) == root


def catches_up(world: World, index: int) -> bool:
    """Whether it reaches the head and is live."""
    node = world.nodes[index]
    return world.run_until(
        lambda: node.is_up and node.replica.final.height >= world.nodes[0].replica.final.height - 2, 60 * SECOND
    )


def far_behind(seed: int, *, rebuilt: bool, price_ticks: int = 4096) -> World:
    world = small_world(seed=seed, checkpoint_interval_blocks=50, price_ticks=price_ticks)
    world.start()
    keep_reporting(world)
    traders = [Trader(world, account) for account in range(4)]
    world.run(SECOND)
    trade(world, traders, 20)
    if not rebuilt:
        grow(world, 60)
    world.nodes[3].crash(Survival.PREFIX)
    if rebuilt:
        world.nodes[3].home.rebuild()
    trade(world, traders, 20)
    grow(world, world.nodes[0].replica.final.height + BEHIND + 10)
    return world


def test_of_a_large_table_only_ranges_that_differ_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, list[int]]] = []
    whole = SimulatedStore.local_leaves

    def noting(store: SimulatedStore, manifest: Manifest, table: int, ranges: list[int]) -> np.ndarray:
        read.append((manifest.tables[table].name, ranges))
        return whole(store, manifest, table, ranges)

    monkeypatch.setattr(SimulatedStore, "local_leaves", noting)
    world = far_behind(3, rebuilt=False, price_ticks=1 << 16)
    Trader(world, 5).submit(orders(Side.BUY, PRICE - 50, [3] * 3, 1))
    grow(world, world.nodes[0].replica.final.height + 110)  # over a checkpoint with these orders
    world.nodes[3].start()
    assert catches_up(world, 3) and noted(world, 3, "is installed")
    assert read and all(place == ("levels", [0]) for place in read), "prices are near 2,000"
    agree(world)


def test_a_home_that_lost_everything_fetches_the_state_and_votes_again() -> None:
    world = far_behind(1, rebuilt=True)
    world.nodes[3].start()
    assert catches_up(world, 3)
    assert noted(world, 3, "is installed")
    heights = sorted(world.nodes[3].finals)
    assert heights[-1] - heights[0] >= len(heights) + 10  # it never executed what lies between
    assert noted(world, 3, "this one votes again")
    world.run(SECOND)
    world.nodes[0].crash(Survival.PREFIX)  # now nothing becomes final without the vote of the one that came back
    height = world.nodes[1].replica.final.height
    assert world.run_until(lambda: world.nodes[1].replica.final.height > height + 10, 60 * SECOND)
    agree(world)


def test_a_late_home_fetches_the_difference() -> None:
    world = far_behind(2, rebuilt=False)
    fetched: list[int] = []
    world.on_delivery = lambda source, to, parcel: fetched.append(len(parcel.raw)) if to == 3 else None
    world.nodes[3].start()
    assert catches_up(world, 3)
    assert noted(world, 3, "is installed")
    agree(world)


class KeepsStates(Honest):
    """Offers a state, and serves nothing of it."""

    name = "keeps states"

    def outgoing(self, node: Actor, peer: int, message: PeerMessage) -> list[Leaving]:
        return [] if isinstance(message, StatePart) else [message]


def test_a_state_of_which_nothing_comes_is_given_up_for_blocks() -> None:
    world = far_behind(3, rebuilt=False)
    for node in world.nodes[:3]:
        node.behaviour = KeepsStates()
    world.nodes[3].start()
    assert world.run_until(lambda: noted(world, 3, "given up: nothing of it came for 30 s"), 60 * SECOND)
    assert catches_up(world, 3) and not noted(world, 3, "is installed")
    agree(world)


@pytest.mark.parametrize("effects", [2, 9, 30])
def test_a_crash_at_any_moment_of_a_fetch(effects: int) -> None:
    world = far_behind(3, rebuilt=True)
    node = world.nodes[3]
    node.start()
    assert world.run_until(lambda: noted(world, 3, "fetching the state"), 60 * SECOND)
    node.ask(7, AskStatus())
    status = node.replies[-1][1]
    assert isinstance(status, StatusReply) and status.sync is not None
    assert (status.state, status.sync.phase) == ("syncing", "reading") and len(status.sync.peers) == 3
    node.crash_after_effects = effects
    assert world.run_until(lambda: not node.is_up or noted(world, 3, "is installed"), 60 * SECOND)
    node.crash(Survival.SUBSET)
    node.start()
    assert catches_up(world, 3)
    agree(world)
