"""Whole networks under virtual time: agreement always, progress once the network heals.

The world's oracle checks agreement, self-contradiction and durability at every message; a test fails when it raises.
"""

import random
from itertools import count

import pytest

from lockstep.consensus import interface as on
from lockstep.wire.vote import Nullify
from tests.support.consensus_byzantine import Equivocator, Liar, Withholder
from tests.support.consensus_node import Node
from tests.support.consensus_world import MS, Faults, World

SEEDS_PER_CASE = 40


def heal(world: World) -> None:
    """Everybody up, connected, and messages within Delta."""
    world.groups = []
    world.faults = Faults()
    for node in world.nodes:
        node.restart()


def assert_progress(world: World, blocks: int = 3, limit_ms: int = 6_000) -> None:
    """Every honest node gets `blocks` beyond what any has now."""
    goal = max(node.final.height for node in world.honest) + blocks
    done = world.run_until(world.now + limit_ms * MS, lambda: all(n.final.height >= goal for n in world.honest))
    assert done, [(node.engine.view, node.engine.final_view, node.final.height) for node in world.nodes]


def assert_no_honest_blame(world: World) -> None:
    """The honest accuse and blame only those who earned it."""
    for node in world.honest:
        assert all(signer in world.oracle.byzantine for signer, _ in node.accused)
        assert all(report.peer in world.oracle.byzantine for report in node.misbehaved)
        assert not any(report.fatal for report in node.diverged)


def trouble(world: World, chance: random.Random) -> None:
    """Crashes, restarts and partitions for a while."""
    for _ in range(4):
        world.run_until(world.now + chance.randint(20, 120) * MS)
        if chance.random() < 0.5:
            node = chance.choice(world.nodes)
            if node.up:
                node.crash()
        if chance.random() < 0.3:
            order = list(range(len(world.nodes)))
            chance.shuffle(order)
            cut = chance.randint(1, len(order) - 1)
            world.groups = [order[:cut], order[cut:]]
        elif chance.random() < 0.5:
            world.groups = []
        if chance.random() < 0.5:
            for node in world.nodes:
                node.restart()
    if chance.random() < 0.2:
        for node in world.nodes:
            if node.up:
                node.crash()


@pytest.mark.parametrize("case", ["lossy", "slow", "crashing", "byzantine"])
@pytest.mark.parametrize("validators", [4, 7])
def test_agreement_always_and_progress_after_healing(case: str, validators: int) -> None:
    for seed in range(SEEDS_PER_CASE if validators == 4 else SEEDS_PER_CASE // 3):
        chance = random.Random(f"{case} {validators} {seed}")
        faults = {
            "lossy": Faults(loss=0.3, duplicate=0.2, delay_us=(200, 30_000)),
            "slow": Faults(delay_us=(500, 120_000)),
            "crashing": Faults(loss=0.05, delay_us=(2_000, 15_000)),
            "byzantine": Faults(loss=0.05, duplicate=0.1, delay_us=(200, 30_000)),
        }[case]
        byzantine: dict[int, type[Node]] = {}
        if case == "byzantine":
            for index in chance.sample(range(validators), (validators - 1) // 3):
                byzantine[index] = chance.choice([Equivocator, Withholder, Liar])
        world = World(validators, seed, faults=faults, byzantine=byzantine)
        world.start()
        trouble(world, chance)
        heal(world)
        assert_progress(world)
        assert_no_honest_blame(world)


def test_the_same_seed_gives_the_same_run() -> None:
    def run(seed: int) -> list[object]:
        world = World(4, seed, faults=Faults(loss=0.1), byzantine={1: Equivocator})
        world.start()
        trouble(world, random.Random(seed))
        return [world.sent, world.now, sorted(world.oracle.finals.items()), [n.engine.view for n in world.nodes]]

    assert run(5) == run(5)
    assert run(5) != run(6)


def test_an_equivocator_is_accused_by_somebody() -> None:
    world = World(4, 1, byzantine={2: Equivocator})
    world.start()
    world.run_until(1000 * MS)
    assert any(node.accused for node in world.honest)
    assert_no_honest_blame(world)
    assert_progress(world)


def test_one_validator_of_four_dead_for_good_costs_little() -> None:
    """Views pass at four fifths of the healthy pace or better, counted after the leader was found silent."""
    passed = []
    for dead in (False, True):
        world = World(4, 3)
        world.start()
        if dead:
            world.nodes[3].crash()
        world.run_until(500 * MS)
        before = world.nodes[0].engine.view
        world.run_until(1500 * MS)
        passed.append(world.nodes[0].engine.view - before)
    assert passed[1] >= 0.8 * passed[0]


def test_two_halves_make_no_progress_and_both_go_on_when_joined() -> None:
    world = World(4, 4)
    world.start()
    world.run_until(200 * MS)
    world.groups = [[0, 1], [2, 3]]
    world.run_until(300 * MS)
    heights = [node.final.height for node in world.nodes]
    world.run_until(5_000 * MS)
    assert [node.final.height for node in world.nodes] == heights
    heal(world)
    assert_progress(world, limit_ms=300)


def test_all_four_killed_at_once_lose_nothing_final() -> None:
    world = World(4, 5)
    world.start()
    for _ in range(5):
        world.run_until(world.now + 150 * MS)
        final = max(world.oracle.finals, default=0)
        for node in world.nodes:
            node.crash()
        for node in world.nodes:
            node.restart()
        assert_progress(world)
        assert max(node.final.height for node in world.nodes) > final


def test_different_certificates_at_2f_plus_1_honest_validators_are_no_deadlock() -> None:
    """The trap: one validator alone saw the notarization; the others gave up, and lack one vote to nullify."""
    for alone in range(3):
        world = World(4, alone)
        world.start()
        world.nodes[3].crash()
        world.oracle.byzantine = [3]  # it stays down, so nothing is expected of it
        for silent_us in count(0, 500):
            world.run_until(200 * MS + silent_us)
            views = [node.engine.view for node in world.nodes[:3]]
            if views[alone] > min(views):
                break
        world.groups = [[alone], [i for i in range(3) if i != alone]]
        world.run_until(world.now + 400 * MS)
        stuck = [node.engine.view for node in world.nodes[:3]]
        assert max(stuck) <= max(views) + 1
        world.groups = [[0, 1, 2]]
        assert_progress(world, limit_ms=500)


@pytest.mark.parametrize("empty_depth", [64, 0])
def test_the_chain_must_be_able_to_grow_beyond_the_speculative_depth(empty_depth: int) -> None:
    """While messages take longer than 3 Delta, blocks are notarized in views that too many gave up on: none of them
    becomes final by itself. If the replica let nothing be built above eight of them, that would be for ever."""
    outcomes = []
    for seed in (1, 4):
        world = World(4, seed, faults=Faults(delay_us=(500, 140_000)), empty_depth=empty_depth)
        world.start()
        world.run_until(8_000 * MS)
        heal(world)
        goal = max(node.final.height for node in world.nodes) + 3
        outcomes.append(world.run_until(world.now + 8_000 * MS, lambda: world.nodes[0].final.height >= goal))  # noqa: B023
    assert all(outcomes) == (empty_depth > 0)


def test_unequal_stakes_and_a_single_validator_work() -> None:
    for world in (World(1, 1), World(5, 1, stakes=(5, 1, 1, 1, 1)), World(4, 1, stakes=(1, 2, 3, 4))):
        world.start()
        assert_progress(world, 5, 1_000)


def test_healthy_runs_send_few_votes_twice_and_few_certificates() -> None:
    """Per view and validator: one proposal or notarize vote, one finalize vote, to three peers; and to each block one
    certificate from the next leader and one from its proposer."""
    world = World(4, 8)
    world.start()
    world.run_until(2_000 * MS)
    views = world.nodes[0].engine.view
    pings = 2_000 / 100 * 12
    assert (world.sent - pings) / views < 4 * 2 * 3 + 2 * 3 + 1


def test_ticks_that_come_too_early_are_harmless() -> None:
    world = World(4, 9)
    world.start()
    for _ in range(50):
        world.run_until(world.now + 2 * MS)
        for node in world.nodes:
            before = len(node.disk)
            effects = node.engine.step(on.Tick(), world.now)
            assert not any(isinstance(e, on.Persist) and isinstance(e.record, Nullify) for e in effects)
            assert len(node.disk) == before
            node.carry(effects)
    assert_progress(world)
