"""The simulated world: clocks, links, connections, and nodes that end in the middle of a step."""

import pytest

from lockstep.simulator.behaviour import Actor, Honest
from lockstep.simulator.chance import stream
from lockstep.simulator.clock import NodeClock
from lockstep.simulator.disk import Survival
from lockstep.simulator.network import Network
from lockstep.simulator.world import Stuck, World
from lockstep.wire.command import Side
from lockstep.wire.message import BlockBody, BundleBody, Bundles, Chain, PeerMessage
from tests.support.small_network import PRICE, Trader, keep_reporting, orders, small_world

SECOND = 1_000_000


def running(seed: int = 1, **parameters: int) -> World:
    world = small_world(seed=seed, **parameters)
    world.start()
    keep_reporting(world)
    world.run(SECOND)
    return world


def heights(world: World) -> list[int]:
    return [node.replica.final.height for node in world.nodes]


# -- clocks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ppm", [-5_000, -1, 0, 1, 5_000])
def test_waiting_by_a_drifting_clock_ends_when_it_shows_the_time_and_not_before(ppm: int) -> None:
    clock = NodeClock(offset_us=-7_000, drift_ppm=ppm)
    clock.begin(1_000_000)
    assert clock.now_us(1_000_000) == 993_000
    for wait in (1, 999, 123_457):
        deadline = clock.now_us(1_000_000) + wait
        due = 1_000_000 + clock.wait_us(1_000_000, deadline)
        assert clock.now_us(due) >= deadline > clock.now_us(due - 3)
    assert clock.wait_us(2_000_000, 5) == 0


def test_a_step_of_the_wall_clock_is_seen_by_the_next_process_only() -> None:
    clock = NodeClock()
    clock.begin(1_000)
    clock.offset_us = -500
    assert clock.now_us(2_000) == 2_000
    clock.begin(3_000)
    assert clock.now_us(3_000) == 2_500


# -- links -----------------------------------------------------------------------------------------------


def network(**knobs: int) -> Network:
    made = Network(stream(1, "test"), 4)
    for name, value in knobs.items():
        setattr(made, name, value)
    return made


def test_messages_of_a_link_arrive_in_order_unless_reordered() -> None:
    plain = network(delay_us_min=1, delay_us_max=50_000)
    arrivals = [plain.deliveries(plain.channel(0, 1), 100, now)[0] for now in range(0, 10_000, 10)]
    assert arrivals == sorted(arrivals)
    wild = network(delay_us_min=1, delay_us_max=50_000, reorder_permille=500)
    arrivals = [wild.deliveries(wild.channel(0, 1), 100, now)[0] for now in range(0, 10_000, 10)]
    assert arrivals != sorted(arrivals) and wild.fired["reorder"] > 100


def test_a_link_carries_so_many_bytes_a_second_and_the_rest_waits() -> None:
    slow = network(bytes_per_second=1_000_000, delay_us_min=10, delay_us_max=10)
    arrivals = [slow.deliveries(slow.channel(0, 1), 10_000, 0)[0] for _ in range(5)]
    assert arrivals == [10_010, 20_010, 30_010, 40_010, 50_010]
    assert slow.deliveries(slow.channel(0, 2), 10_000, 0) == (10_010,), "another link has its own"


def test_loss_and_duplication_come_at_their_rates() -> None:
    lossy = network(loss_permille=100, duplicate_permille=200)
    copies = [len(lossy.deliveries(lossy.channel(0, 1), 100, 0)) for _ in range(5_000)]
    assert 400 < copies.count(0) < 600 and 800 < copies.count(2) < 1_000


def test_one_direction_can_be_closed() -> None:
    half = network()
    half.close(0, 1)
    assert half.deliveries(half.channel(0, 1), 10, 0) == () and len(half.deliveries(half.channel(1, 0), 10, 0)) == 1


# -- nodes -----------------------------------------------------------------------------------------------


def test_a_stream_that_lost_something_is_dialled_again_and_the_chain_goes_on() -> None:
    world = small_world(seed=2)
    world.network.streams = True
    world.start()
    keep_reporting(world)
    world.network.loss_permille = 5
    world.run(10 * SECOND)
    world.network.loss_permille = 0
    world.run(5 * SECOND)
    before = heights(world)
    world.run(2 * SECOND)
    assert world.network.fired["reset"] > 3
    assert min(heights(world)) > max(before) + 5


@pytest.mark.parametrize("effects", range(6))
def test_a_node_that_dies_between_two_effects_comes_back(effects: int) -> None:
    world = running(seed=effects)
    victim = world.nodes[2]
    victim.crash_after_effects = effects
    world.run(SECOND)
    assert not victim.is_up
    victim.start()
    world.run(2 * SECOND)
    assert max(heights(world)) - min(heights(world)) <= 2
    lost = victim.history.losses[-1]
    assert lost.kept == lost.durable > 0


def test_a_paused_node_takes_everything_that_came_meanwhile() -> None:
    world = running()
    world.nodes[1].pause()
    world.run(3 * SECOND)
    behind = heights(world)
    assert behind[0] > behind[1] + 5
    world.nodes[1].resume()
    world.run(2 * SECOND)
    assert max(heights(world)) - min(heights(world)) <= 2


def test_a_deaf_node_neither_hears_nor_speaks_and_stays_connected() -> None:
    world = running()
    world.network.deaf[3] = None
    world.run(200_000)
    stuck = heights(world)[3]
    world.run(2 * SECOND)
    assert heights(world)[3] == stuck and heights(world)[0] > stuck + 5
    assert world.network.fired["deaf"] > 10


def test_twins_share_an_identity_and_honest_nodes_accuse_them() -> None:
    world = small_world(seed=4)
    twin = world.add_twin(3)
    assert twin.key.public == world.nodes[3].key.public and twin.instance == 4
    world.start()
    keep_reporting(world)
    for side in (3, 4):  # each twin hears, and is heard by, half of the others
        for other in (0, 1) if side == 3 else (2,):
            world.split[(side, other)] = world.split[(other, side)] = None
    world.run(10 * SECOND)
    world.split.clear()
    world.run(10 * SECOND)
    honest = world.nodes[:3]
    chain = {h: node.finals[h] for node in honest for h in node.finals}
    assert all(node.finals[h] == chain[h] for node in honest for h in node.finals)
    assert {seen.signer for seen in world.history.evidence if seen.node < 3} == {3}


def test_a_timer_that_is_always_due_is_noticed() -> None:
    world = small_world()

    def again() -> None:
        world.call(0, again)

    again()
    with pytest.raises(Stuck):
        world.run(SECOND)


# -- what simulated seeds have found -----------------------------------------------------------------------


class NoBundles(Honest):
    """Bundles by themselves do not reach this node."""

    def incoming(self, node: Actor, peer: int, message: PeerMessage) -> PeerMessage | None:
        return None if isinstance(message, BundleBody | Bundles) else message


def test_a_node_that_no_bundle_reaches_keeps_up_by_replaying_whole_blocks() -> None:
    """Peers serve single bundles of the newest final blocks only, so it asked for ever (lan, seed 117)."""
    world = running()
    world.nodes[3].behaviour = NoBundles()
    trader = Trader(world, 0)
    for _ in range(60):
        trader.submit(orders(Side.BUY, PRICE - 5, [1]))
        world.run(50_000)
    world.run(SECOND)
    assert heights(world)[0] > 60
    assert heights(world)[0] - heights(world)[3] <= 2


class NoHistory(Honest):
    """Old blocks do not reach this node, for a while."""

    is_on = True

    def incoming(self, node: Actor, peer: int, message: PeerMessage) -> PeerMessage | None:
        return None if self.is_on and isinstance(message, Chain | BlockBody) else message


def test_new_blocks_above_a_gap_do_not_keep_a_node_from_filling_it() -> None:
    """They filled its tree, and with a full tree it asked for nothing more (byzantine, seed 263)."""
    world = running()
    world.network.partition([0, 1, 2], [3])
    world.run(SECOND // 2)
    world.nodes[3].behaviour = cut = NoHistory()
    world.network.heal()
    world.run_until(lambda: heights(world)[0] > heights(world)[3] + 180, 20 * SECOND)
    assert world.nodes[3].queues()["tree"] > 128
    cut.is_on = False
    world.run(3 * SECOND)
    assert heights(world)[0] - heights(world)[3] <= 2


def test_a_node_with_nobody_to_ask_waits_for_somebody() -> None:
    """Its timer for the next request was always due (swarm, seed 10)."""
    world = running(seed=3)
    world.network.streams = True
    world.network.partition([0, 1, 2], [3])
    world.run(3 * SECOND)
    world.nodes[3].crash(Survival.PREFIX)
    world.nodes[3].start()
    world.run(3 * SECOND)
    world.network.heal()
    world.run(5 * SECOND)
    assert heights(world)[0] - heights(world)[3] <= 2


def test_a_rebuilt_home_signs_nothing_until_a_quorum_was_heard() -> None:
    world = running()
    victim = world.nodes[2]
    votes = [record for record in victim.history.durable if record.record[0] == 1]
    assert votes
    victim.crash()
    victim.home.rebuild()
    world.network.closed[(0, 2)] = None  # one of three others is not heard
    victim.start()
    world.run(3 * SECOND)
    assert not [record for record in victim.history.durable if record.record[0] == 1]
    world.network.heal()
    world.run(3 * SECOND)
    assert [record for record in victim.history.durable if record.record[0] == 1]
    assert not world.history.evidence
    assert max(heights(world)) - min(heights(world)) <= 2
