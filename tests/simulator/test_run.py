"""Whole runs by plan: the same seed is the same run in any process, promises hold, and a broken one is seen."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from lockstep.simulator.campaign import Job, Report, campaign
from lockstep.simulator.fault import KINDS, LYING, MEDDLING, STANDSTILL
from lockstep.simulator.marks import all_marks
from lockstep.simulator.plan import PROFILES, TWINS, draw_plan
from lockstep.simulator.run import Run
from lockstep.simulator.shrink import shrink

SECOND = 1_000_000


# -- plans -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_a_plan_follows_from_its_seed_and_stays_within_what_is_promised(profile: str) -> None:
    beyond = 0
    for seed in range(200):
        plan = draw_plan(seed, profile, 7, 10)
        assert plan == draw_plan(seed, profile, 7, 10)
        total = sum(plan.stakes)
        if plan.is_beyond_third:
            beyond += 1
            assert profile == "byzantine"
        else:
            assert 3 * sum(plan.stakes[v] for v in plan.healed) > 2 * total
        assert set(plan.behaviours) <= set(plan.faulty)
        for fault in plan.faults:
            if fault.kind == "set_change":  # no fault, but it may come in the midst of them
                continue
            if fault.kind in MEDDLING:
                assert profile == "sync" and plan.plain_again_us > 0
                continue
            if fault.kind == STANDSTILL:
                assert profile == "sync" and 0 < fault.at_us < 10 * SECOND
                continue
            assert fault.kind not in LYING or (fault.node in plan.faulty and fault.node not in plan.behaviours)
            assert 0 < fault.at_us < 10 * SECOND and profile in KINDS[fault.kind].profiles
    assert (beyond > 5) == (profile == "byzantine")


def test_every_kind_of_fault_is_drawn_by_some_seed() -> None:
    plans = [draw_plan(seed, profile, 7, 10) for seed in range(60) for profile in PROFILES]
    assert {fault.kind for plan in plans for fault in plan.faults} == {*KINDS, *MEDDLING, STANDSTILL, "set_change"}
    assert TWINS in {name for plan in plans for name in plan.behaviours.values()}
    assert len({tuple(sorted({f.kind for f in plan.faults})) for plan in plans}) > 200, "each draws its own subset"


# -- runs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_keeps_every_promise(profile: str, seed: int) -> None:
    result = Run(draw_plan(seed, profile, 4, 3)).execute()
    assert result.violations == []
    assert result.events > 500 and result.final_height > 3
    if not result.plan.is_beyond_third:
        assert [phase.passed for phase in result.history.phases] == [True, True]


def test_one_seed_is_one_run_in_every_process_and_two_seeds_are_two() -> None:
    """A process with other hash seeds orders sets and dictionaries of strings otherwise, if anything does."""
    jobs = "".join(json.dumps(Job(seed, "swarm", 4, 2).as_json()) + "\n" for seed in (5, 6))
    hashes = []
    for hash_seed in ("1", "2"):
        answer = subprocess.run(
            [sys.executable, "-m", "lockstep.simulator.worker"],
            input=jobs, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )  # fmt: skip
        hashes.append([json.loads(line)["audit_hash"] for line in answer.stdout.splitlines()])
    assert hashes[0] == hashes[1]
    assert hashes[0][0] != hashes[0][1]


def test_leaving_out_a_fault_leaves_the_others_as_they_are() -> None:
    plan = draw_plan(3, "swarm", 4, 5)
    assert plan.without(frozenset({0})).faults == plan.faults[1:]
    assert plan.without(frozenset(range(len(plan.faults)))).faults == ()


def test_a_run_without_faults_is_void() -> None:
    plan = replace(draw_plan(3, "lan", 4, 2), faults=(), bytes_per_second=0)
    result = Run(plan).execute()
    assert result.violations == [] and result.is_void and result.as_json()["void"]


def test_a_network_that_cannot_converge_is_a_violation() -> None:
    plan = replace(draw_plan(1, "lan", 4, 2), faults=(), left_out=(), faulty=(), behaviours={})
    run = Run(plan)
    heal = run.saboteur.heal

    def heal_badly() -> None:
        heal()
        run.world.network.partition([0, 1], [2, 3])

    run.saboteur.heal = heal_badly  # type: ignore[method-assign]
    result = run.execute()
    assert "convergence" in {violation.name for violation in result.violations}
    assert not result.is_void


def test_a_failure_of_an_honest_node_is_a_violation() -> None:
    run = Run(replace(draw_plan(1, "lan", 4, 2), faults=(), left_out=(), faulty=(), behaviours={}))

    def break_node() -> None:
        run.world.nodes[0].executor.venue = None  # type: ignore[assignment]

    run.world.call(SECOND, break_node)
    assert "failed" in {violation.name for violation in run.execute().violations}


# -- campaigns -------------------------------------------------------------------------------------------


def test_a_campaign_counts_reruns_and_names_what_failed() -> None:
    told: list[int] = []
    jobs = [Job(8, "lan", 4, 1), Job(9, "disk", 4, 1)]
    report = campaign(jobs, 2, lambda job, result, so_far: told.append(job.seed))
    assert sorted(told) == [8, 9] and report.runs == 2 and report.reruns == 1 and report.failures == []
    assert report.events > 0


def test_a_report_takes_violations_crashes_and_different_hashes() -> None:
    report = Report()
    good = {"seed": 1, "audit_hash": "a", "events": 10, "faults": {"loss": 2}, "violations": [], "marks": {"m": 1}}
    bad = {**good, "violations": [{"name": "agreement", "text": "two blocks", "at_us": 1}]}
    job = Job(1, "lan", 4, 1)
    report.add(job, good, good)
    report.add(job, bad, None)
    report.add(job, {"seed": 1, "crashed": "oops"}, None)
    report.add(job, good, {**good, "audit_hash": "b"})
    assert [v["name"] for f in report.failures for v in f["violations"]] == ["agreement", "simulator", "determinism"]
    assert report.faults["loss"].seeds == 3 and report.faults["loss"].violations == 2
    assert report.failures[0]["command"] == "lockstep simulate --seed 1 --profile lan --validators 4 --seconds 1"
    assert report.as_json([])["marks"] == {"m": 3}


def test_marks_are_found_in_the_source() -> None:
    marks = all_marks()
    assert len(marks) > 15 and "log: an unfinished write is cut off" in marks


def test_shrinking_keeps_only_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = draw_plan(4, "lan", 4, 5)
    assert len(plan.faults) >= 4
    needed = {plan.faults[1], plan.faults[3]}
    monkeypatch.setattr(
        "lockstep.simulator.shrink._failed",
        lambda tried: frozenset({"agreement"}) if needed <= set(tried.faults) else frozenset(),
    )
    assert shrink(plan, lambda _: None) == [1, 3]
    monkeypatch.setattr("lockstep.simulator.shrink._failed", lambda tried: frozenset())
    with pytest.raises(ValueError, match="does not fail"):
        shrink(plan, lambda _: None)
