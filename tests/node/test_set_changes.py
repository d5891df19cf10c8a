"""A change of validators that a peer shows: what no honest node passes on costs the connection, lateness does not."""

import pytest

from lockstep.base.errors import Reason
from lockstep.node.effects import DropPeer
from lockstep.node.events import PeerSaid
from lockstep.simulator.world import World
from lockstep.wire.message import SetChangeBody
from lockstep.wire.set_change import SetChange, approve, sign_change
from tests.support.small_network import small_world, validator_key

PEER = 2


def shown(world: World, raw: bytes) -> list[str]:
    """Why node 0 drops the peer that shows this."""
    effects = world.nodes[0].replica.step(PeerSaid(PEER, SetChangeBody(raw)), world.now_us)
    return [effect.detail for effect in effects if isinstance(effect, DropPeer) and effect.peer == PEER]


def change(world: World, epoch: int = 0, key_of: int = 0, chain_id: bytes | None = None) -> bytes:
    chain = world.nodes[0].replica.roster.validators.chain_id if chain_id is None else chain_id
    what = SetChange(chain, epoch, (), ((0, 2),))
    return approve(what, {i: sign_change(validator_key(i + key_of), what) for i in range(3)}, 4).encode()


@pytest.fixture
def world() -> World:
    world = small_world()
    world.start()
    world.run(1_000_000)
    return world


def test_a_late_or_early_change_is_no_lie_and_a_good_one_is_taken(world: World) -> None:
    assert shown(world, change(world, epoch=1)) == []
    assert shown(world, change(world)) == []
    assert shown(world, change(world)) == [], "it is here already"


def test_a_change_with_a_false_signature_a_false_chain_or_no_form_is_a_lie(world: World) -> None:
    for raw, reason in (
        (change(world, key_of=1), Reason.BAD_SIGNATURE),
        (change(world, chain_id=bytes(32)), Reason.WRONG_CHAIN),
        (b"\x93", Reason.MALFORMED),
    ):
        (why,) = shown(world, raw)
        assert reason.value in why
