"""Which votes count, which are looked at, and who is blamed. One test per rule."""

import pytest

from lockstep.base.keys import verify
from lockstep.consensus import interface as on
from lockstep.consensus.config import VIEWS_AHEAD_MAX
from lockstep.wire import vote as vote_module
from lockstep.wire.certificate import Finalization
from lockstep.wire.evidence import decode_evidence
from lockstep.wire.vote import Finalize, Notarize, Nullify, Vote
from tests.support.consensus_bench import ROOTS, Bench, broadcasts, chain_of, of_type
from tests.support.consensus_keys import fake_verify


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Messages of single votes that were verified."""
    seen: list[bytes] = []

    def counting(public: bytes, message: bytes, signature: bytes) -> bool:
        seen.append(message)
        return fake_verify(public, message, signature)

    monkeypatch.setattr(vote_module, "verify", counting)
    assert verify is not fake_verify
    return seen


def test_a_quorum_of_notarize_votes_makes_a_notarization_and_ends_the_view() -> None:
    bench = Bench(0)
    bench.start()
    header = bench.header(1)
    bench.votes([bench.notarize(1, header), bench.notarize(2, header)])
    effects = bench.vote(bench.notarize(3, header))
    certificate = bench.notarization(header)
    assert effects[:2] == [on.Persist(certificate), on.Notarized(certificate)]
    assert bench.engine.view == 2


def test_votes_for_different_blocks_do_not_add_up() -> None:
    bench = Bench(0)
    bench.start()
    one, other = bench.header(1, salt=1), bench.header(1, salt=2)
    bench.votes([bench.notarize(1, one), bench.notarize(2, other), bench.notarize(3, other)])
    assert bench.engine.view == 1


def test_finalize_waits_for_both_the_notarization_and_the_roots_in_either_order() -> None:
    for executed_first in (True, False):
        bench = Bench(0)
        bench.start()
        header = bench.header(1)
        arrivals = [lambda: bench.executed(header), lambda: bench.certificate(bench.notarization(header))]  # noqa: B023
        first, second = arrivals if executed_first else arrivals[::-1]
        assert broadcasts(first(), Finalize) == []
        assert broadcasts(second(), Finalize) == [bench.finalize(0, header)]
        assert bench.executed(header) == [], "executing it again changes nothing"


def test_finalize_may_come_many_views_later() -> None:
    bench = Bench(0)
    bench.start()
    headers = chain_of(bench, range(1, 7))
    for header in headers:
        bench.certificate(bench.notarization(header))
    assert bench.engine.view == 7
    effects = [effect for header in headers for effect in bench.executed(header)]
    assert broadcasts(effects, Finalize) == [bench.finalize(0, header) for header in headers]


def test_who_gave_up_on_a_view_does_not_finalize_it() -> None:
    bench = Bench(0)
    bench.start()
    header = bench.header(1)
    bench.wait(2.1)
    bench.certificate(bench.notarization(header))
    assert broadcasts(bench.executed(header), Finalize) == []


def test_a_nullified_view_is_not_finalized_however_notarized() -> None:
    bench = Bench(0)
    bench.start()
    header = bench.header(1)
    bench.certificate(bench.nullification(1))
    bench.certificate(bench.notarization(header))
    assert broadcasts(bench.executed(header), Finalize) == []


def test_a_quorum_of_finalize_votes_with_equal_roots_makes_the_block_final() -> None:
    bench = Bench(0)
    bench.start()
    header = bench.header(1)
    bench.votes([bench.finalize(1, header), bench.finalize(2, header)])
    effects = bench.vote(bench.finalize(3, header))
    assert of_type(effects, on.Finalized) == [on.Finalized(bench.finalization(header))]
    assert (bench.engine.final_view, bench.engine.certified_height, bench.engine.view) == (1, 1, 2)
    assert bench.engine.finalization == bench.finalization(header)


def test_only_the_blocks_proposer_broadcasts_its_finalization_at_once() -> None:
    for index, times in ((1, 1), (0, 0)):
        bench = Bench(index)
        bench.start()
        header = bench.header(1)
        bench.certificate(bench.notarization(header))
        signers = [signer for signer in range(4) if signer != index]
        effects = bench.votes(bench.finalize(signer, header) for signer in signers)
        assert len(broadcasts(effects, Finalization)) == times


def test_own_finalize_votes_are_said_again_until_something_is_final() -> None:
    bench = Bench(0)
    bench.start()
    header = bench.header(1)
    bench.certificate(bench.notarization(header))
    bench.executed(header)
    assert broadcasts(bench.wait(3.9), Finalize) == []
    effects = bench.wait(0.2)
    assert broadcasts(effects, Finalize) == [bench.finalize(0, header)]
    assert on.Broadcast(bench.notarization(header)) in effects
    bench.certificate(bench.finalization(header))
    assert broadcasts(bench.wait(20), Finalize) == []


# -- what is looked at ---------------------------------------------------------------------------------


def test_a_vote_that_can_decide_nothing_is_not_verified(verified: list[bytes]) -> None:
    bench = Bench(0, count=7)
    bench.start()
    header = bench.header(1)
    bench.votes(bench.notarize(signer, header) for signer in (1, 1, 2, 3, 4, 5))
    assert len(verified) == 5, "a duplicate is not"
    bench.votes([bench.notarize(6, header), bench.nullify(6, 1)])
    assert len(verified) == 5, "nor is a vote for a decided view"
    bench.votes(bench.finalize(signer, header) for signer in (1, 2, 3, 4, 5))
    bench.vote(bench.finalize(6, header))
    assert len(verified) == 10, "nor one for a final view"


def test_signatures_that_were_verified_in_votes_are_not_verified_again_in_a_certificate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lockstep.wire import certificate as certificate_module

    bench = Bench(0)
    bench.start()
    header = bench.header(1)
    bench.votes([bench.notarize(1, header), bench.notarize(2, header)])
    seen = []

    def counting(public: bytes, message: bytes, signature: bytes) -> bool:
        seen.append(public)
        return fake_verify(public, message, signature)

    monkeypatch.setattr(certificate_module, "verify", counting)
    bench.certificate(bench.notarization(header))
    assert bench.engine.view == 2
    assert seen == [bench.keys[3].public]


def test_votes_far_ahead_and_far_behind_are_dropped(verified: list[bytes]) -> None:
    bench = Bench(0)
    bench.start()
    assert bench.votes(bench.nullify(s, 2 + VIEWS_AHEAD_MAX) for s in (1, 2, 3)) == []
    assert verified == []
    bench.votes(bench.nullify(s, 1 + VIEWS_AHEAD_MAX) for s in (1, 2, 3))
    assert bench.engine.view == 2 + VIEWS_AHEAD_MAX
    verified.clear()
    assert of_type(bench.votes(bench.finalize(s, bench.header(1)) for s in (1, 2, 3)), on.Finalized) == []
    assert verified == []


def test_finalize_votes_for_a_notarized_block_are_never_too_old() -> None:
    bench = Bench(0)
    bench.start()
    header = bench.header(1)
    bench.certificate(bench.notarization(header))
    bench.certificate(bench.nullification(500))
    effects = bench.votes(bench.finalize(signer, header) for signer in (1, 2, 3))
    assert len(of_type(effects, on.Finalized)) == 1


# -- blame ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "vote",
    [Notarize(1, bytes(32), 2, bytes(64)), Nullify(1, 2, bytes(64)), Nullify(1, 4, bytes(64)), Nullify(1, 2, b"")],
    ids=["forged notarize", "forged nullify", "stranger", "malformed"],
)
def test_who_sends_an_invalid_vote_is_blamed_whoever_it_names(vote: Vote) -> None:
    bench = Bench(0)
    bench.start()
    assert [e.peer for e in of_type(bench.vote(vote, sender=3), on.Misbehaved)] == [3]


def test_a_relayed_valid_vote_counts_and_nobody_is_blamed() -> None:
    bench = Bench(0)
    bench.start()
    for signer in (1, 2, 3):
        assert of_type(bench.vote(bench.nullify(signer, 1), sender=3), on.Misbehaved) == []
    assert bench.engine.view == 2


def test_an_own_vote_that_comes_from_a_peer_does_not_count() -> None:
    bench = Bench(0, mute_through_view=1)
    bench.start()
    bench.votes([bench.nullify(1, 1), bench.nullify(2, 1)])
    bench.vote(bench.nullify(0, 1), sender=3)
    assert bench.engine.view == 1


@pytest.mark.parametrize("kind", ["notarize", "finalize roots", "nullify then finalize", "finalize then nullify"])
def test_equivocation_is_evidence_once_for_each_signer_and_view(kind: str) -> None:
    bench = Bench(0)
    bench.start()
    one, other = bench.header(1, salt=1), bench.header(1, salt=2)
    votes: list[Vote] = {
        "notarize": [bench.notarize(2, one), bench.notarize(2, other), bench.notarize(2, bench.header(1, salt=3))],
        "finalize roots": [bench.finalize(2, one), bench.finalize(2, one, ROOTS[::-1]), bench.finalize(2, other)],
        "nullify then finalize": [bench.nullify(2, 1), bench.finalize(2, one), bench.finalize(2, other)],
        "finalize then nullify": [bench.finalize(2, one), bench.nullify(2, 1), bench.nullify(2, 1)],
    }[kind]  # type: ignore[assignment]
    accusations = of_type(bench.votes(votes), on.Accuse)
    assert len(accusations) == 1
    evidence = decode_evidence(accusations[0].evidence.encode(), bench.validators)
    assert (evidence.signer, evidence.view) == (2, 1)


def test_an_equivocation_in_a_decided_view_is_still_seen() -> None:
    bench = Bench(0)
    bench.start()
    header = bench.header(1)
    bench.votes(bench.notarize(signer, header) for signer in (1, 2, 3))
    effects = bench.vote(bench.notarize(3, bench.header(1, salt=7)))
    assert len(of_type(effects, on.Accuse)) == 1


def test_a_forged_contradiction_accuses_nobody_but_its_sender() -> None:
    bench = Bench(0)
    bench.start()
    bench.vote(bench.notarize(2, bench.header(1)))
    forged = Notarize(1, bytes(32), 2, bytes(64))
    effects = bench.vote(forged, sender=3)
    assert of_type(effects, on.Accuse) == []
    assert [e.peer for e in of_type(effects, on.Misbehaved)] == [3]


def test_notarize_and_nullify_in_one_view_is_no_equivocation() -> None:
    bench = Bench(0)
    bench.start()
    effects = bench.votes([bench.notarize(2, bench.header(1)), bench.nullify(2, 1)])
    assert of_type(effects, on.Accuse) == []
