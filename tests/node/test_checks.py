"""Each way in which a block can be invalid has its own refusal."""

from dataclasses import replace

import numpy as np
import pytest

from lockstep.base.digest import digest
from lockstep.base.errors import Reason, Refused
from lockstep.node.checks import check_bundles, check_clock, check_evidence, check_header, check_observations
from lockstep.node.directory import Directory
from lockstep.node.tree import Tree
from lockstep.wire.block import Block, Header, Payload, genesis_header
from lockstep.wire.bundle import Bundle, seal_bundle
from lockstep.wire.command import COMMAND
from lockstep.wire.evidence import make_evidence
from lockstep.wire.observation import seal_observation
from lockstep.wire.roster import genesis_roster
from lockstep.wire.validators import validator_set
from lockstep.wire.vote import sign_notarize
from tests.support.small_network import small_genesis, trader_key, validator_key

GENESIS = small_genesis()
CHAIN = GENESIS.chain_id
ROOT = genesis_header(CHAIN, GENESIS.time_ms)
VALIDATORS = validator_set(GENESIS)
ROSTER = genesis_roster(GENESIS)


def tree() -> Tree:
    accounts = [account.public_key for account in GENESIS.accounts]
    return Tree(ROOT, Directory(accounts, [0] * len(accounts), [0] * len(accounts)), ROSTER)


def header(**changes: object) -> Header:
    plain = Header(CHAIN, 1, 1, 0, ROOT.time_ms + 5, 1, 0, 0, ROOT.digest, bytes(32), VALIDATORS.hash, VALIDATORS.hash)
    return replace(plain, **changes)  # type: ignore[arg-type]


def bundle(account: int = 0, sequence: int = 0, valid_until: int = 50, count: int = 1, chain: bytes = CHAIN) -> Bundle:
    return seal_bundle(trader_key(account), chain, account, sequence, valid_until, np.zeros(count, COMMAND))


def refusal_of_bundles(*bundles: Bundle, over: Tree | None = None, **changes: object) -> Refused:
    block = header(commands=sum(b.count for b in bundles), **changes)
    with pytest.raises(Refused) as caught:
        check_bundles(block, bundles, over or tree(), lambda known: False)
    return caught.value


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"height": 2}, Reason.WRONG_HEIGHT),
        ({"parent_view": 1, "view": 2}, Reason.WRONG_PARENT),
        ({"view": 0}, Reason.WRONG_PARENT),
        ({"view": 1 << 40}, Reason.WRONG_PARENT),
        ({"validators": bytes(32)}, Reason.WRONG_PARENT),
        ({"next_validators": bytes(32)}, Reason.WRONG_PARENT),
        ({"time_ms": ROOT.time_ms - 1}, Reason.STALE_TIMESTAMP),
        ({"commands": GENESIS.parameters.block_commands_max + 1}, Reason.OVERSIZE),
    ],
)
def test_a_header_must_follow_its_parent(changes: dict[str, int], reason: Reason) -> None:
    with pytest.raises(Refused) as caught:
        check_header(header(**changes), ROOT, ROSTER, GENESIS.parameters.block_commands_max)
    assert caught.value.reason is reason


def test_a_block_from_the_future_is_refused() -> None:
    check_clock(header(), ROOT.time_ms)
    with pytest.raises(Refused) as caught:
        check_clock(header(time_ms=ROOT.time_ms + 1_001), ROOT.time_ms)
    assert caught.value.reason is Reason.FUTURE_TIMESTAMP


def test_good_bundles_give_the_next_sequences() -> None:
    bundles = (bundle(0, 0), bundle(1, 0), bundle(0, 1))
    assert check_bundles(header(commands=3), bundles, tree(), lambda known: False) == {0: 2, 1: 1}


def test_a_bundle_twice_is_refused() -> None:
    assert "sequence 0, not 1" in refusal_of_bundles(bundle(), bundle()).detail


def test_a_bundle_out_of_order_is_refused() -> None:
    assert "sequence 1, not 0" in refusal_of_bundles(bundle(0, 1), bundle(0, 0)).detail


def test_a_bundle_that_an_ancestor_has_is_refused() -> None:
    grown = tree()
    entry = grown.entry(header())
    entry.valid, entry.sequences = True, {0: 1}
    assert check_bundles(
        header(height=2, parent=entry.header.digest, commands=1), (bundle(0, 1),), grown, lambda known: False
    ) == {0: 2}
    assert "not 1" in refusal_of_bundles(bundle(0, 0), over=grown, height=2, parent=entry.header.digest).detail


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (bundle(0, valid_until=0), "valid until"),
        (bundle(0, valid_until=10_002), "valid until"),
        (bundle(0, chain=digest(b"another")), "another chain"),
    ],
)
def test_an_expired_immortal_or_foreign_bundle_is_refused(bad: Bundle, words: str) -> None:
    assert words in refusal_of_bundles(bad).detail


def test_a_forged_bundle_is_refused() -> None:
    raw = bytearray(bundle(1).raw)
    raw[-1] ^= 1
    refused = refusal_of_bundles(Bundle(bytes(raw)))
    assert refused.reason is Reason.INVALID_BUNDLE
    assert "signature" in refused.detail


def test_an_account_may_act_eight_blocks_after_it_was_opened() -> None:
    grown = tree()
    grown.directory.open(len(GENESIS.accounts), trader_key(50).public, 3)
    young = seal_bundle(trader_key(50), CHAIN, len(GENESIS.accounts), 0, 50, np.zeros(1, COMMAND))
    assert "too recently" in refusal_of_bundles(young, over=grown, height=10).detail
    assert check_bundles(header(height=11, commands=1), (young,), grown, lambda known: False)


def test_the_number_of_commands_must_be_right() -> None:
    with pytest.raises(Refused, match="number of commands"):
        check_bundles(header(commands=2), (bundle(),), tree(), lambda known: False)


def observation(validator: int = 2, signer: int = 2, age_ms: int = 0, prices: tuple[int, ...] = (50,)) -> bytes:
    return seal_observation(validator_key(signer), CHAIN, validator, ROOT.time_ms + 5 - age_ms, prices).raw


@pytest.mark.parametrize(
    ("raws", "words"),
    [
        ((observation(), observation(age_ms=1)), "not newer"),
        ((observation(prices=(1, 2)),), "2 prices for 1"),
        ((observation(prices=(0,)),), "no price"),
        ((observation(age_ms=-1),), "after the block"),
        ((observation(signer=3),), "signature"),
        ((observation(validator=9, signer=2),), "no stake"),
    ],
)
def test_observations_are_refused(raws: tuple[bytes, ...], words: str) -> None:
    with pytest.raises(Refused, match=words) as caught:
        check_observations(Block(header(), Payload(b"", raws, ())), tree(), 1, VALIDATORS, lambda raw: False)
    assert caught.value.reason is Reason.BAD_OBSERVATION


def test_an_observation_already_on_the_chain_is_refused() -> None:
    grown = tree()
    grown.root_observed_ms[2] = ROOT.time_ms + 5
    block = Block(header(), Payload(b"", (observation(),), ()))
    with pytest.raises(Refused, match="not newer"):
        check_observations(block, grown, 1, VALIDATORS, lambda raw: False)


def test_evidence_must_prove_something_once() -> None:
    votes = [sign_notarize(validator_key(2), CHAIN, 2, 7, digest(name)) for name in (b"a", b"b")]
    raw = make_evidence(votes[0], votes[1]).encode()
    assert check_evidence(Block(header(), Payload(b"", (), (raw,))), VALIDATORS) == [(2, 7)]
    with pytest.raises(Refused) as caught:
        check_evidence(Block(header(), Payload(b"", (), (raw, raw))), VALIDATORS)
    assert caught.value.reason is Reason.DUPLICATE
    innocent = make_evidence(votes[0], votes[0]).encode()
    with pytest.raises(Refused, match="do not contradict"):
        check_evidence(Block(header(), Payload(b"", (), (innocent,))), VALIDATORS)
