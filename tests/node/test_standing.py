"""What a node says of itself, and of bundles, before it knows how far behind it is."""

import numpy as np
import pytest

from lockstep.base.limits import BUNDLE_LIFETIME_BLOCKS_MAX, POOL_BUNDLES_PER_ACCOUNT_MAX
from lockstep.simulator.disk import Survival
from lockstep.simulator.world import World
from lockstep.wire.bundle import Bundle, seal_bundle
from lockstep.wire.client import AskFate, AskStatus, ClientReply, ClientRequest, Fate, StatusReply, Submit, SubmitReply
from lockstep.wire.command import COMMAND, Kind
from tests.support.small_network import keep_reporting, small_world, trader_key

SECOND = 1_000_000
CLIENT = 77
BACK = 3
NOBODY = 1_000


def sealed(world: World, account: int, sequence: int, valid_until: int) -> Bundle:
    commands = np.zeros(1, COMMAND)
    commands["kind"] = Kind.CANCEL_ALL
    return seal_bundle(trader_key(0), world.genesis.chain_id, account, sequence, valid_until, commands)


def asked(world: World, request: ClientRequest) -> ClientReply:
    world.nodes[BACK].ask(CLIENT, request)
    world.run(1_000)
    client, reply = world.nodes[BACK].replies[-1]
    assert client == CLIENT
    return reply


def status(world: World) -> tuple[str, tuple[str, ...]]:
    reply = asked(world, AskStatus())
    assert isinstance(reply, StatusReply)
    return reply.state, reply.allowed


def verdicts(world: World) -> tuple[list[str], list[str]]:
    """Refusals of bundles that only the head can judge and of two that any node can; and their fates afterwards."""
    height = world.nodes[BACK].replica.final.height
    bundles = [
        sealed(world, NOBODY, 0, height + 100),
        sealed(world, 0, POOL_BUNDLES_PER_ACCOUNT_MAX, height + 100),
        sealed(world, 0, 0, height + 2 * BUNDLE_LIFETIME_BLOCKS_MAX),
        sealed(world, 0, 0, 0),
        sealed(world, 1, 0, height + 100),
    ]
    replies = [asked(world, Submit(bundle.raw)) for bundle in bundles]
    fates = [asked(world, AskFate(bundle.digest)) for bundle in bundles]
    return [r.reason for r in replies if isinstance(r, SubmitReply)], [f.status for f in fates if isinstance(f, Fate)]


@pytest.mark.parametrize("is_emptied", [False, True])
def test_a_node_that_has_just_started_is_not_live_and_does_not_judge_what_only_the_head_can(is_emptied: bool) -> None:
    world = small_world()
    world.start()
    keep_reporting(world)
    world.run(SECOND)
    world.nodes[BACK].crash(Survival.PREFIX)
    if is_emptied:
        world.nodes[BACK].home.rebuild()
    world.run(SECOND)
    world.network.partition([0, 1, 2], [BACK])  # it hears nothing, so that the moment lasts
    world.nodes[BACK].start()
    world.run(100_000)
    assert status(world) == ("syncing", ("query",))
    refusals, fates = verdicts(world)
    assert refusals == ["behind", "behind", "behind", "expired", "bad-signature"]
    assert fates == ["unknown", "unknown", "unknown", "unknown", "rejected"]
    world.run(2 * SECOND)
    assert status(world)[0] == "stalled"
    assert verdicts(world)[0][:3] == ["behind"] * 3

    world.network.heal()
    world.run(3 * SECOND)
    assert status(world) == ("live", ("submit", "query"))
    refusals, fates = verdicts(world)
    assert refusals[:3] == ["unknown-account", "sequence-too-far", "lifetime-too-long"]
    assert fates[0] == "rejected"
