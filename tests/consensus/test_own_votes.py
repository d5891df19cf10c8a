"""Whatever is asked of it, a validator never signs two votes that contradict each other."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.base.errors import InvariantBroken
from lockstep.consensus import own_votes
from lockstep.consensus.own_votes import OwnVotes
from lockstep.wire.evidence import conflict
from lockstep.wire.vote import Vote
from tests.support.consensus_keys import fake_keys, validators_of

KEYS = fake_keys(4)
VALIDATORS = validators_of(KEYS)
BLOCKS = [bytes([i]) * 32 for i in range(3)]

requests = st.lists(
    st.tuples(st.sampled_from(["notarize", "nullify", "finalize", "restart", "prune"]), st.integers(1, 4),
              st.sampled_from(BLOCKS)),
    max_size=40,
)  # fmt: skip


def ask(own: OwnVotes, what: str, view: int, block: bytes) -> Vote:
    if what == "notarize":
        return own.notarize(view, block)
    if what == "nullify":
        return own.nullify(view)
    return own.finalize(view, view, block, block, block)


@given(requests)
def test_no_sequence_of_requests_restarts_and_finalizations_makes_it_contradict_itself(
    asked: list[tuple[str, int, bytes]],
) -> None:
    own = OwnVotes(VALIDATORS, 0, KEYS[0], 0)
    signed: list[Vote] = []
    final = 0
    for what, view, block in asked:
        if what == "restart":
            own = OwnVotes(VALIDATORS, 0, KEYS[0], final)
            own.restore(signed, final)
        elif what == "prune":
            final = max(final, view)
            own.prune(final)
        else:
            allowed = getattr(own, f"may_{what}")(view)
            try:
                signed.append(ask(own, what, view, block))
                assert allowed
            except InvariantBroken:
                assert not allowed
    assert not any(conflict(one, other) for one, other in combinations(signed, 2))
    assert len({(type(vote), vote.view) for vote in signed}) == len(signed), "nothing is signed twice"


def test_beyond_the_bound_old_views_are_closed_but_finalize_votes_can_still_be_said_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own_votes, "OWN_VIEWS_MAX", 5)
    own = OwnVotes(VALIDATORS, 0, KEYS[0], 0)
    first = own.finalize(1, 1, *BLOCKS)
    own.durable(first)
    for view in range(2, 9):
        own.nullify(view)
    assert not own.may_notarize(1)
    assert not own.may_nullify(3)
    assert own.may_notarize(9)
    assert own.finalizes() == [first]


def test_an_observer_may_sign_nothing() -> None:
    own = OwnVotes(VALIDATORS, None, None, 0)
    assert not (own.may_notarize(1) or own.may_nullify(1) or own.may_finalize(1))
    with pytest.raises(InvariantBroken):
        own.nullify(1)
    with pytest.raises(ValueError, match="observer"):
        OwnVotes(VALIDATORS, None, KEYS[0], 0)
