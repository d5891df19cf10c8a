"""Price observations from validators whose clocks differ."""

import pytest

from tests.support.small_network import keep_reporting, small_world


@pytest.mark.parametrize("offset_us", [-5_000_000, 5_000_000])
def test_a_wrong_clock_is_nobodys_lie(offset_us: int) -> None:
    """From `lockstep chaos --seeds 14`: a node seconds behind called every honest peer a liar, and dropped them."""
    world = small_world()
    world.nodes[2].home.clock.offset_us = offset_us
    world.start()
    keep_reporting(world)
    world.run(5_000_000)
    assert not world.network.fired.get("dropped")
    heights = [node.replica.final.height for node in world.nodes]
    assert min(heights) > 20 and max(heights) - min(heights) <= 2
