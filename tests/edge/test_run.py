"""Real processes under a fixed few plans, judged by the simulator's checkers over what they left on their disks."""

from pathlib import Path

import msgspec
import pytest

from lockstep.chaos.plan import KINDS, draw_plan
from lockstep.chaos.run import PARAMETERS, Result, execute
from lockstep.simulator.checkers import check_all
from lockstep.simulator.history import History
from tests.support.edge_history import spoil
from tests.support.real_network import run


def run_plan(seed: int, profile: str, seconds: int, folder: Path) -> Result:
    """With a checkpoint every 16 blocks, so that a slow machine's short run has one to look at."""
    results: list[Result] = []

    async def main() -> None:
        parameters = msgspec.structs.replace(PARAMETERS, checkpoint_interval_blocks=16)
        results.append(await execute(draw_plan(seed, profile, 4, seconds), folder, parameters=parameters))

    run(main)
    return results[0]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """One run of everything mixed; several tests look at it."""
    return run_plan(7, "all", 16, tmp_path_factory.mktemp("chaos") / "net")


@pytest.mark.processes
@pytest.mark.timeout(600)
def test_every_promise_is_kept(result: Result) -> None:
    assert [f"{v.name}: {v.text}" for v in result.violations] == []
    assert not result.is_void
    assert all(phase.passed for phase in result.history.phases)


@pytest.mark.processes
@pytest.mark.timeout(600)
def test_the_run_was_worth_it(result: Result) -> None:
    kinds = {kind for kind in result.faults if kind in KINDS}
    assert len(kinds) >= 8 and sum(node.starts for node in result.history.nodes) > 4
    assert {answer.node for answer in result.history.acknowledged} == {0, 1, 2, 3}
    assert any(node.losses for node in result.history.nodes)
    assert all(node.records_at_end and node.finals for node in result.history.nodes)


@pytest.mark.processes
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "name", ["agreement", "durability", "roots", "certificates", "money", "acknowledged", "replay"]
)
def test_each_checker_would_notice(result: Result, name: str) -> None:
    """The verdict is worth what the history is: with one thing in it changed, the checker for it must speak up."""
    history: History = spoil(result.history, name)
    assert name in {violation.name for violation in check_all(history)}


def test_a_seed_gives_one_plan_and_every_kind_comes_up() -> None:
    assert draw_plan(3, "all", 4, 20) == draw_plan(3, "all", 4, 20) != draw_plan(4, "all", 4, 20)
    drawn = {fault.kind for seed in range(4) for fault in draw_plan(seed, "all", 4, 30).faults}
    assert drawn == set(KINDS)
    for fault in draw_plan(5, "process", 7, 60).faults:
        assert KINDS[fault.kind].profile == "process" and set(fault.nodes) <= set(range(7))
