"""Building, proposing, checking and notarizing. One test per rule."""

from dataclasses import replace

import pytest

from lockstep.base.errors import InvariantBroken
from lockstep.consensus import interface as on
from lockstep.consensus.config import PROPOSALS_AHEAD_MAX
from lockstep.wire.block import Header
from lockstep.wire.message import FetchCertificates
from lockstep.wire.vote import Notarize, Nullify
from tests.support.consensus_bench import GENESIS, Bench, broadcasts, chain_of, of_type


def test_the_leaders_proposal_leaves_only_when_its_vote_is_durable() -> None:
    """The trap: a vote sent before it is durable."""
    bench = Bench(1)
    bench.start()
    header = bench.header(1)
    (persist,) = bench.step(on.BlockBuilt(header))
    vote = bench.notarize(1, header)
    resume = on.Resume(on.VoteArrived(1, vote))
    assert persist == on.Persist(vote, (on.Propose(header, vote.signature), resume))


def test_no_vote_of_any_kind_leaves_before_it_is_durable() -> None:
    """The trap, for the other votes: everything that carries the vote is in its `Persist`, and nothing is said again
    by a timer while the disk is slow."""
    bench = Bench(0)
    bench.start()
    header = bench.header(1)
    bench.propose(header)
    effects = bench.step(on.BlockChecked(header.digest, True))
    bench.step(on.VoteArrived(1, bench.notarize(1, header)))
    bench.step(on.VoteArrived(2, bench.notarize(2, header)))
    assert bench.engine.view == 1, "the own vote does not count before it is durable"
    effects += bench.step(on.VoteArrived(3, bench.notarize(3, header)))
    effects += bench.step(on.BlockExecuted(header, b"s" * 32, b"e" * 32))
    bench.step(on.CertificateArrived(3, bench.nullification(2)))
    for _ in range(20):
        bench.now = bench.engine.deadline() or bench.now
        effects += bench.step(on.Tick())
    durable = [e for e in effects if isinstance(e, on.Persist) and e.then]
    assert [type(e.record).__name__ for e in durable] == ["Notarize", "Finalize", "Nullify"]
    for persist in durable:
        assert persist.then[0] == on.Broadcast(persist.record)
    own = [v for kind in (Notarize, Nullify) for v in broadcasts(effects, kind) if v.signer == 0]
    assert own == []


def test_a_block_that_comes_after_the_view_is_over_is_not_proposed() -> None:
    bench = Bench(1)
    bench.start()
    bench.certificate(bench.nullification(1))
    assert bench.do(on.BlockBuilt(bench.header(1))) == []


def test_a_leader_that_gave_up_does_not_propose() -> None:
    bench = Bench(1)
    bench.start()
    bench.wait(2.1)
    assert bench.do(on.BlockBuilt(bench.header(1))) == []


def test_a_built_block_that_was_not_asked_for_stops_the_node() -> None:
    bench = Bench(1)
    bench.start()
    with pytest.raises(InvariantBroken):
        bench.do(on.BlockBuilt(bench.header(1, parent=bench.header(0, salt=9))))


def test_a_proposal_on_the_final_block_is_checked_then_notarized() -> None:
    bench = Bench(0)
    bench.start()
    header = bench.header(1)
    assert bench.propose(header) == [on.Check(header)]
    effects = bench.checked(header)
    assert broadcasts(effects, Notarize) == [bench.notarize(0, header)]
    assert bench.checked(header) == [], "once"


def test_an_answer_to_a_check_may_come_too_late() -> None:
    bench = Bench(0)
    bench.start()
    header = bench.header(1)
    bench.propose(header)
    bench.wait(3.1)
    assert bench.checked(header) == [], "given up"
    bench.certificate(bench.nullification(1))
    assert bench.checked(header) == [], "the view is over"


def test_a_proposal_waits_for_its_parents_notarization_and_is_asked_from_its_leader() -> None:
    bench = Bench(0)
    bench.start()
    first, third = bench.header(1), bench.header(3, bench.header(1))
    bench.certificate(bench.nullification(2))
    effects = bench.propose(third)
    assert effects == [on.SendTo(3, FetchCertificates(1, 2))]
    effects = bench.certificate(bench.notarization(first))
    assert of_type(effects, on.Check) == [on.Check(third)]


def test_a_proposal_waits_for_the_nullifications_in_between() -> None:
    bench = Bench(0)
    bench.start()
    first = bench.header(1)
    bench.certificate(bench.notarization(first))
    bench.certificate(bench.nullification(4))
    fifth = bench.header(5, first)
    assert bench.propose(fifth) == [on.SendTo(1, FetchCertificates(2, 4))]
    assert of_type(bench.certificate(bench.nullification(3)), on.Check) == []
    assert of_type(bench.certificate(bench.nullification(2)), on.Check) == [on.Check(fifth)]


def test_a_notarized_view_that_is_also_nullified_may_be_built_over() -> None:
    """Both certificates of one view can exist. A leader may hold one and a voter the other, so both are kept."""
    bench = Bench(0)
    bench.start()
    first, second = chain_of(bench, (1, 2))
    bench.certificate(bench.notarization(first))
    bench.certificate(bench.notarization(second))
    third = bench.header(3, first)
    assert of_type(bench.propose(third), on.Check) == []
    assert of_type(bench.certificate(bench.nullification(2)), on.Check) == [on.Check(third)]


def test_proposals_of_the_next_views_are_kept_and_those_beyond_are_not() -> None:
    bench = Bench(0)
    bench.start()
    near, far = bench.header(2), bench.header(2 + PROPOSALS_AHEAD_MAX)
    assert bench.propose(near) == bench.propose(far) == []
    effects = bench.certificate(bench.nullification(1))
    assert of_type(effects, on.Check) == [on.Check(near)]
    assert broadcasts(bench.wait(2.5), Nullify) == [], "a kept proposal cancels t_l"
    effects = bench.certificate(bench.nullification(far.view - 1))
    assert of_type(effects, on.SendTo) == []
    assert of_type(bench.propose(far), on.SendTo) != [], "only now it is looked at, and the gap is fetched"


@pytest.mark.parametrize(
    "wrong",
    [
        replace(Bench().header(1), proposer=2),
        replace(Bench().header(1), chain_id=bytes(32)),
        replace(Bench().header(1), parent_view=1),
    ],
    ids=["not the leader", "another chain", "parent of its own view"],
)
def test_a_proposal_that_no_leader_makes_blames_its_sender(wrong: Header) -> None:
    bench = Bench(0)
    bench.start()
    effects = bench.do(on.ProposalArrived(3, wrong, bench.notarize(1, wrong).signature))
    assert [e.peer for e in of_type(effects, on.Misbehaved)] == [3]
    assert of_type(effects, on.Check) == []


def test_a_proposal_with_a_forged_signature_blames_its_sender_and_does_not_cancel_t_l() -> None:
    bench = Bench(0)
    bench.start()
    effects = bench.do(on.ProposalArrived(3, bench.header(1), bytes(64)))
    assert [e.peer for e in of_type(effects, on.Misbehaved)] == [3]
    assert len(broadcasts(bench.wait(2.1), Nullify)) == 1


def test_a_proposal_that_contradicts_a_notarization_or_the_final_block_blames_its_leader() -> None:
    for wrong_parent in (GENESIS, None):
        bench = Bench(0)
        bench.start()
        first = bench.header(1)
        bench.certificate(bench.notarization(first))
        if wrong_parent is None:
            bench.certificate(bench.finalization(first))
        effects = bench.propose(bench.header(2, bench.header(1, salt=5)))
        assert [e.peer for e in of_type(effects, on.Misbehaved)] == [2]
        assert of_type(effects, on.Check) == []
        assert len(broadcasts(effects, Nullify)) == 1, "nothing is to be hoped from this view"


def test_a_proposal_below_the_final_height_blames_its_leader() -> None:
    bench = Bench(0)
    bench.start()
    first, second = chain_of(bench, (1, 2))
    bench.certificate(bench.finalization(second))
    effects = bench.propose(bench.header(3, first))
    assert [e.peer for e in of_type(effects, on.Misbehaved)] == [3]
    bench.certificate(bench.nullification(3))
    bench.certificate(bench.nullification(4))
    low = replace(bench.header(5, second), height=second.height)
    assert [e.peer for e in of_type(bench.propose(low), on.Misbehaved)] == [1]


def test_an_invalid_block_is_given_up_at_once_while_finality_keeps_up() -> None:
    bench = Bench(0)
    bench.start()
    header = bench.header(1)
    bench.propose(header)
    assert broadcasts(bench.checked(header, valid=False), Nullify) == [bench.nullify(0, 1)]


def test_invalid_blocks_do_not_make_views_race_when_finality_is_stalled() -> None:
    bench = Bench(0)
    bench.start()
    for view in range(1, 17):
        bench.certificate(bench.nullification(view))
    header = bench.header(17)
    bench.propose(header)
    assert bench.checked(header, valid=False) == []
    assert len(broadcasts(bench.wait(6.1), Nullify)) == 1, "at t_a, twice as late as usual"


def test_the_proposal_counts_as_its_leaders_vote() -> None:
    bench = Bench(0)
    bench.start()
    header = bench.header(1)
    bench.votes([bench.notarize(2, header), bench.notarize(3, header)])
    effects = bench.propose(header)
    assert bench.engine.view == 2
    assert of_type(effects, on.Notarized) == [on.Notarized(bench.notarization(header))]


def test_an_own_proposal_that_is_echoed_changes_nothing() -> None:
    bench = Bench(1)
    bench.start()
    header = bench.header(1)
    assert bench.propose(header, sender=3) == []


def test_two_proposals_of_one_view_are_evidence_and_the_first_one_is_voted_for() -> None:
    bench = Bench(0)
    bench.start()
    one, other = bench.header(1, salt=1), bench.header(1, salt=2)
    assert bench.propose(one) == [on.Check(one)]
    (accuse,) = of_type(bench.propose(other), on.Accuse)
    assert (accuse.evidence.signer, accuse.evidence.view) == (1, 1)
    assert broadcasts(bench.checked(one), Notarize) == [bench.notarize(0, one)]
    assert bench.checked(other) == []
