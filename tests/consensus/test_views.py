"""Entering views, timers, and giving up. One test per rule of the module's text."""

from lockstep.consensus import interface as on
from lockstep.wire.certificate import Notarization, Nullification
from lockstep.wire.message import Certificates, FetchCertificates
from lockstep.wire.vote import Notarize, Nullify
from tests.support.consensus_bench import DELTA_US, GENESIS, Bench, broadcasts, chain_of, of_type


def test_the_first_view_is_the_one_after_genesis() -> None:
    bench = Bench(0)
    assert bench.start() == []
    assert bench.engine.view == 1
    assert bench.engine.deadline() == bench.now + 2 * DELTA_US


def test_a_leader_builds_on_the_final_block_when_nothing_is_notarized() -> None:
    bench = Bench(1)
    assert bench.start() == [on.Build(1, GENESIS.digest, 0, bench.now + 3 * DELTA_US // 2)]


def test_a_leader_builds_on_the_highest_notarized_block_over_nullified_views() -> None:
    bench = Bench(0)
    bench.start()
    first = bench.header(1)
    bench.certificate(bench.notarization(first))
    bench.certificate(bench.nullification(2))
    effects = bench.certificate(bench.nullification(3))
    assert bench.engine.view == 4
    assert [(b.view, b.parent, b.parent_view) for b in of_type(effects, on.Build)] == [(4, first.digest, 1)]


def test_a_leader_that_lacks_a_certificate_fetches_it_before_it_builds() -> None:
    bench = Bench(0)
    bench.start()
    effects = bench.certificate(bench.nullification(3), sender=2)
    assert of_type(effects, on.Build) == []
    fetches = of_type(effects, on.SendTo)
    assert [fetch.message for fetch in fetches] == [FetchCertificates(1, 3)]
    bench.certificate(bench.nullification(2))
    effects = bench.certificate(bench.nullification(1))
    assert [b.parent for b in of_type(effects, on.Build)] == [GENESIS.digest]


def test_a_fetch_is_repeated_to_another_peer_but_not_faster_than_four_times_a_delta() -> None:
    bench = Bench(0)
    bench.start()
    first = of_type(bench.certificate(bench.nullification(3)), on.SendTo)
    assert bench.step(on.Tick()) == []
    again = of_type(bench.wait(0.25), on.SendTo)
    assert len(first) == len(again) == 1
    assert first[0].peer != again[0].peer


def test_a_leader_broadcasts_the_certificate_that_let_it_enter_and_others_do_not() -> None:
    leader, other = Bench(2), Bench(0)
    for bench in (leader, other):
        bench.start()
        votes = [bench.notarize(signer, bench.header(1)) for signer in (1, 3, 0 if bench is leader else 2)]
        effects = bench.votes(votes)
        assert bench.engine.view == 2
        assert len(broadcasts(effects, Notarization)) == (1 if bench is leader else 0)


def test_t_l_fires_after_two_deltas_without_a_proposal() -> None:
    bench = Bench(0)
    bench.start()
    assert broadcasts(bench.wait(1.9), Nullify) == []
    assert broadcasts(bench.wait(0.2), Nullify) == [bench.nullify(0, 1)]


def test_a_proposal_cancels_t_l_and_t_a_fires_after_three_deltas() -> None:
    bench = Bench(0)
    bench.start()
    bench.propose(bench.header(1))
    assert broadcasts(bench.wait(2.9), Nullify) == []
    assert broadcasts(bench.wait(0.2), Nullify) == [bench.nullify(0, 1)]


def test_a_nullify_vote_is_cast_once_and_said_again_while_stuck() -> None:
    bench = Bench(0)
    bench.start()
    assert len(broadcasts(bench.wait(3.9), Nullify)) == 1
    effects = bench.wait(8.2)
    assert broadcasts(effects, Nullify) == [bench.nullify(0, 1)] * 3
    assert of_type(effects, on.Persist) == []


def test_a_quorum_of_nullify_votes_ends_the_view() -> None:
    bench = Bench(0, mute_through_view=1)
    bench.start()
    bench.votes([bench.nullify(1, 1), bench.nullify(2, 1)])
    assert bench.engine.view == 1
    effects = bench.vote(bench.nullify(3, 1))
    assert bench.engine.view == 2
    assert [p.record for p in of_type(effects, on.Persist)] == [bench.nullification(1)]


def test_a_view_in_which_nothing_can_be_notarized_is_given_up_at_once() -> None:
    bench = Bench(0, 7)
    bench.start()
    header = bench.header(1)
    bench.propose(header)
    bench.do(on.BlockChecked(header.digest, valid=True))
    assert [type(vote) for vote in bench.engine._own.of(1)] == [Notarize]
    bench.votes([bench.notarize(5, header), bench.nullify(5, 1), bench.nullify(2, 1), bench.nullify(3, 1)])
    assert len(bench.engine._own.of(1)) == 1, "0, 1, 4, 5 and 6 can still notarize"
    effects = bench.vote(bench.nullify(4, 1))
    assert broadcasts(effects, Nullify) == [bench.nullify(0, 1)]


def test_who_has_not_voted_does_not_wait_for_a_view_that_cannot_become_final() -> None:
    bench = Bench(0, 7)
    bench.start()
    header = bench.header(1)
    bench.votes([bench.notarize(5, header), bench.nullify(5, 1), bench.nullify(2, 1)])
    assert bench.engine._own.of(1) == []
    effects = bench.vote(bench.nullify(3, 1))
    assert broadcasts(effects, Nullify) == [bench.nullify(0, 1)]


def test_a_view_that_was_given_up_by_others_before_it_was_entered_is_given_up_too() -> None:
    bench = Bench(0)
    bench.start()
    bench.votes([bench.nullify(1, 2), bench.nullify(2, 2)])
    assert bench.engine.view == 1
    bench.certificate(bench.nullification(1, (1, 2, 3)))
    assert bench.engine.view == 3, "own vote makes the quorum"


def test_quorums_are_of_stake_not_of_heads() -> None:
    bench = Bench(0, stakes=(1, 1, 1, 6))
    bench.start()
    bench.votes([bench.nullify(1, 1), bench.nullify(2, 1)])
    assert bench.engine.view == 1
    bench.vote(bench.nullify(3, 1))
    assert bench.engine.view == 2, "8 of 9"


def test_a_certificate_of_a_later_view_is_enough_to_go_there() -> None:
    bench = Bench(0)
    bench.start()
    bench.certificate(bench.nullification(9))
    assert bench.engine.view == 10
    bench.certificate(bench.notarization(bench.header(20)))
    assert bench.engine.view == 21
    bench.certificate(bench.finalization(bench.header(30)))
    assert bench.engine.view == 31
    assert bench.engine.final_view == 30


def test_while_stuck_the_newest_certificate_of_each_kind_is_said_again() -> None:
    """The trap: 2f+1 honest validators online, yet no progress, because they hold different certificates."""
    bench = Bench(0)
    bench.start()
    first, second = chain_of(bench, (1, 2))
    for certificate in (
        bench.finalization(first), bench.notarization(second), bench.nullification(3), bench.nullification(4),
    ):  # fmt: skip
        bench.certificate(certificate)
    effects = bench.wait(4.1)
    assert broadcasts(effects, Notarization) == [bench.notarization(second)]
    assert broadcasts(effects, Nullification) == [bench.nullification(4)]
    assert [e.message for e in effects if isinstance(e, on.Broadcast)].count(bench.finalization(first)) == 1
    assert FetchCertificates(5, 68) in [e.message for e in of_type(effects, on.SendTo)]


def test_dead_leader_costs_no_waiting_once_it_was_silent_for_2n_views() -> None:
    """The trap: round-robin with a dead leader costs its timeout in each of its turns."""
    bench = Bench(0, count=4)
    bench.start()
    cast_at_entry = []
    while bench.engine.view < 30:
        view = bench.engine.view
        effects = bench.votes(bench.nullify(signer, view) for signer in (1, 2))
        cast = broadcasts(effects, Nullify)
        effects = bench.vote(bench.nullify(0, view)) if bench.engine.view == view and not cast else effects
        if bench.engine.view == view:
            effects += bench.wait(2.1)
        cast_at_entry += [v.view for v in broadcasts(effects, Nullify) if v.view == bench.engine.view == view + 1]
    assert cast_at_entry == [11, 15, 19, 23, 27], "validator 3 leads 3, 7, 11, …; silent since view 1"


def test_a_leader_that_is_not_connected_any_more_is_not_waited_for() -> None:
    bench = Bench(0)
    bench.start()
    assert broadcasts(bench.do(on.PeerGone(2)), Nullify) == [], "validator 1 leads view 1"
    effects = bench.certificate(bench.nullification(1, (0, 1, 3)))
    assert [v.view for v in broadcasts(effects, Nullify)] == [2]
    bench.certificate(bench.nullification(2, (0, 1, 3)))
    assert [v.view for v in broadcasts(bench.do(on.PeerGone(3)), Nullify)] == [], (
        "then no quorum is left: the fault is ours"
    )


def test_a_leader_that_goes_in_its_own_view_is_given_up_unless_it_has_proposed() -> None:
    for has_proposed in (False, True):
        bench = Bench(0)
        bench.start()
        if has_proposed:
            bench.propose(bench.header(1))
        effects = bench.do(on.PeerGone(1))
        assert [v.view for v in broadcasts(effects, Nullify)] == ([] if has_proposed else [1])
        bench.certificate(bench.nullification(4, (0, 2, 3)))
        bench.vote(bench.nullify(1, 4))
        assert bench.engine.view == 5
        assert broadcasts(bench.wait(1.9), Nullify) == [], "it votes again: it leads view 5, and is waited for"


def test_a_leader_is_waited_for_again_as_soon_as_it_votes() -> None:
    bench = Bench(0)
    bench.start()
    while bench.engine.view < 10:
        bench.certificate(bench.nullification(bench.engine.view, (0, 1, 2)))
        bench.votes(bench.nullify(signer, bench.engine.view) for signer in (1, 2))
    bench.vote(bench.nullify(3, 9))
    effects = bench.certificate(bench.nullification(10, (0, 1, 2)))
    assert bench.engine.view == 11
    assert broadcasts(effects, Nullify) == []


def test_a_validator_that_only_votes_in_the_past_counts_as_silent() -> None:
    bench = Bench(0)
    bench.start()
    while bench.engine.view < 18:
        bench.certificate(bench.nullification(bench.engine.view, (0, 1, 2)))
        view = bench.engine.view
        bench.votes([bench.nullify(1, view), bench.notarize(2, bench.header(view)), bench.nullify(3, 1)])
    effects = bench.certificate(bench.nullification(18, (0, 1, 2)))
    assert [v.view for v in broadcasts(effects, Nullify)] == [19], "it may be catching up: it can't lead view 19"


def test_nobody_is_skipped_when_nobody_was_heard() -> None:
    bench = Bench(0)
    bench.start()
    effects = bench.certificate(bench.nullification(50))
    assert bench.engine.view == 51
    assert bench.engine.view % 4 == 3
    assert broadcasts(effects, Nullify) == [], "the fault is more likely ours"


def test_timeouts_grow_only_after_four_rotations_without_finality_and_fall_back_with_it() -> None:
    bench = Bench(0)
    bench.start()
    bench.certificate(bench.nullification(14))
    assert bench.engine.deadline() == bench.now + 2 * DELTA_US
    bench.certificate(bench.nullification(16))
    assert bench.engine.view == 17
    assert bench.engine.deadline() == bench.now + 4 * DELTA_US
    bench.certificate(bench.nullification(1000))
    assert bench.engine.deadline() == bench.now + 32 * DELTA_US
    bench.certificate(bench.finalization(bench.header(1001)))
    assert bench.engine.deadline() == bench.now + 2 * DELTA_US


def test_an_observer_follows_and_never_votes() -> None:
    bench = Bench(None)
    effects = bench.start()
    header = bench.header(1)
    effects += bench.propose(header)
    effects += bench.wait(5)
    effects += bench.votes(bench.notarize(signer, header) for signer in (0, 2, 3))
    effects += bench.executed(header)
    effects += bench.votes(bench.finalize(signer, header) for signer in (0, 2, 3))
    assert bench.engine.view == 2
    assert len(of_type(effects, on.Notarized)) == len(of_type(effects, on.Finalized)) == 1
    assert [p for p in of_type(effects, on.Persist) if p.then] == []
    assert of_type(effects, on.Check) == of_type(effects, on.Build) == []


def test_a_peer_that_is_behind_is_helped_at_a_bounded_rate() -> None:
    bench = Bench(0)
    bench.start()
    for view in range(1, 13):
        bench.certificate(bench.nullification(view))
    helped = of_type(bench.do(on.PeerProgress(2, 3, 0)), on.SendTo)
    assert helped == [on.SendTo(2, Certificates(tuple(bench.nullification(view) for view in range(3, 13))))]
    assert bench.do(on.PeerProgress(2, 3, 0)) == []
    assert bench.do(on.PeerProgress(3, 12, 0)) == [], "hardly behind, and we moved just now"
    bench.now += DELTA_US
    assert len(of_type(bench.do(on.PeerProgress(3, 12, 0)), on.SendTo)) == 1
    bench.now += 4 * DELTA_US
    assert len(of_type(bench.do(on.PeerProgress(2, 3, 0)), on.SendTo)) == 1
    assert bench.do(on.PeerProgress(17, 3, 0)) == [], "not a validator"


def test_a_peer_that_comes_back_after_a_silence_is_told_what_it_missed() -> None:
    bench = Bench(0)
    bench.start()
    bench.certificate(bench.nullification(1))
    bench.wait(3)
    (own,) = bench.engine._own.of(2)
    assert bench.do(on.PeerProgress(1, 2, 0)) == [], "heard within a second"
    bench.now += 1_000_000
    missed = [on.SendTo(2, own), on.SendTo(2, bench.nullification(1))]
    assert bench.do(on.PeerProgress(2, 2, 0))[: len(missed)] == missed
    assert own not in [e.message for e in of_type(bench.do(on.PeerProgress(2, 2, 0)), on.SendTo)], "once is enough"
    said = bench.vote(bench.nullify(3, 2))
    assert on.SendTo(3, own) in said, "a vote is a sign of life too"


def test_an_old_nullify_vote_shows_that_its_signer_needs_help() -> None:
    bench = Bench(0)
    bench.start()
    for view in (1, 2, 3):
        bench.certificate(bench.nullification(view, (0, 1, 2)))
    effects = bench.vote(bench.nullify(3, 1))
    assert [(e.peer, len(e.message.certificates)) for e in of_type(effects, on.SendTo)] == [(3, 3)]  # type: ignore[union-attr]


def test_a_peer_that_is_ahead_is_asked() -> None:
    bench = Bench(0)
    bench.start()
    assert bench.do(on.PeerProgress(2, 3, 0)) == []
    assert bench.do(on.PeerProgress(2, 50, 0)) == [on.SendTo(2, FetchCertificates(1, 64))]
