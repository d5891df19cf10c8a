"""What a node says of itself while blocks of several epochs are replayed: certificates of the head's epoch prove
nothing to it yet."""

from lockstep.node.status import LAGGING_BLOCKS
from lockstep.simulator.disk import Survival
from lockstep.simulator.machine import Machine
from lockstep.simulator.world import World
from lockstep.wire.client import AskStatus, StatusReply, SubmitSetChange
from lockstep.wire.set_change import SetChange, approve, sign_change
from tests.support.small_network import small_world, validator_key

SECOND = 1_000_000
CLIENT = 77
BACK = 3
EPOCHS = 4


def change_stake(world: World, epoch: int) -> None:
    """One of the three that are there gains or loses a little."""
    change = SetChange(world.genesis.chain_id, epoch, (), ((0, 2 - epoch % 2),))
    approved = approve(change, {i: sign_change(validator_key(i), change) for i in range(3)}, 4)
    world.nodes[0].ask(CLIENT, SubmitSetChange(approved.encode()))
    assert world.run_until(lambda: all(n.replica.roster.epoch == epoch + 1 for n in world.nodes[:3]), 20 * SECOND)


def states(world: World, every_us: int) -> list[tuple[str, int]]:
    """What it says at every moment until it is at the head, and how many blocks it is behind then."""
    seen: list[tuple[str, int]] = []
    back = world.nodes[BACK]
    while len(seen) < 10_000 and (not seen or seen[-1][0] != "live" or seen[-1][1] > 0):
        world.run(every_us)
        if not back.is_up:
            continue
        back.ask(CLIENT, AskStatus())
        world.run(0)
        reply = back.replies[-1][1]
        assert isinstance(reply, StatusReply)
        head = max(node.replica.final.height for node in world.nodes)
        seen.append((reply.state, head - back.replica.final.height))
    return seen


def behind_world() -> World:
    """A validator that is away while the set changes again and again."""
    world = small_world(epoch_blocks=16, checkpoint_interval_blocks=10_000)
    world.start()
    world.run(SECOND)
    return world


def test_who_is_epochs_behind_is_not_live_before_it_follows_the_head() -> None:
    world = behind_world()
    back = world.nodes[BACK]
    back.crash(Survival.PREFIX)
    for epoch in range(EPOCHS):
        change_stake(world, epoch)
    world.run(5 * SECOND)
    back.machine = Machine(execute_us=4_000)
    back.start()
    seen = states(world, 10_000)
    assert max(behind for _, behind in seen) > 8 * LAGGING_BLOCKS
    early = [(state, behind) for state, behind in seen if state in ("live", "stalled") and behind > LAGGING_BLOCKS]
    assert early == []
