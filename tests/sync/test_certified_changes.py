"""Whether the changes of validators beside a state lead to those who signed it."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.base.errors import Reason, Refused
from lockstep.sync.certified_changes import CHANGES_MAX, decode_changes, encode_changes, root_anchor, signers_of
from lockstep.sync.light_rule import DAY_MS, Anchor
from lockstep.sync.light_trust import TrustRoot
from lockstep.wire.light import LightReply
from lockstep.wire.validators import ValidatorSet
from tests.support.light_chain import CHAIN, LightChain, Served, keys_of, set_of

A, B, C = (keys_of(first, 4) for first in (1, 11, 21))
CHANGES = {0: A, 20: B, 40: C}
ENDS = (19, 39)


def anchor_at(chain: LightChain, height: int) -> Anchor:
    """Of a trust line."""
    return root_anchor(TrustRoot(CHAIN, height, set_of(chain.keys_at(height + 1)).hash))


def led(
    chain: LightChain, replies: list[LightReply], anchor: Anchor, height: int = 60, after_ms: int = 0
) -> ValidatorSet:
    offer = Served(chain).offer(height)
    return signers_of(offer, anchor, CHAIN, decode_changes(encode_changes(replies)), chain.now_ms() + after_ms)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 70))
def test_they_lead_from_genesis_and_from_any_trust_line(height: int) -> None:
    """A line above the state is of use as long as its set signed the state too."""
    chain = LightChain(A, changes=CHANGES).grow(72)
    assert led(chain, [chain.reply(end) for end in ENDS], anchor_at(chain, height)) == set_of(C)


def test_a_state_below_the_trust_line_and_by_others_is_refused() -> None:
    chain = LightChain(A, changes=CHANGES).grow(72)
    with pytest.raises(Refused, match="not above the state"):
        led(chain, [chain.reply(19)], anchor_at(chain, 50), 30)
    assert led(chain, [], anchor_at(chain, 38), 30) == set_of(B)


@pytest.mark.parametrize("missing", ENDS)
def test_without_one_change_nothing_leads_there_from_below_it(missing: int) -> None:
    chain = LightChain(A, changes=CHANGES).grow(72)
    replies = [chain.reply(end) for end in ENDS if end != missing]
    with pytest.raises(Refused, match="no certificates lead"):
        led(chain, replies, anchor_at(chain, 0))
    assert led(chain, replies, anchor_at(chain, missing)) == set_of(C)


def test_a_third_of_the_old_set_is_enough_when_headers_were_pruned() -> None:
    chain = LightChain(A, changes={0: A, 20: [*A[:3], B[0]]}).grow(40)
    whole = Anchor(0, None, set_of(A).hash, set_of(A))
    assert led(chain, [], whole, 30) == set_of([*A[:3], B[0]])
    with pytest.raises(Refused, match="no certificates lead"):
        led(chain, [], anchor_at(chain, 0), 30)  # of a line, only the hash of the set is known


def test_validators_that_made_themselves_up_are_refused() -> None:
    forged = keys_of(91, 4)
    lie = LightChain(A, changes={0: A, 20: forged}).grow(60)
    strangers = lie.reply(19)
    assert strangers.finalization is not None
    weak = msgspec.structs.replace(strangers, finalization=lie.certify(19, 2))
    for replies in ([], [weak], [lie.reply(25)]):
        with pytest.raises(Refused) as refused:
            led(lie, replies, anchor_at(lie, 0), 50)
        assert refused.value.reason is Reason.BAD_CERTIFICATE


def test_a_change_that_is_too_old_needs_a_later_trust_line() -> None:
    chain = LightChain(A, changes=CHANGES).grow(72)
    replies = [chain.reply(end) for end in ENDS]
    with pytest.raises(Refused, match="trust line") as refused:
        led(chain, replies, anchor_at(chain, 0), after_ms=14 * DAY_MS)
    assert refused.value.reason is Reason.EXPIRED
    assert led(chain, replies, anchor_at(chain, 45), after_ms=14 * DAY_MS) == set_of(C)


def test_the_file_is_bounded_and_has_one_encoding() -> None:
    chain = LightChain(A, changes=CHANGES).grow(72)
    raw = encode_changes([chain.reply(end) for end in ENDS])
    for wrong in (raw + b"\0", raw[:-1], b"", encode_changes([LightReply(0, (b"short",), chain.certify(19), b"", ())])):
        with pytest.raises(Refused):
            decode_changes(wrong)
    many = [LightReply(0, (), None, b"", ())] * (CHANGES_MAX + 1)
    assert len(decode_changes(encode_changes(many))) == CHANGES_MAX, "the newest"
    with pytest.raises(Refused, match="without a certificate"):
        led(chain, many[:1], anchor_at(chain, 0))
