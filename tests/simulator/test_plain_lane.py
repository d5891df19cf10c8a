"""Plain connections in the simulated world: whoever is on the way accuses nobody, and holds up nobody for long."""

from dataclasses import replace

import pytest

from lockstep.simulator.behaviour import Actor, Leaving
from lockstep.simulator.byzantine.lie_sync import LieSync
from lockstep.simulator.fault import MEDDLING, Fault
from lockstep.simulator.plan import Plan, draw_plan
from lockstep.simulator.run import Result, Run
from lockstep.simulator.simulated_node import SimulatedNode
from lockstep.wire.message import PeerMessage, StatePart
from tests.simulator.test_sync_profile import SECOND, joining_late

CAME, WRONG, GONE = (
    "plain: a part came",
    "state: a part that nobody vouches for is wrong",
    "plain: a connection is gone",
)
PRUNES = tuple(Fault(at_us, "prune", 0, 0, at_us // 1_000) for at_us in range(SECOND, 1_300_000, 50_000))


def fetching(again_us: int, **changes: object) -> Plan:
    """Validator 3 begins with an empty home, and everybody has pruned the blocks: it fetches a state."""
    return replace(joining_late(faults=PRUNES), plain_again_us=again_us, **changes)  # type: ignore[arg-type]


def fetched(plan: Plan, what: str = "", permille: int = 1_000) -> Result:
    """A run in which somebody does this to all plain connections, from beginning to end."""
    run = Run(plan)
    assert run.world.plain is not None
    if what:
        setattr(run.world.plain, what, permille)
    for index in plan.faulty:
        run.world.nodes[index].behaviour = FalseChunks(("false",))
    result = run.execute()
    assert result.violations == [], result.violations
    assert result.history.nodes[3].installed
    return result


class FalseChunks(LieSync):
    """Sends false chunks from when validator 3 has a plain connection with it on."""

    def outgoing(self, node: Actor, peer: int, message: PeerMessage) -> list[Leaving]:
        assert isinstance(node, SimulatedNode) and node.world.plain is not None
        lane = node.world.plain.lane(3, node.instance)
        is_false = lane is not None and lane.is_open and isinstance(message, StatePart)
        return super().outgoing(node, peer, message) if is_false else [message]


def test_whole_chunks_come_over_plain_connections() -> None:
    result = fetched(fetching(60 * SECOND))
    assert result.marks[CAME] >= 1 and WRONG not in result.marks


@pytest.mark.parametrize(
    ("what", "fault", "mark", "again_us"),
    [("spoil_permille", "plain_spoil", WRONG, 2 * SECOND), ("cut_permille", "plain_cut", GONE, 60 * SECOND),
     ("hold_permille", "plain_hold", "state: a peer did not answer in time", 2 * SECOND)],
)  # fmt: skip
def test_whoever_is_on_the_way_nobody_is_accused_and_the_state_comes(
    what: str, fault: str, mark: str, again_us: int
) -> None:
    result = fetched(fetching(again_us), what)
    assert result.faults[fault] >= 1 and result.marks[mark] >= 1
    assert not any(node.blamed for node in result.history.nodes)


def test_a_liar_has_an_answer_for_nothing() -> None:
    """Then it is asked for the same the other way, unless another was quicker."""
    result = fetched(fetching(60 * SECOND, behaviours={0: "lie-sync"}, faulty=(0,)))
    assert result.marks[WRONG] >= 1
    assert {blame.peer for node in result.history.honest for blame in node.blamed} <= {0}


def test_seeds_have_plain_connections_and_every_kind_of_meddling() -> None:
    plans = [draw_plan(seed, "sync", 4, 3) for seed in range(24)]
    assert {bool(plan.plain_again_us) for plan in plans} == {True, False}
    drawn = {fault.kind for plan in plans for fault in plan.faults if fault.kind in MEDDLING}
    assert drawn == set(MEDDLING)
    assert all(plan.plain_again_us for plan in plans if any(f.kind in MEDDLING for f in plan.faults))
