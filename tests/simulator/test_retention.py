"""Simulated nodes keep the past by the rule of real ones, each by its own mode, and find their way after a crash."""

import pytest

from lockstep.node.retention import Mode, Retention
from lockstep.simulator.checkers import CHECKERS
from lockstep.simulator.disk import Survival
from lockstep.simulator.machine import Machine
from lockstep.simulator.plan import draw_plan
from lockstep.simulator.run import Run
from lockstep.simulator.simulated_node import SimulatedNode
from lockstep.simulator.world import World
from lockstep.wire.block import decode_header
from lockstep.wire.client import ClientReply
from lockstep.wire.light import AskLight, LightReply
from tests.support.small_network import keep_reporting, small_world

SECOND = 1_000_000
BLOCKS = 8
PERIOD_MS = 1_000
MODES = (Mode.ARCHIVE, Mode.FULL, Mode.PRUNED, Mode.PRUNED)


@pytest.fixture
def world() -> World:
    made = small_world(seed=3, checkpoint_interval_blocks=8, idle_block_ms=20)
    for node, mode in zip(made.nodes, MODES, strict=True):
        node.machine = Machine(retention=Retention(mode, PERIOD_MS, BLOCKS))
    made.start()
    keep_reporting(made)
    made.run(4 * SECOND)
    return made


def age_ms(node: SimulatedNode, height: int) -> int:
    """Of a block, as of the newest checkpoint's."""
    assert node.home.store.meta is not None
    return (
        decode_header(node.home.store.meta.header).time_ms - decode_header(node.history.finals[height].header).time_ms
    )


def shown(world: World, node: SimulatedNode, height: int) -> LightReply:
    replies: list[ClientReply] = []
    world.on_reply = lambda _, client, message: replies.append(message)
    node.ask(5, AskLight(1, height))
    world.run(SECOND // 100)
    (reply,) = replies
    assert isinstance(reply, LightReply)
    return reply


def test_each_keeps_what_its_mode_says(world: World) -> None:
    archive, full, pruned, _ = world.nodes
    stores = [node.home.store for node in world.nodes]
    checkpoint = stores[2].meta.height if stores[2].meta is not None else 0
    assert checkpoint > 60
    assert (stores[0].lowest, stores[0].lowest_header) == (1, 1)
    for node, lowest in ((full, stores[1].lowest), (pruned, stores[2].lowest_header)):
        assert 1 < lowest < checkpoint - BLOCKS
        assert age_ms(node, lowest) <= PERIOD_MS < age_ms(node, lowest - 1)
    assert stores[1].lowest_header == stores[1].lowest
    assert stores[2].lowest == checkpoint - BLOCKS + 1
    assert stores[2].block(stores[2].lowest - 1) is None and stores[2].header(stores[2].lowest - 1) is not None
    reply = shown(world, pruned, stores[2].lowest - 2)
    assert reply.finalization is not None and reply.lowest == stores[2].lowest_header
    assert shown(world, pruned, stores[2].lowest_header - 1).finalization is None
    assert shown(world, archive, 1).finalization is not None


def test_who_prunes_starts_again_and_who_was_away_for_too_long_is_helped(world: World) -> None:
    for node in world.nodes[:2]:  # now nobody has all blocks
        node.machine = Machine(retention=Retention(Mode.PRUNED, 0, BLOCKS))
    away, others = world.nodes[3], world.nodes[:3]
    away.crash(Survival.SUBSET)
    world.run(3 * SECOND)
    others[2].crash(Survival.SUBSET)
    others[2].start()
    assert away.replica.final.height + 1 < min(node.home.store.lowest for node in others)
    away.start()
    height = others[0].replica.final.height
    assert world.run_until(lambda: all(n.replica.final.height > height + 20 for n in world.nodes), 20 * SECOND)
    assert away.history.installed, "nobody had its next block: it fetched a state"
    for name in ("agreement", "roots", "certificates", "votes", "durability"):
        assert CHECKERS[name](world.history) == []


def test_in_some_runs_modes_are_drawn_for_each_node() -> None:
    plans = [draw_plan(seed, "swarm", 4, 6) for seed in range(40)]
    drawn = [machine.retention.mode for plan in plans for machine in plan.machines]
    assert set(drawn) == set(Mode) and drawn.count(Mode.ARCHIVE) > len(drawn) / 2


@pytest.mark.parametrize("seed", [40006, 40022])
def test_a_run_where_nodes_prune(seed: int) -> None:
    plan = draw_plan(seed, "sync", 4, 2)
    assert any(machine.retention.mode is Mode.PRUNED for machine in plan.machines)
    assert Run(plan).execute().violations == []
