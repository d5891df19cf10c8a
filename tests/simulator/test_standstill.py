"""The fault `standstill`: a node that catches up is needed, and remembers what it said before it fetched a state."""

from dataclasses import replace

import pytest

from lockstep.node.places import Places
from lockstep.simulator.fault import STANDSTILL, Fault
from lockstep.simulator.plan import PROFILES, SECOND, Plan, draw_plan
from lockstep.simulator.run import Result, Run
from lockstep.simulator.simulated_node import SimulatedNode
from lockstep.simulator.standstill import Standstill
from lockstep.wire.certificate import Finalization
from tests.simulator.test_sync_profile import joining_late
from tests.support.small_network import small_world


def coming_back(seed: int) -> Plan:
    """Validator 3 is away while the others prune their blocks, and is needed as soon as it is back."""
    away = Fault(400_000, "away", 3, 1_300_000, 1)
    prune = [Fault(at_us, "prune", 0, 0, at_us // 1_000) for at_us in range(SECOND, 1_800_000, 30_000)]
    still = Fault(1_600_000, STANDSTILL, 0, 2 * SECOND, seed)
    return replace(joining_late(faults=(away, *prune, still), joining={}), seed=seed, seconds=6, streams=seed % 2 == 1)


def run_one(seed: int) -> Result:
    result = Run(coming_back(seed)).execute()
    assert result.faults[STANDSTILL] >= 2, "it stands still, and the one that catches up is cut off"
    assert len(result.history.nodes[3].installed) >= 1
    return result


def test_votes_of_before_a_fetched_state_bind_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    busy: list[list[int]] = []
    begin = Standstill._begin

    def watched(standstill: Standstill, needed: SimulatedNode) -> None:
        begin(standstill, needed)
        busy.append([node.index for node in needed.world.nodes if node.is_busy])

    monkeypatch.setattr(Standstill, "_begin", watched)
    result = run_one(1)
    assert result.violations == []
    assert busy and all(len(nodes) == 1 and nodes != [3] for nodes in busy), "so many that the rest is no quorum"


def test_votes_forgotten_at_an_installation_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug `install-forgets-votes`."""

    def forgetful(places: Places, certificate: Finalization) -> int:
        places._newest_final = places._finalizations[certificate.block][1]
        places._views.clear()
        return places._newest_final

    monkeypatch.setattr(Places, "installed", forgetful)
    assert "votes" in {violation.name for violation in run_one(1).violations}


def test_a_busy_node_votes_for_blocks_and_says_what_they_give_when_it_works_again() -> None:
    world = small_world()
    world.start()
    world.run(SECOND)
    node = world.nodes[0]
    node.is_busy = True
    world.run(SECOND // 10)
    height, view = node.replica.final.height, max(n.replica.final.view for n in world.nodes)
    world.run(SECOND)
    behind = max(n.replica.final.height for n in world.nodes) - height
    assert node.replica.final.height == height and behind > 5, "three others are a quorum"
    assert max(n.replica.final.view for n in world.nodes) > view
    node.pause()
    world.run(SECOND // 10)
    node.work_again()
    node.resume()
    world.run(SECOND // 2)
    assert max(n.replica.final.height for n in world.nodes) - node.replica.final.height <= 2


def test_it_is_drawn_apart_from_other_faults_and_in_no_other_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = [draw_plan(seed, "sync", 4, 6) for seed in range(30)]
    others = [draw_plan(seed, profile, 4, 6) for seed in range(30) for profile in PROFILES if profile != "sync"]
    drawn = [any(fault.kind == STANDSTILL for fault in each.faults) for each in plans]
    assert 5 <= sum(drawn) <= 25
    assert not any(fault.kind == STANDSTILL for each in others for fault in each.faults)
    monkeypatch.setattr("lockstep.simulator.plan._draw_standstills", lambda *_: ())
    for seed, each in enumerate(plans):
        rest = draw_plan(seed, "sync", 4, 6)
        assert replace(each, faults=()) == replace(rest, faults=())
        kept = set(rest.faults)
        assert [fault for fault in each.faults if fault in kept] == list(rest.faults)
