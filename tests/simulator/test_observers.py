"""Nodes that don't vote, in a simulated world: they follow, through faults too, and cost validators little."""

from lockstep.simulator.checkers import CHECKERS
from lockstep.simulator.world import World
from lockstep.wire.client import AskStatus, StatusReply
from lockstep.wire.command import Side
from tests.support.small_network import PRICE, Trader, keep_reporting, orders, small_world

SECOND = 1_000_000


def trading(world: World, microseconds: int, every_us: int = 40_000, node: int = 0) -> Trader:
    """Somebody trades all the while."""
    trader = Trader(world, 0, node)
    end_us = world.now_us + microseconds
    while world.now_us < end_us:
        trader.submit(orders(Side.BUY, PRICE - 5, [1]))
        world.run(every_us)
    return trader


def heights(world: World) -> list[int]:
    return [node.replica.final.height for node in world.everyone]


def agree(world: World) -> None:
    """Every node that is up is where the others are, and nothing that a checker knows of is wrong."""
    up = [node.replica.final.height for node in world.everyone if node.is_up]
    assert max(up) - min(up) <= 2, heights(world)
    for name in ("agreement", "durability", "votes", "roots", "certificates", "replay"):
        assert CHECKERS[name](world.history) == []


def status_of(world: World, observer: int) -> StatusReply:
    node = world.observers[observer]
    node.replies.clear()
    node.ask(7, AskStatus())
    (reply,) = [message for _, message in node.replies if isinstance(message, StatusReply)]
    return reply


def test_observers_follow_the_chain_block_by_block() -> None:
    world = small_world()
    for _ in range(3):
        world.add_observer()
    world.start()
    keep_reporting(world)
    world.run(SECOND)
    trading(world, 2 * SECOND)
    assert heights(world)[0] > 20
    agree(world)
    status = status_of(world, 0)
    assert (status.state, status.validator, status.allowed) == ("live", -1, ("submit", "query"))
