"""The end of an epoch: nothing is built on its last block, which is proposed again until it is final; and the next
epoch's engine begins on it."""

from dataclasses import replace

from lockstep.base.digest import digest
from lockstep.consensus import interface as on
from lockstep.consensus.simplex import Simplex, SimplexConfig
from lockstep.wire.block import Header
from lockstep.wire.certificate import Finalization, Notarization, finalization, notarization
from lockstep.wire.validators import ValidatorSet, first_view
from lockstep.wire.vote import Finalize, Notarize, Nullify, sign_finalize, sign_notarize
from tests.support.consensus_bench import DELTA_US, GENESIS, ROOTS, Bench, broadcasts, of_type
from tests.support.consensus_keys import CHAIN

NEXT = first_view(1)


def last_of(header: Header) -> Header:
    """The same block, as the last of its epoch."""
    return replace(header, next_validators=digest(b"another set"))


def again(header: Header, view: int, signers: tuple[int, ...] = (1, 2, 3)) -> Notarization:
    keys = Bench().keys
    return notarization([sign_notarize(keys[i], CHAIN, i, view, header.digest) for i in signers], 4)


def final_again(header: Header, view: int, signers: tuple[int, ...] = (1, 2, 3)) -> Finalization:
    keys = Bench().keys
    votes = [sign_finalize(keys[i], CHAIN, i, view, header.height, header.digest, *ROOTS) for i in signers]
    return finalization(votes, 4)


def propose_again(bench: Bench, header: Header, view: int, parent_view: int) -> list[on.Effect]:
    leader = view % 4
    signature = sign_notarize(bench.keys[leader], CHAIN, leader, view, header.digest).signature
    return bench.do(on.ProposalArrived(leader, header, signature, on.Again(view, parent_view)))


def test_a_leader_proposes_the_last_block_again() -> None:
    bench = Bench(2)
    bench.start()
    last = last_of(bench.header(1))
    (build,) = of_type(bench.certificate(bench.notarization(last)), on.Build)
    assert (build.view, build.parent, build.parent_view) == (2, last.digest, 1)
    effects = bench.do(on.BlockBuilt(last))
    (proposal,) = of_type(effects, on.Propose)
    assert (proposal.header, proposal.again) == (last, on.Again(2, 1))
    own = bench.engine._own.of(2)
    assert [(vote.view, vote.block) for vote in own if isinstance(vote, Notarize)] == [(2, last.digest)]


def test_it_is_voted_for_again_when_it_was_notarized_and_what_lies_between_is_nullified() -> None:
    bench = Bench(0)
    bench.start()
    last = last_of(bench.header(1))
    bench.certificate(bench.notarization(last))
    bench.nullify_view(2)
    assert bench.engine.view == 3
    (check,) = of_type(propose_again(bench, last, 3, 1), on.Check)
    assert check.header == last
    (vote,) = broadcasts(bench.checked(last), Notarize)
    assert (vote.view, vote.block) == (3, last.digest)


def test_it_waits_for_the_notarization_that_it_names() -> None:
    bench = Bench(0)
    bench.start()
    last = last_of(bench.header(1))
    bench.certificate(bench.nullification(1))
    bench.nullify_view(2)
    effects = propose_again(bench, last, 3, 1)
    assert of_type(effects, on.Check) == []
    (asked,) = [e.message for e in of_type(effects, on.SendTo)]
    assert asked.from_view == 1
    assert of_type(bench.certificate(bench.notarization(last)), on.Check) == [on.Check(last)]


def test_what_may_not_be_proposed_again() -> None:
    for header, parent_view, words in (
        (Bench().header(1), 1, "does not end its epoch"),
        (last_of(Bench().header(1)), 0, "as if notarized"),
        (last_of(Bench().header(1)), 3, "on a parent of view 3"),
    ):
        bench = Bench(0)
        bench.start()
        bench.certificate(bench.notarization(header))
        bench.nullify_view(2)
        (lie,) = of_type(propose_again(bench, header, 3, parent_view), on.Misbehaved)
        assert words in lie.detail


def test_it_becomes_final_in_a_later_view_than_its_own() -> None:
    bench = Bench(0)
    bench.start()
    last = last_of(bench.header(1))
    bench.executed(last)
    bench.certificate(bench.nullification(1))
    bench.certificate(bench.notarization(last))
    bench.nullify_view(2)
    assert bench.engine.view == 3
    effects = bench.certificate(again(last, 3))
    (vote,) = broadcasts(effects, Finalize)
    assert (vote.view, vote.height, vote.block) == (3, last.height, last.digest)
    effects = bench.certificate(final_again(last, 3))
    assert [e.certificate.block for e in of_type(effects, on.Finalized)] == [last.digest]


def test_other_roots_in_a_later_view_are_seen() -> None:
    bench = Bench(0)
    bench.start()
    last = last_of(bench.header(1))
    bench.executed(last, (bytes(32), bytes(32)))
    bench.certificate(bench.nullification(1))
    bench.nullify_view(2)
    (diverged,) = of_type(bench.certificate(final_again(last, 3)), on.Diverged)
    assert diverged.fatal


def test_votes_of_the_next_epoch_are_not_looked_at() -> None:
    bench = Bench(0)
    bench.start()
    vote = sign_notarize(bench.keys[1], CHAIN, 1, NEXT + 1, bytes(32))
    assert bench.vote(vote) == []
    assert bench.certificate(again(last_of(bench.header(1)), NEXT + 1)) == []


def next_engine(
    index: int, stakes: tuple[int, ...], certificates: tuple[Finalization, ...] = ()
) -> tuple[Simplex, Header]:
    bench = Bench(index)
    last = last_of(bench.header(1))
    validators = ValidatorSet(CHAIN, bench.validators.keys, stakes)
    config = SimplexConfig(DELTA_US // 1000)
    return Simplex(validators, index, bench.keys[index], config, last, (), certificates, NEXT), last


def test_the_next_epoch_begins_on_the_last_block() -> None:
    engine, last = next_engine(3, (0, 1, 1, 1))
    effects = engine.start(0)
    assert engine.view == NEXT + 1
    assert engine._leader == 3 == (1, 2, 3)[(NEXT + 1) % 3], "those with stake take turns"
    (build,) = of_type(effects, on.Build)
    assert (build.view, build.parent, build.parent_view) == (NEXT + 1, last.digest, NEXT)


def test_a_validator_without_stake_only_follows() -> None:
    engine, _ = next_engine(0, (0, 1, 1, 1))
    said = engine.start(0)
    for _ in range(20):
        due = engine.deadline()
        assert due is not None
        said += engine.step(on.Tick(), due)
    assert not of_type(said, on.Persist), "it signs nothing"
    assert not [e for e in of_type(said, on.Broadcast) if isinstance(e.message, Notarize | Nullify | Finalize)]


def test_votes_without_stake_are_refused() -> None:
    engine, _ = next_engine(1, (0, 1, 1, 1))
    engine.start(0)
    vote = sign_notarize(Bench().keys[0], CHAIN, 0, NEXT + 1, bytes(32))
    (lie,) = of_type(engine.step(on.VoteArrived(0, vote), 0), on.Misbehaved)
    assert "no vote" in lie.detail


def test_who_is_still_in_the_epoch_before_is_shown_its_last_finalization() -> None:
    handover = final_again(last_of(Bench().header(1)), 1)
    engine, _ = next_engine(1, (1, 1, 1, 1), (handover,))
    engine.start(0)
    (answer,) = of_type(engine.step(on.CertificatesRequested(2, 2, 60), 1), on.SendTo)
    assert answer.message.certificates == (handover,)
    behind = Bench(2)
    behind.start()
    (final,) = of_type(behind.certificate(handover), on.Finalized)
    assert final.certificate == handover and GENESIS.height == 0
