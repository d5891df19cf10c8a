"""Nodes that were away while the validators changed altogether, and while everybody forgot the blocks between."""

from collections.abc import Iterator
from dataclasses import replace

import msgspec
import pytest

from lockstep.base import marks
from lockstep.base.keys import PrivateKey
from lockstep.node.retention import Mode, Retention
from lockstep.simulator.behaviour import Actor, Honest, Leaving
from lockstep.simulator.checkers import CHECKERS
from lockstep.simulator.disk import Survival
from lockstep.simulator.machine import Machine
from lockstep.simulator.simulated_node import SimulatedNode
from lockstep.simulator.venue_setup import FEED, small_genesis, validator_keys
from lockstep.simulator.world import START_US, World
from lockstep.wire.block import decode_header
from lockstep.wire.certificate import finalization
from lockstep.wire.client import SubmitSetChange
from lockstep.wire.light import LightReply
from lockstep.wire.message import CheckpointOffer, PeerMessage
from lockstep.wire.validators import ValidatorSet
from lockstep.wire.vote import sign_finalize
from tests.simulator.test_set_changes import CLIENT, LONG_US, change_of

AWAY = (0, 3)
FOLLOWED = "state: validators are trusted over a change"


@pytest.fixture
def reached() -> Iterator[dict[str, int]]:
    found: dict[str, int] = {}
    marks.collect(found)
    yield found
    marks.collect(None)


def changed_twice() -> World:
    """0 to 3 decide first, then 4 and 5, then 6. Validator 3 knows nothing of that, validator 0 half of it. The others
    keep eight blocks, and all headers. Observer 1 is away too, and knows nobody but observer 0."""
    genesis = small_genesis(
        (1, 1, 1, 1, 0, 0, 0), 4, START_US // 1000, delta_ms=50, idle_block_ms=20, epoch_blocks=16,
        checkpoint_interval_blocks=8,
    )  # fmt: skip
    world = World(genesis, validator_keys(7), FEED.public, 7)
    world.add_observer([world.add_observer()])
    for node in world.everyone:
        node.machine = Machine(retention=Retention(Mode.PRUNED, blocks=8))
    world.start()
    world.run(300_000)
    world.observers[1].crash(Survival.SUBSET)
    steps = (
        (3, ((0, 0), (1, 0), (2, 0), (3, 0), (4, 1), (5, 1)), (0, 1, 2)),
        (0, ((4, 0), (5, 0), (6, 1)), (4, 5)),
    )
    for epoch, (leaving, stakes, signers) in enumerate(steps):
        world.nodes[leaving].crash(Survival.SUBSET)
        there = [node for node in world.nodes if node.is_up]
        there[0].ask(CLIENT, SubmitSetChange(change_of(genesis, epoch, 7, stakes, signers)))
        assert world.run_until(lambda e=epoch, up=there: all(n.replica.roster.epoch == e + 1 for n in up), LONG_US)
    there = [node for node in world.everyone if node.is_up]
    needed = max(node.replica.final.height for node in world.nodes)
    assert world.run_until(lambda: all(node.home.store.lowest > needed for node in there), LONG_US)
    return world


def come_back(world: World) -> list[SimulatedNode]:
    """They start again, and get where the others are."""
    away = [*(world.nodes[index] for index in AWAY), world.observers[1]]
    for node in away:
        node.start()
    others = [node for node in world.everyone if node not in away]
    height = max(node.replica.final.height for node in others)
    assert world.run_until(lambda: all(n.replica.final.height > height + 8 for n in [*away, *others]), 4 * LONG_US)
    for node in away:
        assert node.history.installed and not node.history.stopped
        assert node.replica.roster == others[0].replica.roster == node.executor.venue.roster
    for name in ("agreement", "roots", "certificates"):
        assert CHECKERS[name](world.history) == []
    return away


def test_they_follow_the_changes_and_fetch_the_state(reached: dict[str, int]) -> None:
    away = come_back(changed_twice())
    assert reached[FOLLOWED] >= len(away)
    assert not any(node.history.blamed for node in away)


class Forger(Honest):
    """Shows headers and checkpoints of validators that it made up itself."""

    def __init__(self) -> None:
        self._keys = [PrivateKey(bytes([200 + i]) * 32) for i in range(4)]

    def outgoing(self, node: Actor, peer: int, message: PeerMessage) -> list[Leaving]:
        chain, public = node.genesis.chain_id, tuple(key.public for key in self._keys)
        made_up = ValidatorSet(chain, public, (1,) * 4)
        if not isinstance(message, LightReply | CheckpointOffer):
            return [message]
        raw = message.header if isinstance(message, CheckpointOffer) else message.headers[0] if message.headers else b""
        if not raw:
            return []
        header = replace(decode_header(raw), validators=made_up.hash, next_validators=made_up.hash)
        good = message.certificate if isinstance(message, CheckpointOffer) else message.finalization
        assert good is not None
        votes = [
            sign_finalize(key, chain, i, header.view, header.height, header.digest, good.state_root, good.event_root)
            for i, key in enumerate(self._keys)
        ]
        final, keys = finalization(votes, 4), b"".join(public)
        if isinstance(message, CheckpointOffer):
            return [CheckpointOffer(header.encode(), final, message.manifest, keys, made_up.stakes)]
        return [
            msgspec.structs.replace(
                message, headers=(header.encode(),), finalization=final, keys=keys, stakes=made_up.stakes,
                next_keys=b"", next_stakes=(),
            )
        ]  # fmt: skip


class Silent(Honest):
    """Offers checkpoints, and shows no headers until this moment."""

    def __init__(self, until_us: int) -> None:
        self._until_us = until_us

    def outgoing(self, node: Actor, peer: int, message: PeerMessage) -> list[Leaving]:
        return [] if isinstance(message, LightReply) and node.now_us < self._until_us else [message]


def test_forged_headers_are_blamed_and_silence_costs_time(reached: dict[str, int]) -> None:
    world = changed_twice()
    world.nodes[1].behaviour = Forger()
    for node in world.nodes[2], *world.nodes[4:]:
        node.behaviour = Silent(world.now_us + 4_000_000)
    away = come_back(world)
    assert reached["succession: a peer did not answer in time"] > 0
    assert {blame.peer for node in away for blame in node.history.blamed} == {1}
    assert all(world.nodes[index].history.blamed for index in AWAY)
