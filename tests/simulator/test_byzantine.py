"""Each behaviour does what it is named for, and what it forges is signed as only its node could."""

from dataclasses import dataclass, field
from random import Random

import pytest

from lockstep.base.digest import digest
from lockstep.base.errors import Refused
from lockstep.base.keys import PrivateKey
from lockstep.simulator.byzantine import BEHAVIOURS, forging
from lockstep.simulator.byzantine.equivocate import HEADERS_HELD_MAX
from lockstep.simulator.byzantine.noise import MEMORY
from lockstep.simulator.byzantine.propose import HELD_MAX
from lockstep.wire.block import Header, Payload, decode_block, decode_header, genesis_header
from lockstep.wire.certificate import Finalization, Notarization, Nullification, verify_certificate
from lockstep.wire.evidence import conflict
from lockstep.wire.genesis import Genesis
from lockstep.wire.message import (
    BlockBody,
    BundleBody,
    Bundles,
    Certificates,
    Chain,
    ChainBlock,
    PeerMessage,
    Ping,
    Proposal,
    decode_message,
    encode_message,
)
from lockstep.wire.validators import validator_set
from lockstep.wire.vote import Finalize, Notarize, Nullify, sign_finalize, sign_notarize, verify_vote
from tests.support.small_network import small_genesis, validator_key

GENESIS = small_genesis()
VALIDATORS = validator_set(GENESIS)
CHAIN_ID = GENESIS.chain_id
ME = 1


@dataclass
class Fake:
    """An actor without a replica."""

    index: int = ME
    key: PrivateKey = field(default_factory=lambda: validator_key(ME))
    genesis: Genesis = GENESIS
    random: Random = field(default_factory=lambda: Random(7))
    now_us: int = 1_000_000


def proposal(view: int = 1, bundles: int = 2) -> Proposal:
    payload = Payload(b"".join(bytes([n]) * 32 for n in range(bundles)), (), ())
    root = genesis_header(CHAIN_ID, GENESIS.time_ms)
    header = Header(
        CHAIN_ID, 1, view, 0, GENESIS.time_ms + view, view % 4, bundles, bundles, root.digest, digest(payload.encode())
    )
    signer = view % 4
    vote = sign_notarize(validator_key(signer), CHAIN_ID, signer, view, header.digest)
    return Proposal(header.encode(), payload.encode(), vote.signature, view, 0)


def proposed(message: object) -> Notarize:
    """The notarize vote inside a proposal, verified."""
    assert isinstance(message, Proposal)
    header = decode_header(message.header)
    vote = Notarize(header.view, header.digest, ME, message.signature)
    verify_vote(vote, VALIDATORS)
    return vote


def finalize(view: int = 1) -> Finalize:
    return sign_finalize(validator_key(ME), CHAIN_ID, ME, view, 1, b"b" * 32, b"s" * 32, b"e" * 32)


MESSAGES: list[PeerMessage] = [
    proposal(),
    sign_notarize(validator_key(ME), CHAIN_ID, ME, 1, b"b" * 32),
    finalize(),
    forging.nullify(validator_key(ME), CHAIN_ID, ME, 2),
    Ping(1, 5, 5),
    BundleBody(bytes(168)),
    Bundles((bytes(168), bytes(168))),
    BlockBody(genesis_header(CHAIN_ID, 0).encode(), b"x"),
    Chain((ChainBlock(b"h", b"p", ()), ChainBlock(b"i", b"q", ())), None),
    Certificates((Nullification(3, b"\x07", bytes(192)),)),
]


@pytest.mark.parametrize("name", list(BEHAVIOURS))
def test_every_behaviour_is_deterministic_and_takes_every_message(name: str) -> None:
    def act() -> list[object]:
        node, behaviour = Fake(), BEHAVIOURS[name]()
        done: list[object] = []
        for message in MESSAGES * 3:
            for peer in (0, 2, 3):
                behaviour.incoming(node, peer, message)
                done += behaviour.outgoing(node, peer, message)
        done += behaviour.tick(node, 1_000_000) + behaviour.tick(node, 9_000_000)
        return done

    first = act()
    assert first == act()
    honest = [message for message in MESSAGES * 3 for _ in range(3)]
    assert first != honest, "a behaviour that changes nothing is none"


def test_equivocate_tells_each_half_another_block() -> None:
    node, behaviour = Fake(), BEHAVIOURS["equivocate"]()
    (even,), (odd,) = behaviour.outgoing(node, 2, proposal()), behaviour.outgoing(node, 3, proposal())
    assert conflict(proposed(even), proposed(odd))
    assert isinstance(odd, Proposal) and decode_block(odd.header, odd.payload).header.bundles == 0
    empty = behaviour.outgoing(node, 3, proposal(bundles=0))[0]
    assert conflict(proposed(empty), proposed(proposal(bundles=0)))


def test_equivocate_votes_for_every_block_that_it_heard_of() -> None:
    node, behaviour = Fake(), BEHAVIOURS["equivocate"]()
    behaviour.incoming(node, 2, proposal(2))
    own = sign_notarize(node.key, CHAIN_ID, ME, 2, b"b" * 32)
    said, rival = behaviour.outgoing(node, 0, own)
    assert said == own and isinstance(rival, Notarize) and conflict(own, rival)
    verify_vote(rival, VALIDATORS)
    nullify, notarize = behaviour.outgoing(node, 0, forging.nullify(node.key, CHAIN_ID, ME, 2))
    assert isinstance(nullify, Nullify) and isinstance(notarize, Notarize)
    for view in range(3, 3 * HEADERS_HELD_MAX):
        behaviour.incoming(node, 2, proposal(view))
    assert behaviour.outgoing(node, 0, own) == [own], "it does not remember for ever"


def test_equivocate_finalizes_with_two_roots_and_nullifies_too() -> None:
    node, behaviour = Fake(), BEHAVIOURS["equivocate"]()
    (lie, nullify), (truth, _) = (behaviour.outgoing(node, peer, finalize()) for peer in (0, 3))
    assert isinstance(lie, Finalize) and isinstance(truth, Finalize) and isinstance(nullify, Nullify)
    assert conflict(lie, truth) and conflict(truth, nullify)
    for vote in (lie, truth, nullify):
        verify_vote(vote, VALIDATORS)


def test_withholders() -> None:
    node = Fake()
    votes, bodies = BEHAVIOURS["withhold-votes"](), BEHAVIOURS["withhold-bodies"]()
    sent = sum(len(votes.outgoing(node, 0, finalize())) for _ in range(100))
    assert 20 < sent < 60
    assert votes.outgoing(node, 0, Certificates(())) == [] and votes.outgoing(node, 0, Ping(1, 2, 3))
    assert [bodies.outgoing(node, 0, m) for m in MESSAGES[5:9]] == [[], [], [], []]
    assert bodies.outgoing(node, 0, finalize()) == [finalize()]


def test_invalid_blocks_differ_but_are_rightly_signed_and_the_same_for_all() -> None:
    node, behaviour = Fake(), BEHAVIOURS["invalid-blocks"]()
    faults = 0
    for view in range(1, 200, 4):
        honest = proposal(view)
        (to_one,), (to_other,) = (behaviour.outgoing(node, peer, honest) for peer in (0, 2))
        assert to_one == to_other != honest
        assert isinstance(to_one, Proposal)
        if to_one.header != honest.header:
            proposed(to_one)
            faults += 1
        else:
            with pytest.raises(Refused):
                decode_block(to_one.header, to_one.payload)
    assert faults > 30


def test_late_blocks_come_late() -> None:
    node, behaviour = Fake(), BEHAVIOURS["late-blocks"]()
    assert behaviour.outgoing(node, 0, proposal()) == []
    later = node.now_us + 4_000 * GENESIS.parameters.delta_ms
    assert behaviour.tick(node, later) == [(0, proposal())]
    assert behaviour.tick(node, later) == []
    for _ in range(2 * HELD_MAX):
        behaviour.outgoing(node, 0, proposal())
    assert len(behaviour.tick(node, later)) == HELD_MAX


def test_lies_are_refused_by_who_checks() -> None:
    node, behaviour = Fake(), BEHAVIOURS["lie"]()
    claims = set()
    for _ in range(50):
        ping, certificate = behaviour.outgoing(node, 0, Ping(1, 5, 5))
        assert isinstance(ping, Ping) and isinstance(certificate, Notarization | Nullification | Finalization)
        decode_message(encode_message(ping))
        claims.add((ping.view, ping.final_height))
        with pytest.raises(Refused, match="not a quorum"):
            verify_certificate(certificate, VALIDATORS)
    assert len(claims) > 10
    for message in MESSAGES[6:10]:
        assert behaviour.outgoing(node, 0, message) != [message]


def test_impersonation_is_found_out_by_signatures_only() -> None:
    node, behaviour = Fake(), BEHAVIOURS["impersonate"]()
    said = [message for _ in range(20) for message in behaviour.outgoing(node, 0, finalize())]
    votes = [message for message in said if isinstance(message, Finalize)]
    assert {vote.signer for vote in votes} == {ME, 2, 3}, "not the one that it speaks to"
    for vote in votes:
        if vote.signer != ME:
            with pytest.raises(Refused, match="bad-signature"):
                verify_vote(vote, VALIDATORS)
    certificates = [message for message in said if isinstance(message, Nullification | Finalization)]
    assert {type(certificate) for certificate in certificates} == {Nullification, Finalization}
    for certificate in certificates:
        with pytest.raises(Refused, match="signature in the certificate is not valid"):
            verify_certificate(certificate, VALIDATORS)


def test_garbage_is_bytes_now_and_then() -> None:
    node, behaviour = Fake(), BEHAVIOURS["garbage"]()
    sent = [behaviour.outgoing(node, 0, finalize())[0] for _ in range(200)]
    raw = [leaving for leaving in sent if isinstance(leaving, bytes)]
    assert 20 < len(raw) < 90 and encode_message(finalize()) not in raw


def test_replay_repeats_what_was_and_forgets() -> None:
    node, behaviour = Fake(), BEHAVIOURS["replay"]()
    assert behaviour.tick(node, 0) == []
    behaviour.incoming(node, 2, finalize(9))
    assert {message.view for _, message in behaviour.tick(node, 0)} == {9}  # type: ignore[union-attr]
    for view in range(10, 10 + 9 * MEMORY):
        behaviour.outgoing(node, 0, Ping(0, view, 0))
    repeated = [behaviour.tick(node, 0) for _ in range(50)]
    assert all(peer != ME for burst in repeated for peer, _ in burst)


def test_spam_is_well_formed_mostly() -> None:
    node, behaviour = Fake(), BEHAVIOURS["spam"]()
    burst = [message for _ in range(20) for _, message in behaviour.tick(node, 5)]
    for message in burst:
        assert not isinstance(message, bytes)
        decode_message(encode_message(message))
    assert len({type(message) for message in burst}) == 7


def test_mutations_are_signed_again() -> None:
    node, behaviour = Fake(), BEHAVIOURS["mutate"]()
    changed = 0
    for _ in range(60):
        (vote,) = behaviour.outgoing(node, 0, finalize(5))
        assert isinstance(vote, Finalize)
        changed += vote != finalize(5)
        verify_vote(vote, VALIDATORS)
        (block,) = behaviour.outgoing(node, 0, proposal(5))
        assert isinstance(block, Proposal)
    assert changed > 10
    assert behaviour.outgoing(node, 0, MESSAGES[5]) == [MESSAGES[5]]
