"""Beyond a third of the stake safety is not promised, and here it is broken on purpose; then the guilty are named."""

from lockstep.simulator.checkers import agreement, check_all, evidence
from lockstep.simulator.history import History
from lockstep.simulator.run import records_of
from lockstep.simulator.world import World
from tests.support.small_network import keep_reporting, small_world

SECOND = 1_000_000


def split_world(twins: list[int], left: list[int], right: list[int]) -> World:
    """Validators in `twins` have two nodes each, and no message passes between the two groups of instances."""
    world = small_world(4)
    for index in twins:
        world.add_twin(index)
    for a in left:
        for b in right:
            world.split[(a, b)] = world.split[(b, a)] = None
    for node in world.everyone:
        node.history.is_faulty = node.index in twins
    world.start()
    keep_reporting(world)
    world.run(3 * SECOND)
    return world


def collect(world: World) -> History:
    """The end: what honest disks hold."""
    world.history.ended_us = world.now_us
    for node in world.nodes:
        if not node.history.is_faulty:
            node.home.disk.kill()
            node.history.records_at_end = records_of(node.home.disk)
    return world.history


def test_twins_with_half_of_the_stake_split_the_chain_and_their_own_certificates_convict_them() -> None:
    world = split_world([0, 3], [0, 1, 3], [2, 4, 5])
    one, other = world.nodes[1].history, world.nodes[2].history
    assert min(len(one.finals), len(other.finals)) > 10
    history = collect(world)
    assert "validator 2 has block" in agreement.check(history)[0].text
    assert history.evidence == [], "neither side saw both votes: only the two logs together show them"
    assert evidence.guilty(history) == [0, 3]
    assert check_all(history) == []


def test_twins_with_a_quarter_of_the_stake_split_nothing() -> None:
    world = split_world([0], [0, 1, 3], [2, 4])
    assert agreement.check(collect(world)) == []
    assert len(world.nodes[1].history.finals) > 10 and len(world.nodes[2].history.finals) == 0


def test_when_the_two_halves_meet_no_honest_node_goes_on_as_if_nothing_had_happened() -> None:
    world = split_world([0, 3], [0, 1, 3], [2, 4, 5])
    world.split.clear()
    world.run(3 * SECOND)
    honest = [world.nodes[1], world.nodes[2]]
    assert any(node.history.stopped or node.replica.halted for node in honest)
    reasons = " ".join(node.history.stopped for node in honest)
    assert "validators with more than a third of the stake are faulty" in reasons
