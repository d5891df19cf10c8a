"""While the last block of an epoch is not final, it is proposed again, but no sooner than an empty block would be."""

from lockstep.simulator.world import World
from tests.simulator.test_epoch_deaths import STAKE, begun

SECOND = 1_000_000
IDLE_MS = 20


def views_gone_through(world: World, microseconds: int) -> int:
    engine = world.nodes[0].replica._ordering.engine  # type: ignore[union-attr]
    before = engine.view
    world.run(microseconds)
    return engine.view - before


def test_views_do_not_race_on_while_the_last_block_of_an_epoch_is_not_final() -> None:
    """Seed 60063 of profile `sync`: with two of four busy, each view notarized that block again at once, and a second
    made thousands of views."""
    world = begun(STAKE)
    assert world.run_until(lambda: last_is_here(world), 20 * SECOND)
    for node in world.nodes[2:]:
        node.is_busy = True
    world.run(SECOND // 2)
    again = views_gone_through(world, SECOND)
    assert 5 < again <= 1_000 // IDLE_MS + 1, "once an idle block time"
    assert all(node.replica.roster.epoch == 0 for node in world.nodes)
    for node in world.nodes[2:]:
        node.work_again()
    assert world.run_until(lambda: all(node.replica.roster.epoch == 1 for node in world.nodes), SECOND)


def last_is_here(world: World) -> bool:
    return any(entry.header.closes_epoch for entry in world.nodes[0].replica._ctx.tree.entries())
