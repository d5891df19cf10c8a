"""Votes, certificates and evidence: what proves itself, and what doesn't. With real signatures."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.base.errors import Reason, Refused
from lockstep.wire.certificate import (
    Notarization,
    Nullification,
    finalization,
    notarization,
    nullification,
    signer_list,
    verify_certificate,
)
from lockstep.wire.codec import encode
from lockstep.wire.evidence import Evidence, conflict, decode_evidence, make_evidence
from lockstep.wire.validators import ValidatorSet
from lockstep.wire.vote import Vote, sign_finalize, sign_notarize, sign_nullify, verify_vote
from tests.support.consensus_keys import CHAIN, real_keys, validators_of

KEYS = real_keys(7)
VALIDATORS = validators_of(KEYS)
BLOCK, OTHER, ROOT = b"b" * 32, b"o" * 32, b"r" * 32


def votes_of(signer: int, view: int = 5) -> list[Vote]:
    """Votes in one view, no two of them equal."""
    key = KEYS[signer]
    return [
        sign_notarize(key, CHAIN, signer, view, BLOCK),
        sign_notarize(key, CHAIN, signer, view, OTHER),
        sign_nullify(key, CHAIN, signer, view),
        sign_finalize(key, CHAIN, signer, view, 3, BLOCK, ROOT, ROOT),
        sign_finalize(key, CHAIN, signer, view, 3, BLOCK, OTHER, ROOT),
        sign_finalize(key, CHAIN, signer, view, 4, BLOCK, ROOT, ROOT),
    ]


def test_votes_are_valid_for_their_signer_their_chain_and_their_content_only() -> None:
    other_chain = replace(VALIDATORS, chain_id=bytes(32))
    for vote in votes_of(2):
        verify_vote(vote, VALIDATORS)
        for wrong in (
            msgspec.structs.replace(vote, signer=3),
            msgspec.structs.replace(vote, view=6),
            msgspec.structs.replace(vote, signature=bytes(64)),
        ):
            with pytest.raises(Refused) as refused:
                verify_vote(wrong, VALIDATORS)
            assert refused.value.reason is Reason.BAD_SIGNATURE
        with pytest.raises(Refused):
            verify_vote(vote, other_chain)
        with pytest.raises(Refused) as refused:
            verify_vote(msgspec.structs.replace(vote, signer=7), VALIDATORS)
        assert refused.value.reason is Reason.STRANGER
        with pytest.raises(Refused):
            verify_vote(msgspec.structs.replace(vote, signer=-1), VALIDATORS)


def test_no_two_kinds_of_votes_sign_the_same_bytes() -> None:
    messages = [vote.message(CHAIN) for vote in votes_of(0)]
    assert len(set(messages)) == len(messages)


@given(st.sets(st.integers(0, 6)))
def test_a_certificate_is_valid_exactly_when_its_signers_are_a_quorum(signers: set[int]) -> None:
    if not signers:
        return
    chosen = sorted(signers, reverse=True)
    certificates = [
        notarization([sign_notarize(KEYS[i], CHAIN, i, 5, BLOCK) for i in chosen], 7),
        nullification([sign_nullify(KEYS[i], CHAIN, i, 5) for i in chosen], 7),
        finalization([sign_finalize(KEYS[i], CHAIN, i, 5, 3, BLOCK, ROOT, OTHER) for i in chosen], 7),
    ]
    for certificate in certificates:
        if len(signers) >= 5:
            assert verify_certificate(certificate, VALIDATORS) == sorted(signers)
        else:
            with pytest.raises(Refused, match="not a quorum"):
                verify_certificate(certificate, VALIDATORS)


def good() -> Notarization:
    return notarization([sign_notarize(KEYS[i], CHAIN, i, 5, BLOCK) for i in range(5)], 7)


@pytest.mark.parametrize(
    "change",
    [
        {"signers": b"\x3f"},
        {"signers": b"\x5f"},
        {"signers": b"\x9f"},
        {"signers": b"\x1f\0"},
        {"signers": b""},
        {"signatures": good().signatures[:-1]},
        {"signatures": good().signatures + bytes(64)},
        {"signatures": good().signatures[64:] + good().signatures[:64]},
        {"block": OTHER},
        {"block": b""},
        {"view": 6},
        {"signatures": bytes(200 * 64)},
        {"signers": bytes(17)},
    ],
)
def test_a_tampered_certificate_is_refused(change: dict[str, object]) -> None:
    verify_certificate(good(), VALIDATORS)
    with pytest.raises(Refused):
        verify_certificate(msgspec.structs.replace(good(), **change), VALIDATORS)


def test_known_signatures_are_compared_not_verified_and_only_those() -> None:
    certificate = nullification([sign_nullify(KEYS[i], CHAIN, i, 5) for i in range(5)], 7)
    forged = Nullification(5, certificate.signers, bytes(64) + certificate.signatures[64:])
    with pytest.raises(Refused):
        verify_certificate(forged, VALIDATORS, {0: certificate.signatures[:64]})
    assert verify_certificate(certificate, VALIDATORS, {0: bytes(64)}) == [0, 1, 2, 3, 4]
    assert verify_certificate(forged, VALIDATORS, {0: bytes(64)}) == [0, 1, 2, 3, 4], "the caller vouches for these"


@given(st.binary(max_size=4), st.integers(1, 30))
def test_signer_lists_are_canonical(bitmap: bytes, validators: int) -> None:
    try:
        signers = signer_list(bitmap, validators)
    except Refused:
        return
    assert len(bitmap) == (validators + 7) // 8
    assert sum(1 << signer for signer in signers).to_bytes(len(bitmap), "little") == bitmap
    assert all(signer < validators for signer in signers)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=12), st.data())
def test_two_quorums_share_more_than_a_third(stakes: list[int], data: st.DataObject) -> None:
    validators = ValidatorSet(CHAIN, (bytes(32),) * len(stakes), tuple(stakes))
    indices = st.sets(st.integers(0, len(stakes) - 1))
    one, other = data.draw(indices), data.draw(indices)
    if validators.is_quorum(validators.stake_of(one)) and validators.is_quorum(validators.stake_of(other)):
        assert 3 * validators.stake_of(one & other) > validators.total
    assert validators.is_quorum(validators.total)
    stake = validators.stake_of(one)
    assert validators.blocks_quorum(stake) == (not validators.is_quorum(validators.total - stake))


def test_which_pairs_of_votes_contradict_each_other() -> None:
    names = ["notarize b", "notarize o", "nullify", "final r", "final o", "final height"]
    votes = votes_of(1)
    found = {
        (names[i], names[j])
        for i, one in enumerate(votes)
        for j, other in enumerate(votes)
        if i < j and conflict(one, other)
    }
    assert found == {
        ("notarize b", "notarize o"), ("nullify", "final r"), ("nullify", "final o"), ("nullify", "final height"),
        ("final r", "final o"), ("final r", "final height"), ("final o", "final height"),
    }  # fmt: skip
    assert not any(conflict(one, other) for one in votes for other in (*votes_of(2), *votes_of(1, view=6)))
    assert not any(conflict(vote, vote) for vote in votes)


@given(st.integers(0, 5), st.integers(0, 5))
def test_evidence_is_accepted_exactly_for_conflicts_in_one_order(i: int, j: int) -> None:
    one, other = votes_of(3)[i], votes_of(3)[j]
    evidence = make_evidence(one, other)
    assert evidence == make_evidence(other, one)
    swapped = Evidence(evidence.second, evidence.first)
    if conflict(one, other):
        assert decode_evidence(evidence.encode(), VALIDATORS) == evidence
        with pytest.raises(Refused):
            decode_evidence(encode(swapped), VALIDATORS)
    else:
        with pytest.raises(Refused):
            decode_evidence(evidence.encode(), VALIDATORS)


@pytest.mark.parametrize("change", [{"block": bytes(31)}, {"view": 1 << 63}, {"signature": bytes(63)}])
def test_votes_in_evidence_are_bounded(change: dict[str, object]) -> None:
    pair = [msgspec.structs.replace(vote, **change) for vote in votes_of(2)[:2]]
    with pytest.raises(Refused) as refused:
        decode_evidence(make_evidence(*pair).encode(), VALIDATORS)
    assert refused.value.reason is Reason.MALFORMED


def test_forged_evidence_is_refused() -> None:
    one, other = votes_of(3)[:2]
    forged = make_evidence(one, msgspec.structs.replace(other, signature=bytes(64)))
    with pytest.raises(Refused):
        decode_evidence(forged.encode(), VALIDATORS)
    with pytest.raises(Refused, match="1024"):
        decode_evidence(bytes(1025), VALIDATORS)
