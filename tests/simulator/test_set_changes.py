"""Validator sets change in simulated runs, under faults and in quiet, and every checker agrees."""

from collections.abc import Iterator

import pytest

from lockstep.base import keys, marks
from lockstep.node import synchronizer
from lockstep.node.retention import Mode, Retention
from lockstep.simulator.checkers import CHECKERS
from lockstep.simulator.machine import Machine
from lockstep.simulator.plan import draw_plan
from lockstep.simulator.run import Run
from lockstep.simulator.simulated_node import SimulatedNode
from lockstep.simulator.venue_setup import FEED, small_genesis, validator_keys
from lockstep.simulator.world import START_US, World
from lockstep.sync.chooser import NEVER_MS
from lockstep.wire.client import SubmitReply, SubmitSetChange
from lockstep.wire.genesis import Genesis, Validator
from lockstep.wire.set_change import SetChange, approve, sign_change

CLIENT = 99
LONG_US = 9_000_000
BETWEEN = "succession: headers between are asked for"


def change_of(
    genesis: Genesis, epoch: int, listed: int, stakes: tuple[tuple[int, int], ...], signers: tuple[int, ...],
    added: tuple[Validator, ...] = (),
) -> bytes:  # fmt: skip
    change = SetChange(genesis.chain_id, epoch, added, stakes)
    held = validator_keys(7)
    return approve(change, {i: sign_change(held[i], change) for i in signers}, listed).encode()


def test_validators_join_leave_and_come_back() -> None:
    keys.remember_checks()
    genesis = small_genesis(
        (1, 1, 1, 1, 0), 4, START_US // 1000, delta_ms=50, idle_block_ms=20, epoch_blocks=16,
        checkpoint_interval_blocks=16,
    )  # fmt: skip
    world = World(genesis, validator_keys(5), FEED.public, 7)
    world.start()
    world.run(300_000)
    absent = Validator("absent", bytes([9]) * 32, 1, b"", "", "")
    steps = (
        (((0, 0), (4, 1)), (1, 2, 3), (), (0, 1, 1, 1, 1)),
        (((0, 1),), (1, 3, 4), (), (1, 1, 1, 1, 1)),
        (((2, 5),), (0, 1, 3, 4), (absent,), (1, 1, 5, 1, 1, 1)),
        (((1, 0), (5, 0)), (0, 2, 3, 4), (), (1, 0, 5, 1, 1, 0)),
    )
    listed, nodes = 5, world.nodes
    for epoch, (stakes, signers, added, after) in enumerate(steps):
        node = world.nodes[(epoch + 1) % 5]
        node.ask(CLIENT, SubmitSetChange(change_of(genesis, epoch, listed, stakes, signers, added)))
        listed += len(added)
        assert world.run_until(lambda e=epoch: all(n.replica.roster.epoch == e + 1 for n in nodes), LONG_US)
        assert {n.replica.roster.validators.stakes for n in world.nodes} == {after}
        height = world.nodes[0].replica.final.height
        assert world.run_until(lambda h=height: all(n.replica.final.height > h + 3 for n in nodes), LONG_US)
        assert world.nodes[1].executor.venue.roster == world.nodes[1].replica.roster, "the state tells the same"
    node = world.nodes[1]
    node.ask(CLIENT, SubmitSetChange(change_of(genesis, 0, 5, ((0, 2),), (1, 2, 3))))
    replies = [reply for client, reply in node.replies if client == CLIENT and isinstance(reply, SubmitReply)]
    assert replies[-1].reason == "bad-set-change" and "epoch 0" in replies[-1].detail


@pytest.mark.parametrize(("seed", "profile"), [(9, "sync"), (9, "swarm"), (3, "sync")])
def test_sets_change_under_faults(seed: int, profile: str) -> None:
    """Sync 9 had a timer that was always due; sync 3 proposed to a validator that never starts."""
    plan = draw_plan(seed, profile, 5, 8)
    assert any(fault.kind == "set_change" for fault in plan.faults)
    result = Run(plan).execute()
    assert result.violations == [] and result.faults.get("set_change", 0) > 0
    marks.collect(None)


def changed_world(
    late: int, stakes: tuple[tuple[int, int], ...], retention: Retention | None = None
) -> tuple[World, int]:  # fmt: skip
    """Validators 0 to 3 of seven founders decide first, and then who has stake after the change. `late`, which has
    none, has not started. The others serve checkpoints from beyond the last block of the first epoch, whose height is
    returned too."""
    genesis = small_genesis(
        (1, 1, 1, 1, 0, 0, 0), 4, START_US // 1000, delta_ms=50, idle_block_ms=20, epoch_blocks=64,
        checkpoint_interval_blocks=16,
    )  # fmt: skip
    world = World(genesis, validator_keys(7), FEED.public, 7)
    for node in world.nodes:
        node.machine = Machine(retention=retention or Retention())
    world.start({late})
    world.run(300_000)
    nodes = [node for node in world.nodes if node.index != late]
    nodes[0].ask(CLIENT, SubmitSetChange(change_of(genesis, 0, 7, stakes, (1, 2, 3))))
    assert world.run_until(lambda: all(node.replica.roster.pending for node in nodes), LONG_US)
    pending = nodes[0].replica.roster.pending
    assert pending is not None
    assert world.run_until(lambda: all(checkpoint_of(node) > pending.height + 16 for node in nodes), 2 * LONG_US)
    return world, pending.height


def checkpoint_of(node: SimulatedNode) -> int:
    return 0 if node.home.store.meta is None else node.home.store.meta.height


def joined(world: World, late: int) -> SimulatedNode:
    """Start it, and wait until it is where the others are, with the same roster and the same chain, and follows."""
    node, others = world.nodes[late], [other for other in world.nodes if other.index != late]
    node.machine = Machine(state_from_blocks=24)
    node.start()
    assert world.run_until(lambda: node.replica.final.height >= others[0].replica.final.height, 2 * LONG_US)
    height = node.replica.final.height
    assert world.run_until(lambda: node.replica.final.height > height + 20, LONG_US)
    assert node.replica.roster == others[0].replica.roster == node.executor.venue.roster
    assert not node.history.stopped and not node.history.blamed
    for name in ("agreement", "roots", "certificates"):
        assert CHECKERS[name](world.history) == []
    return node


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Marks, in a world where a state is always the shorter way, where one is to be had."""
    monkeypatch.setattr(synchronizer, "replay_ms", lambda *_: NEVER_MS)
    found: dict[str, int] = {}
    marks.collect(found)
    yield found
    marks.collect(None)


def test_a_state_is_fetched_over_a_change_that_leaves_enough_in_common(reached: dict[str, int]) -> None:
    """Three of four founders stay: two of them are in every quorum, half of the stake that a late comer knows."""
    world, last = changed_world(6, ((0, 0), (4, 1)))
    node = joined(world, 6)
    assert len(node.history.installed) == 1 and node.history.installed[0] > last
    assert last not in node.finals, "the change's own block was never executed here"
    assert BETWEEN not in reached


def test_a_state_is_fetched_over_a_change_that_leaves_too_little_in_common(reached: dict[str, int]) -> None:
    """One of four founders stays: who knows no others is shown how it came to the new ones. Nobody has the blocks."""
    world, last = changed_world(6, ((0, 0), (1, 0), (2, 0), (4, 1), (5, 1)), Retention(Mode.PRUNED, blocks=8))
    node = joined(world, 6)
    assert len(node.history.installed) == 1 and node.history.installed[0] > last
    assert last not in node.finals, "the change's own block was never executed here"
    assert reached[BETWEEN] > 0
