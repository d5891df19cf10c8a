"""Validator sets change in simulated runs, under faults and in quiet, and every checker agrees."""

import pytest

from lockstep.base import keys, marks
from lockstep.simulator.plan import draw_plan
from lockstep.simulator.run import Run
from lockstep.simulator.venue_setup import FEED, small_genesis, validator_keys
from lockstep.simulator.world import START_US, World
from lockstep.wire.client import SubmitReply, SubmitSetChange
from lockstep.wire.genesis import Genesis, Validator
from lockstep.wire.set_change import SetChange, approve, sign_change

CLIENT = 99
LONG_US = 9_000_000


def change_of(
    genesis: Genesis, epoch: int, listed: int, stakes: tuple[tuple[int, int], ...], signers: tuple[int, ...],
    added: tuple[Validator, ...] = (),
) -> bytes:  # fmt: skip
    change = SetChange(genesis.chain_id, epoch, added, stakes)
    held = validator_keys(5)
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
