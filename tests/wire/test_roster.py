"""The roster: what a change of validators may say, who may approve it, and when it takes effect."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.base.errors import Reason, Refused
from lockstep.base.keys import PrivateKey
from lockstep.wire.genesis import Validator
from lockstep.wire.roster import Roster, genesis_roster
from lockstep.wire.set_change import SetChange, approve, decode_change, sign_change
from lockstep.wire.validators import epoch_of, first_view
from tests.support.small_network import small_genesis, validator_key

GENESIS = small_genesis()
EVERY = GENESIS.parameters.epoch_blocks
ROSTER = genesis_roster(GENESIS)
NEW = PrivateKey(bytes([77]) * 32)


def joining(key: PrivateKey = NEW, stake: int = 1, name: str = "joining") -> Validator:
    return Validator(name, key.public, stake, b"", "", "")


def change(*stakes: tuple[int, int], added: tuple[Validator, ...] = (), epoch: int = 0) -> SetChange:
    return SetChange(GENESIS.chain_id, epoch, added, stakes)


def approved(what: SetChange, signers: tuple[int, ...] = (0, 1, 2)) -> bytes:
    return approve(what, {i: sign_change(validator_key(i), what) for i in signers}, 4).encode()


def refusal(raw: bytes, roster: Roster = ROSTER) -> Refused:
    with pytest.raises(Refused) as caught:
        roster.check(raw)
    return caught.value


def test_a_quorums_change_takes_effect_after_the_next_multiple() -> None:
    ordered = change((0, 0), (1, 3), added=(joining(stake=2),))
    assert ROSTER.check(approved(ordered)).change == ordered
    pending = ROSTER.after(5, ordered)
    assert pending.validators == ROSTER.validators and len(pending.members) == 5
    assert pending.pending is not None and pending.pending.height == EVERY
    assert pending.set_after(EVERY - 1) == ROSTER.validators
    assert pending.set_after(EVERY).stakes == (0, 3, 1, 1, 2)
    last = pending.after(EVERY - 1, None).after(EVERY, None)
    assert (last.epoch, last.validators, last.pending) == (1, pending.set_after(EVERY), None)
    assert last.validators.seats == (1, 2, 3, 4) and epoch_of(last.view) == 1 == epoch_of(first_view(2) - 1)


def test_a_change_that_a_boundary_block_orders_waits_for_the_next_one() -> None:
    pending = ROSTER.after(EVERY, change((0, 2))).pending
    assert pending is not None and pending.height == 2 * EVERY


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (change((0, 2), epoch=1), "approved for epoch 1"),
        (change((1, 2), (0, 2)), "ascending"),
        (change((4, 2)), "on the roster"),
        (change((0, -1)), "out of range"),
        (change((0, 1 << 60)), "out of range"),
        (change((0, 0), (1, 0), (2, 0), (3, 0)), "zero"),
        (change((0, (1 << 60) - 1), (1, (1 << 60) - 1)), "too large"),
        (change((0, 1)), "changes nothing"),
        (change(), "changes nothing"),
        (change(added=(joining(validator_key(2)),)), "on the roster already"),
        (change(added=(joining(), joining())), "on the roster already"),
        (change(added=(joining(name=""),)), "a name has"),
        (change(added=(joining(stake=-1),)), "stake"),
    ],
)
def test_changes_that_are_refused(what: SetChange, words: str) -> None:
    refused = refusal(approved(what))
    assert refused.reason is Reason.BAD_SET_CHANGE and words in refused.detail


def test_who_approves_a_change() -> None:
    what = change((0, 2))
    assert "2 of 4 stake" in refusal(approved(what, (0, 1))).detail
    forged = approve(what, {i: sign_change(NEW, what) for i in range(3)}, 4).encode()
    refused = refusal(forged)
    assert refused.reason is Reason.BAD_SIGNATURE and "not its" in refused.detail
    without = replace(ROSTER, validators=replace(ROSTER.validators, stakes=(1, 1, 1, 0)))
    assert "approved" in refusal(approved(change((0, 2)), (0, 1, 3)), without).detail, "validator 3 has no stake"


def test_one_change_at_a_time_and_on_its_own_chain() -> None:
    assert "another change" in refusal(approved(change((0, 2))), ROSTER.after(3, change((1, 2)))).detail
    other = msgspec.structs.replace(change((0, 2)), chain_id=bytes(32))
    assert refusal(approved(other)).reason is Reason.WRONG_CHAIN
    small = replace(ROSTER, validators_max=4)
    assert "more than 4" in refusal(approved(change(added=(joining(),))), small).detail


def test_there_is_one_encoding() -> None:
    raw = approved(change((0, 2), added=(joining(),)))
    assert decode_change(raw).encode() == raw
    with pytest.raises(Refused):
        decode_change(raw + b"\x00")


STAKES = st.dictionaries(st.integers(0, 3), st.integers(0, 5), min_size=1, max_size=4)


@given(st.lists(st.tuples(st.integers(1, 3 * EVERY), STAKES), max_size=6))
def test_sets_change_at_multiples_only_and_one_after_the_other(orders: list[tuple[int, dict[int, int]]]) -> None:
    roster, height, seen = ROSTER, 0, []
    for gap, stakes in orders:
        for _ in range(gap):
            height += 1
            what = None
            if height % 7 == 0 and roster.pending is None:
                what = change(*sorted(stakes.items()), epoch=roster.epoch)
                try:
                    roster.check(approved(what, tuple(roster.validators.seats)))
                except Refused:
                    what = None
            before, roster = roster, roster.after(height, what)
            if roster.epoch != before.epoch:
                seen.append(height)
                assert roster.validators == before.set_after(height) != before.validators
                assert roster.validators.total > 0
            else:
                assert roster.validators == before.validators == before.set_after(height)
    assert all(at % EVERY == 0 for at in seen) and roster.epoch == len(seen)
