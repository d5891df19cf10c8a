"""The same networks with Ed25519, so that what is signed is what is verified."""

import pytest

from tests.support.consensus_byzantine import Equivocator, Liar
from tests.support.consensus_keys import real_keys
from tests.support.consensus_world import MS, Faults, World


@pytest.fixture(autouse=True)
def _signatures() -> None:
    """Real ones."""


@pytest.mark.parametrize("byzantine", [{}, {1: Equivocator}, {2: Liar}], ids=["honest", "equivocator", "liar"])
def test_a_network_with_ed25519_makes_progress_through_a_crash(byzantine: dict[int, type]) -> None:
    world = World(4, 1, keys=real_keys(4), faults=Faults(loss=0.05), byzantine=byzantine)
    world.start()
    world.run_until(150 * MS)
    world.nodes[0].crash()
    world.run_until(300 * MS)
    world.nodes[0].restart()
    goal = max(node.final.height for node in world.honest) + 3
    assert world.run_until(4_000 * MS, lambda: all(node.final.height >= goal for node in world.honest))
    assert all(report.peer in byzantine for node in world.honest for report in node.misbehaved)
    if Liar in byzantine.values():
        assert any(report.peer == 2 for node in world.honest for report in node.misbehaved)
