"""Nodes that don't vote, in a simulated world: they follow, through faults too, and what liars among them cost."""

import pytest

from lockstep.node import answers as answers_module
from lockstep.node import arrivals as arrivals_module
from lockstep.node import synchronizer as synchronizer_module
from lockstep.node.answers import BUNDLES_PER_SECOND, BURST_SECONDS
from lockstep.simulator.behaviour import Actor, Honest, Leaving
from lockstep.simulator.checkers import CHECKERS
from lockstep.simulator.disk import Survival
from lockstep.simulator.simulated_node import SimulatedNode
from lockstep.simulator.world import World
from lockstep.wire.client import AskStatus, Fate, StatusReply, Submit, SubmitReply, Subscribe, seal_price_report
from lockstep.wire.command import Side
from lockstep.wire.gossip import Push
from lockstep.wire.message import BundleBody, Bundles, Chain, FetchChain, PeerMessage, Ping, Pong
from lockstep.wire.spread import is_bundle
from lockstep.wire.vote import sign_nullify
from tests.support.small_network import FEED, PRICE, Trader, keep_reporting, orders, small_world

SECOND = 1_000_000


def trading(world: World, microseconds: int, every_us: int = 100_000, node: int = 0) -> Trader:
    """Somebody trades all the while."""
    trader = Trader(world, 0, node, world.nodes[node].next_sequence(0))
    end_us = world.now_us + microseconds
    while world.now_us < end_us:
        trader.submit(orders(Side.BUY, PRICE - 5, [1]))
        world.run(every_us)
    return trader


def heights(world: World) -> list[int]:
    return [node.replica.final.height for node in world.everyone]


def agree(world: World) -> None:
    """Every node that is up is where the others are, on the same chain with the same roots, certified."""
    up = [node.replica.final.height for node in world.everyone if node.is_up]
    assert max(up) - min(up) <= 2, heights(world)
    for name in ("agreement", "durability", "roots", "certificates"):
        assert CHECKERS[name](world.history) == []


def counts(node: SimulatedNode) -> dict[str, int]:
    return node.replica.counts()  # type: ignore[union-attr]


def sent(world: World, kind: type, source: SimulatedNode | None = None) -> list[tuple[int, int]]:
    """From now on, (sender, receiver) of every such message that arrives."""
    found: list[tuple[int, int]] = []
    before = world.on_delivery

    def arrived(sender: int, receiver: int, parcel) -> None:  # type: ignore[no-untyped-def]
        if before is not None:
            before(sender, receiver, parcel)
        if isinstance(parcel.message, kind) and (source is None or source.instance == sender):
            found.append((sender, receiver))

    world.on_delivery = arrived
    return found


def quiet_world(**parameters: int) -> World:
    """About ten blocks a second."""
    return small_world(**{"idle_block_ms": 90} | parameters)


def observed(observers: int = 1, **parameters: int) -> World:
    """A running world with so many of them, each connected to everybody."""
    world = quiet_world(**parameters)
    for _ in range(observers):
        world.add_observer()
    world.start()
    keep_reporting(world)
    world.run(SECOND)
    return world


def test_observers_follow_block_by_block_and_fetch_next_to_nothing() -> None:
    world = observed(3)
    chains, whole = sent(world, Chain), sent(world, Bundles)
    trading(world, 3 * SECOND, 50_000)
    assert heights(world)[0] > 20
    agree(world)
    assert len(chains) <= 3 and len(whole) <= 6, "blocks come by themselves, and find their bundles here"
    world.observers[0].ask(7, AskStatus())
    (status,) = [message for _, message in world.observers[0].replies if isinstance(message, StatusReply)]
    assert (status.state, status.validator, status.allowed) == ("live", -1, ("submit", "query"))


def test_nobody_counts_observers() -> None:
    world = observed(3)
    for node in world.nodes[2:]:
        node.crash()
    world.run(SECOND)
    before = heights(world)[0]
    world.run(3 * SECOND)
    assert heights(world)[0] == before, "two validators and three observers are no quorum"
    for node in world.nodes[2:]:
        node.start()
    world.run(5 * SECOND)
    agree(world)


def test_observers_say_nothing_that_consensus_hears() -> None:
    world = observed(2)
    said = [sent(world, object, observer) for observer in world.observers]
    trading(world, SECOND)
    assert all(found for found in said)
    allowed = (Ping, Pong, Push, BundleBody, FetchChain)
    world.on_delivery = None
    kinds: dict[type, None] = {}

    def arrived(sender: int, receiver: int, parcel) -> None:  # type: ignore[no-untyped-def]
        if sender >= 4 > receiver:
            kinds[type(parcel.message)] = None

    world.on_delivery = arrived
    trading(world, SECOND)
    assert {kind.__name__ for kind in kinds} <= {"Ping", "Prune", "Graft", "FetchBundles", "FetchChain"}, allowed


def chained() -> World:
    """Observer 0 is connected to validator 0 only, 1 to 0, and 2 to 1."""
    world = quiet_world()
    last = world.nodes[0]
    for _ in range(3):
        last = world.add_observer([last])
    world.start()
    keep_reporting(world)
    world.run(SECOND)
    return world


def test_blocks_and_clients_bundles_pass_through_a_chain_of_observers() -> None:
    world = chained()
    pushes = sent(world, Push)
    trading(world, 2 * SECOND)
    agree(world)
    assert {(4, 5), (5, 6)} <= set(pushes) and not any(receiver < 4 for _, receiver in pushes)
    assert not any((sender, receiver) in pushes for sender in range(1, 4) for receiver in range(4, 7))
    trader = Trader(world, 1)
    bundle = trader.bundle(orders(Side.SELL, PRICE + 5, [2]))
    last = world.observers[2]
    last.ask(1, Subscribe(outcomes=True, blocks=False))
    last.ask(1, Submit(bundle.raw))
    world.run(SECOND)
    fates = [message for _, message in last.replies if isinstance(message, Fate)]
    assert [(fate.digest, fate.status) for fate in fates] == [(bundle.digest, "final")] and fates[0].outcomes


def test_an_observer_that_crashes_goes_on_from_its_disk() -> None:
    world = observed(1)
    trading(world, SECOND)
    (observer,) = world.observers
    for survival in (Survival.SUBSET, None):
        observer.crash(survival)
        trading(world, SECOND)
        observer.start()
        world.run(SECOND)
        agree(world)
    assert observer.history.starts == 3


def test_an_observer_that_joins_late_replays() -> None:
    world = observed(1, checkpoint_interval_blocks=16)
    trading(world, 2 * SECOND)
    late = world.add_observer()
    late.start()
    trading(world, SECOND)
    agree(world)
    assert min(late.finals) == 1


def test_an_observer_far_behind_fetches_a_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synchronizer_module, "BEHIND_BLOCKS_MIN", 16)
    monkeypatch.setattr(synchronizer_module, "replay_ms", lambda *_: 1 << 40)
    world = observed(0, checkpoint_interval_blocks=16)
    trading(world, 3 * SECOND)
    late = world.add_observer()
    late.start()
    world.run(6 * SECOND)
    agree(world)
    assert min(late.finals) > 16, "it began from a checkpoint"


def test_observers_follow_through_loss_duplicates_and_reordering() -> None:
    world = observed(3)
    world.network.loss_permille, world.network.duplicate_permille, world.network.reorder_permille = 30, 20, 50
    trading(world, 2 * SECOND)
    world.network.reset()
    world.run(2 * SECOND)
    agree(world)


def test_a_cut_off_observer_comes_back() -> None:
    world = observed(2)
    cut = world.observers[1]
    for other in [*world.nodes, world.observers[0]]:
        world.network.close(other.index, cut.index)
        world.network.close(cut.index, other.index)
    trading(world, 3 * SECOND)
    assert heights(world)[0] > cut.replica.final.height + 15
    world.network.heal()
    world.run(3 * SECOND)
    agree(world)


def test_followers_of_a_validator_that_dies_follow_through_others() -> None:
    world = quiet_world()
    first = world.add_observer([world.nodes[0]])
    second = world.add_observer([world.nodes[1], first])
    world.start()
    keep_reporting(world)
    trading(world, SECOND, node=2)
    world.nodes[0].crash()
    trading(world, 3 * SECOND, node=2)
    assert first.replica.final.height >= world.nodes[2].replica.final.height - 2
    assert second.replica.final.height >= world.nodes[2].replica.final.height - 2


class KeepsBundles(Honest):
    """Spreads no bundles, and, if `is_mute`, sends none that are asked for either."""

    is_mute = False

    def outgoing(self, node: Actor, peer: int, message: PeerMessage) -> list[Leaving]:
        if isinstance(message, Push) and is_bundle(message.body):
            return []
        return [] if self.is_mute and isinstance(message, Bundles) else [message]


def test_missing_bundles_come_in_one_round_trip_and_else_the_block_is_replayed() -> None:
    world = quiet_world()
    observer = world.add_observer([world.nodes[0]])
    world.nodes[0].behaviour = keeper = KeepsBundles()
    world.start()
    keep_reporting(world)
    world.run(SECOND)
    chains = sent(world, Chain)
    trading(world, 2 * SECOND)
    agree(world)
    assert counts(observer)["fetched"] > 10 and len(chains) <= 2
    keeper.is_mute = True
    trading(world, 3 * SECOND)
    world.run(SECOND)
    agree(world)
    assert len(chains) > 3


# -- liars --------------------------------------------------------------------------------------------


class Forger(Honest):
    """Alters a byte of every third block that it passes on: of its certificate, or of what is certified."""

    number = 0

    def outgoing(self, node: Actor, peer: int, message: PeerMessage) -> list[Leaving]:
        if not isinstance(message, Push) or is_bundle(message.body):
            return [message]
        self.number += 1
        if self.number % 3:
            return [message]
        place = node.random.randrange(1, len(message.body))
        body = message.body[:place] + bytes((message.body[place] ^ 1,)) + message.body[place + 1 :]
        return [Push(message.tree, body)]


def test_a_forged_block_is_never_taken_nor_passed_on_and_its_forger_is_dropped() -> None:
    world = quiet_world()
    forger = world.add_observer([world.nodes[0]])
    victim = world.add_observer([forger, world.nodes[1]])
    behind = world.add_observer([victim])
    forger.behaviour = Forger()
    world.start()
    keep_reporting(world)
    trading(world, 2 * SECOND)
    world.run(SECOND)
    agree(world)
    notes = [note.text for note in victim.notes]
    assert any("pushed a body that is not valid" in text for text in notes)
    assert not any("not valid" in note.text for note in behind.notes), "nobody is a relay for lies"


class Pest(Honest):
    """Asks validators for everything, all the time, and hands in what is no good."""

    def __init__(self, message: PeerMessage, copies: int = 40) -> None:
        self.message = message
        self.copies = copies

    def outgoing(self, node: Actor, peer: int, message: PeerMessage) -> list[Leaving]:
        return [message, *([self.message] * self.copies)] if isinstance(message, Ping) and peer < 4 else [message]


def test_one_that_asks_too_much_is_answered_so_much_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    world = observed(1)
    (pest,) = world.observers
    pest.behaviour = Pest(FetchChain(1), 500)
    monkeypatch.setattr(answers_module, "REQUESTS_PER_SECOND", 20)
    pest.crash(None)
    pest.start()
    answers = sent(world, Chain)
    began = world.now_us
    trading(world, SECOND)
    pest.behaviour = None
    seconds = (world.now_us - began) // SECOND + 1 + BURST_SECONDS
    assert 40 < len(answers) <= 4 * 20 * seconds
    world.run(2 * SECOND)
    agree(world)


def test_bundles_that_are_handed_in_are_bounded_and_a_forged_one_costs_the_connection() -> None:
    world = observed(1)
    (pest,) = world.observers
    good = Trader(world, 3).bundle(orders(Side.BUY, PRICE - 9, [1]))
    forged = good.raw[:-1] + bytes((good.raw[-1] ^ 1,))
    pest.behaviour = Pest(BundleBody(forged), 1)
    world.run(SECOND)
    pest.behaviour = None
    assert any("BundleBody" in note.text for note in world.nodes[0].notes)
    assert world.nodes[0].replica.queues()["pool_bundles"] == 0
    world.run(2 * SECOND)
    pest.behaviour = Pest(BundleBody(good.raw), BUNDLES_PER_SECOND * 2)
    trading(world, SECOND)
    pest.behaviour = None
    world.run(2 * SECOND)
    agree(world)


def test_a_vote_from_an_observer_is_refused_even_if_a_validator_signed_it() -> None:
    world = observed(1)
    (pest,) = world.observers
    view = world.nodes[0].replica.final.view + 40
    vote = sign_nullify(world.nodes[3].key, world.genesis.chain_id, 3, view)
    pest.behaviour = Pest(vote, 1)
    world.run(SECOND)
    assert any("sent Nullify" in note.text for note in world.nodes[0].notes)
    pest.behaviour = None
    world.run(2 * SECOND)
    agree(world)


# -- what it answers ----------------------------------------------------------------------------------


def test_prices_are_reported_to_validators_not_here() -> None:
    world = observed(1)
    (observer,) = world.observers
    observer.ask(5, seal_price_report(FEED, world.genesis.chain_id, world.now_us // 1000, (PRICE,)))
    (reply,) = [message for client, message in observer.replies if client == 5]
    assert isinstance(reply, SubmitReply) and reply.reason == "not-ready" and "validator" in reply.detail


def test_a_block_far_above_is_not_kept_while_the_gap_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals_module, "AHEAD_MAX", 8)
    world = observed(1, checkpoint_interval_blocks=512)
    (observer,) = world.observers
    observer.crash(None)
    trading(world, 3 * SECOND)
    observer.start()
    most = 0
    for _ in range(200):
        world.run(5_000)
        most = max(most, observer.replica.queues()["arrivals"])
    agree(world)
    assert most <= 8


def test_the_same_seed_gives_the_same_world() -> None:
    def audit() -> bytes:
        world = observed(2)
        trading(world, SECOND)
        return world.audit

    assert audit() == audit()
