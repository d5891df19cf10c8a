"""A home that was lost signs nothing before a quorum of the others was heard, however often its process begins anew;
and never in a view that the lost home may have voted in."""

import pytest

from lockstep.base.keys import PrivateKey
from lockstep.node import synchronizer
from lockstep.node.record import Mute, decode_record
from lockstep.node.rejoin import MUTED, is_muted_at_start
from lockstep.node.replica import Replica
from lockstep.simulator.simulated_node import SimulatedNode
from lockstep.simulator.simulated_store import SimulatedStore
from lockstep.simulator.world import World
from lockstep.sync.chooser import NEVER_MS
from lockstep.wire.validators import first_view
from lockstep.wire.vote import Vote, sign_nullify
from tests.support.small_network import keep_reporting, small_world

SECOND = 1_000_000
LOST, UNHEARD = 3, 2


def lost_home(monkeypatch: pytest.MonkeyPatch, *, by_state: bool) -> World:
    """A validator whose home is lost comes back far behind, as one that knows nothing of that; and does not hear one of
    the others, who go on without it."""
    monkeypatch.setattr(synchronizer, "BEHIND_BLOCKS_MIN", 16)
    if by_state:
        monkeypatch.setattr(synchronizer, "replay_ms", lambda *_: NEVER_MS)
    world = small_world(seed=11, checkpoint_interval_blocks=8, idle_block_ms=20)
    world.start()
    keep_reporting(world)
    world.run(2 * SECOND)
    node = world.nodes[LOST]
    node.crash()
    node.home.disk.erase()
    node.home.store = SimulatedStore()
    node.history.durable.clear()
    world.run(SECOND)
    world.network.close(LOST, UNHEARD)
    world.network.close(UNHEARD, LOST)
    node.start()
    return world


def is_muted(node: SimulatedNode) -> bool:
    assert isinstance(node.replica, Replica)
    return node.replica._rejoin.is_muted


def votes(node: SimulatedNode) -> list[Vote]:
    records = [decode_record(durable.record) for durable in node.history.durable]
    return [record for record in records if hasattr(record, "signer") and not hasattr(record, "first")]


def follows(world: World) -> bool:
    """Whether it is where the others are, ten blocks later."""
    height = max(node.replica.final.height for node in world.nodes) + 10
    return world.run_until(lambda: world.nodes[LOST].replica.final.height >= height, 10 * SECOND)


@pytest.mark.parametrize("by_state", [False, True])
def test_a_restart_while_it_is_mute_changes_nothing(by_state: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    world = lost_home(monkeypatch, by_state=by_state)
    node = world.nodes[LOST]
    assert follows(world) and bool(node.history.installed) == by_state
    for _ in range(3):
        node.crash()
        node.start()
        assert follows(world) and is_muted(node), "checkpoints of its own were written meanwhile"
    assert node.home.store.meta is not None and node.home.store.meta.height > 32
    assert votes(node) == []


def test_a_vote_before_it_heard_anything_does_not_make_it_one_that_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    world = lost_home(monkeypatch, by_state=False)
    node = world.nodes[LOST]
    world.network.partition([0, 1, 2], [LOST])
    assert world.run_until(lambda: bool(votes(node)), 5 * SECOND)
    node.crash()
    world.network.heal()
    world.network.close(LOST, UNHEARD)
    world.network.close(UNHEARD, LOST)
    node.start()
    assert follows(world) and is_muted(node)
    assert {vote.view for vote in votes(node)} == {1}


def test_what_it_may_not_sign_after_it_was_heard_it_may_not_after_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    world = lost_home(monkeypatch, by_state=False)
    node = world.nodes[LOST]
    assert follows(world)
    world.network.heal()
    assert world.run_until(lambda: not is_muted(node), 5 * SECOND)
    assert isinstance(node.replica, Replica)
    above = node.replica._rejoin.above
    assert world.run_until(lambda: bool(votes(node)), 5 * SECOND)
    node.crash()
    node.start()
    assert isinstance(node.replica, Replica) and node.replica._rejoin.above == above
    own = node.replica._ordering.engine._own  # type: ignore[attr-defined]
    assert own.closed_view >= above and not is_muted(node)
    assert follows(world)
    records = [decode_record(durable.record) for durable in node.history.durable]
    assert [record for record in records if isinstance(record, Mute)] == [Mute(MUTED), Mute(above)]
    assert min(vote.view for vote in votes(node)) > above


OLD, NEW = first_view(1) + 7, first_view(2) + 3


def nullified(view: int) -> Vote:
    return sign_nullify(PrivateKey(bytes([1]) * 32), bytes(32), 0, view)


@pytest.mark.parametrize(
    ("mute", "voted", "epoch", "is_rebuilt", "expected"),
    [
        (0, (), 0, False, False),
        (0, (), 0, True, True),
        (0, (5,), 0, True, False),
        (MUTED, (5,), 0, False, True),
        (4, (), 0, True, False),
        (4, (5,), 0, True, False),
        (OLD, (OLD + 1,), 1, False, False),
        (OLD, (OLD + 1,), 2, False, True),
        (OLD, (OLD + 1, NEW), 2, False, False),
    ],
)
def test_who_begins_muted(mute: int, voted: tuple[int, ...], epoch: int, is_rebuilt: bool, expected: bool) -> None:
    assert is_muted_at_start(mute, [nullified(view) for view in voted], epoch, is_rebuilt) == expected


def test_who_has_taken_part_since_the_beginning_is_not_mute_when_it_falls_behind() -> None:
    """Swarm seed 60168 (5 s): its log was empty at start, like everybody's, and so it counted as a lost home. With
    another validator down, nobody could end the view that it did not vote in."""
    world = small_world(seed=11, checkpoint_interval_blocks=8, idle_block_ms=20)
    world.start()
    keep_reporting(world)
    world.run(SECOND)
    late, gone = world.nodes[LOST], world.nodes[UNHEARD]
    world.network.partition([LOST], [0, 1, UNHEARD])
    world.run(SECOND)
    gone.crash()
    for node in world.nodes:
        node.home.store.prune(0)
    world.network.heal()
    assert follows(world)
    assert len(late.history.installed) == 1 and not is_muted(late)
