"""Crashing and coming back. Each known trap has its named test."""

from itertools import pairwise

import pytest

from lockstep.base.errors import InvariantBroken
from lockstep.consensus import interface as on
from lockstep.wire.certificate import Finalization, Notarization
from lockstep.wire.vote import Finalize, Notarize, Nullify
from tests.support.consensus_bench import ROOTS, Bench, broadcasts, chain_of, of_type

B = Bench(0)


def test_own_nullify_lost_at_restart_is_said_again() -> None:
    """The trap: a nullify vote that everybody else missed, forgotten at a restart, leaves 2f votes for ever."""
    bench = Bench(0, votes=[B.nullify(0, 1)])
    assert broadcasts(bench.start(), Nullify) == [B.nullify(0, 1)]
    bench.votes([B.nullify(1, 1), B.nullify(2, 1)])
    assert bench.engine.view == 2, "and it counts"


def test_own_votes_of_all_undecided_views_and_the_newest_certificates_are_said_again() -> None:
    first, second = chain_of(B, (1, 2))
    votes = [B.notarize(0, first), B.finalize(0, first), B.notarize(0, second), B.nullify(0, 3), B.nullify(0, 4)]
    certificates = [B.notarization(first), B.nullification(3)]
    bench = Bench(0, votes=votes, certificates=certificates)
    effects = bench.start()
    assert broadcasts(effects, Notarize) == [B.notarize(0, second)]
    assert broadcasts(effects, Nullify) == [B.nullify(0, 4)]
    assert broadcasts(effects, Finalize) == [B.finalize(0, first)]
    assert broadcasts(effects, Notarization) == [B.notarization(first)]
    assert on.Broadcast(B.nullification(3)) in effects


def test_it_goes_on_in_the_highest_view_that_a_vote_or_certificate_proves() -> None:
    header = B.header(6)
    for votes, certificates, view in (
        ([], [], 1),
        ([B.nullify(0, 7)], [], 7),
        ([B.notarize(0, header)], [], 6),
        ([B.notarize(0, header), B.finalize(0, header)], [], 7),
        ([B.nullify(0, 3)], [B.nullification(8)], 9),
        ([], [B.notarization(header)], 7),
        ([], [B.finalization(header), B.nullification(2)], 7),
    ):
        assert Bench(0, votes=votes, certificates=certificates).engine.view == view


def test_it_does_not_vote_again_where_it_voted_for_another_block() -> None:
    header, other = B.header(1, salt=1), B.header(1, salt=2)
    bench = Bench(0, votes=[B.notarize(0, header)])
    bench.start()
    bench.propose(other)
    assert bench.checked(other) == []
    assert broadcasts(bench.wait(3.1), Nullify) == [B.nullify(0, 1)], "giving up contradicts nothing"


def test_it_does_not_build_in_a_view_in_which_it_voted() -> None:
    bench = Bench(1, votes=[B.notarize(1, B.header(1))])
    assert of_type(bench.start(), on.Build) == []
    assert bench.do(on.BlockBuilt(B.header(1, salt=3))) == []


def test_it_does_not_finalize_what_it_gave_up() -> None:
    header = B.header(1)
    bench = Bench(0, votes=[B.nullify(0, 1)])
    bench.start()
    bench.certificate(B.notarization(header))
    assert broadcasts(bench.executed(header), Finalize) == []


def test_it_does_not_give_up_what_it_finalized() -> None:
    header = B.header(1)
    bench = Bench(0, votes=[B.finalize(0, header)])
    bench.start()
    assert bench.engine.view == 2
    assert [v.view for v in broadcasts(bench.wait(3.1), Nullify)] == [2]


def test_notarized_blocks_are_announced_again_so_that_they_are_executed_again() -> None:
    first, second = chain_of(B, (1, 2))
    bench = Bench(0, certificates=[B.notarization(second), B.notarization(first)])
    effects = bench.start()
    assert [e.certificate.view for e in of_type(effects, on.Notarized)] == [1, 2]
    assert broadcasts(bench.executed(first), Finalize) == [B.finalize(0, first)]


def test_a_finalization_above_the_floor_is_announced_again() -> None:
    first, second = chain_of(B, (1, 2))
    bench = Bench(0, floor=first, certificates=[B.finalization(first), B.finalization(second)])
    effects = bench.start()
    assert [e.certificate for e in of_type(effects, on.Finalized)] == [B.finalization(second)]
    assert broadcasts(effects, Finalization) == [B.finalization(second)]
    bench = Bench(0, floor=second, certificates=[B.finalization(second)])
    assert of_type(bench.start(), on.Finalized) == [], "the caller has it"
    assert bench.engine.finalization == B.finalization(second)


def test_votes_and_certificates_below_the_floor_are_ignored() -> None:
    first, second, third = chain_of(B, (1, 2, 3))
    votes = [B.notarize(0, first), B.nullify(0, 1), B.finalize(0, second)]
    bench = Bench(0, floor=third, votes=votes, certificates=[B.notarization(first), B.finalization(second)])
    assert [type(effect) for effect in bench.start()] == [on.Build]
    assert bench.engine.view == 4


def test_state_that_is_not_what_was_signed_before_the_restart_stops_the_node() -> None:
    """The trap: recovery resumes at the wrong record, or application state runs ahead of the log."""
    header = B.header(1)
    bench = Bench(0, votes=[B.finalize(0, header)], certificates=[B.notarization(header)])
    bench.start()
    with pytest.raises(InvariantBroken, match="state is not what it was"):
        bench.executed(header, ROOTS[::-1])


def test_executing_a_block_twice_with_different_results_stops_the_node() -> None:
    bench = Bench(0)
    bench.start()
    bench.executed(B.header(1))
    with pytest.raises(InvariantBroken, match="deterministic"):
        bench.executed(B.header(1), ROOTS[::-1])


def test_a_log_with_contradicting_own_votes_is_refused() -> None:
    with pytest.raises(InvariantBroken):
        Bench(0, votes=[B.nullify(0, 1), B.finalize(0, B.header(1))])
    with pytest.raises(InvariantBroken):
        Bench(0, votes=[B.nullify(1, 1)])


def test_a_node_that_may_have_lost_its_votes_is_mute_where_it_may_have_voted() -> None:
    """The trap: voting while still catching up is equivocation, when the log of own votes was lost."""
    bench = Bench(0, mute_through_view=5)
    effects = bench.start()
    for view in range(1, 7):
        header = bench.header(view, salt=view)
        effects += bench.propose(header)
        effects += bench.checked(header)
        effects += bench.wait(3.1)
        effects += bench.certificate(bench.nullification(view))
    assert {v.view for v in broadcasts(effects, Notarize)} | {v.view for v in broadcasts(effects, Nullify)} == {6}
    assert {e.view for e in of_type(effects, on.Build)} == set(), "view 4 was its own to lead"


def test_crash_at_every_step_of_two_views_never_contradicts_a_vote() -> None:
    """The trap: there is one recovery path. Crash after every event, with every prefix of what was written."""
    first, second = chain_of(B, (1, 2))
    rival = B.header(1, salt=9)
    script = [
        on.ProposalArrived(1, first, B.notarize(1, first).signature),
        on.BlockChecked(first.digest, True),
        on.CertificateArrived(1, B.notarization(first)),
        on.BlockExecuted(first, *ROOTS),
        on.ProposalArrived(2, second, B.notarize(2, second).signature),
        on.BlockChecked(second.digest, True),
        on.Tick(),
        on.CertificateArrived(2, B.notarization(second)),
        on.BlockExecuted(second, *ROOTS),
        on.CertificateArrived(1, B.finalization(first)),
    ]
    crashes = 0
    for steps in range(len(script) + 1):
        bench = Bench(0)
        bench.start()
        written = []
        for event in script[:steps]:
            bench.now += 10_000 if not isinstance(event, on.Tick) else 300_000
            written += [e.record for e in bench.do(event) if isinstance(e, on.Persist)]
        for kept in range(len(written) + 1):
            crashes += 1
            votes = [r for r in written[:kept] if isinstance(r, Notarize | Nullify | Finalize)]
            certificates = [r for r in written[:kept] if not isinstance(r, Notarize | Nullify | Finalize)]
            again = Bench(0, votes=votes, certificates=certificates)  # the floor is genesis: state behind the log
            effects = again.start()
            for header in (rival, first, second):
                effects += again.propose(header)
                effects += again.checked(header)
            effects += again.wait(3.1)
            effects += [e for header in (first, second) for e in again.executed(header)]
            cast = [e.record for e in effects if isinstance(e, on.Persist) and e.then]
            everything = [*votes, *cast]
            for one, other in pairwise(sorted(everything, key=lambda v: (v.view, type(v).__name__))):
                same = (type(one), one.view) == (type(other), other.view)
                assert not same or one == other
            for view in (1, 2):
                kinds = {type(v) for v in everything if v.view == view}
                assert not {Nullify, Finalize} <= kinds
    assert crashes > 40
