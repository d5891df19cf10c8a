"""Roots that differ never finalise, and everybody learns of it."""

import pytest

from lockstep.consensus import interface as on
from tests.support.consensus_bench import ROOTS, Bench, of_type
from tests.support.consensus_world import MS, World

WRONG = (b"w" * 32, b"e" * 32)


def finalized_views(bench: Bench, effects: list[on.Effect]) -> list[int]:
    return [e.certificate.view for e in of_type(effects, on.Finalized)]


def test_one_wrong_vote_is_reported_once_and_is_not_fatal() -> None:
    bench = Bench(0)
    bench.start()
    header = bench.header(1)
    bench.executed(header)
    (diverged,) = of_type(bench.vote(bench.finalize(2, header, WRONG)), on.Diverged)
    assert diverged == on.Diverged(header.digest, 1, ROOTS, WRONG, (2,), False)
    effects = bench.votes([bench.finalize(1, header), bench.finalize(3, header)])
    assert of_type(effects, on.Diverged) == []


def test_a_difference_is_seen_also_when_the_votes_came_before_the_own_result() -> None:
    bench = Bench(0)
    bench.start()
    header = bench.header(1)
    assert of_type(bench.vote(bench.finalize(2, header, WRONG)), on.Diverged) == []
    (diverged,) = of_type(bench.executed(header), on.Diverged)
    assert (diverged.other, diverged.signers, diverged.fatal) == (WRONG, (2,), False)


def test_it_is_fatal_when_the_own_roots_can_no_longer_reach_a_quorum() -> None:
    bench = Bench(0)
    bench.start()
    header = bench.header(1)
    bench.certificate(bench.notarization(header))
    bench.executed(header)
    reports = of_type(bench.votes([bench.finalize(2, header, WRONG), bench.finalize(3, header, WRONG)]), on.Diverged)
    assert [(r.signers, r.fatal) for r in reports] == [((2,), False), ((2, 3), True)]


def test_wrong_roots_that_differ_among_themselves_block_a_quorum_too() -> None:
    bench = Bench(0)
    bench.start()
    header = bench.header(1)
    bench.executed(header)
    votes = [bench.finalize(2, header, WRONG), bench.finalize(3, header, WRONG[::-1])]
    reports = of_type(bench.votes(votes), on.Diverged)
    assert [r.fatal for r in reports] == [False, True, True]


def test_a_finalization_with_other_roots_is_fatal_before_and_after_the_own_result() -> None:
    for executed_first in (True, False):
        bench = Bench(0)
        bench.start()
        header = bench.header(1)
        effects = bench.executed(header) if executed_first else []
        effects += bench.certificate(bench.finalization(header, roots=WRONG))
        effects += bench.executed(header) if not executed_first else []
        (diverged,) = of_type(effects, on.Diverged)
        assert (diverged.own, diverged.other, diverged.signers, diverged.fatal) == (ROOTS, WRONG, (1, 2, 3), True)
        assert finalized_views(bench, effects) == [1]


def test_own_vote_leaves_although_the_others_differ_so_that_they_learn_of_it() -> None:
    bench = Bench(0)
    bench.start()
    header = bench.header(1)
    bench.certificate(bench.notarization(header))
    bench.votes([bench.finalize(2, header, WRONG), bench.finalize(3, header, WRONG)])
    effects = bench.executed(header)
    kinds = [type(e) for e in effects]
    assert kinds.index(on.Persist) < kinds.index(on.Diverged)
    assert on.Broadcast(bench.finalize(0, header)) in effects


def test_one_of_four_with_wrong_roots_is_left_behind_by_the_others() -> None:
    world = World(4, seed=1, wrong_roots={2: b"w" * 32})
    world.start()
    world.run_until(1000 * MS)
    others = [node for node in world.nodes if node.index != 2]
    assert all(node.final.height > 20 for node in others)
    assert not any(report.fatal for node in others for report in node.diverged)
    assert world.nodes[2].final.height == 0
    assert any(report.fatal for report in world.nodes[2].diverged)


@pytest.mark.parametrize("same", [True, False], ids=["the same wrong root", "two wrong roots"])
def test_two_of_four_with_wrong_roots_leave_nobody_anything_final(same: bool) -> None:
    world = World(4, seed=2, wrong_roots={2: b"w" * 32, 3: b"w" * 32 if same else b"x" * 32})
    world.start()
    world.run_until(1000 * MS)
    for node in world.nodes:
        assert node.final.height == 0
        assert any(report.fatal for report in node.diverged), "everybody stops trading"
