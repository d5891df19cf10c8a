"""The pool's rules, one test each."""

import numpy as np
import pytest

from lockstep.base.digest import digest
from lockstep.base.errors import Reason, Refused
from lockstep.base.keys import PrivateKey
from lockstep.pool import fates
from lockstep.pool.fates import Fates
from lockstep.pool.pool import Pool
from lockstep.wire.bundle import Bundle, seal_bundle
from lockstep.wire.command import COMMAND, Kind

CHAIN = digest(b"chain")
KEY = PrivateKey(bytes(32))


def bundle(account: int, sequence: int, count: int = 1, valid_until: int = 100, mark: int = 0) -> Bundle:
    commands = np.zeros(count, COMMAND)
    commands["kind"] = Kind.CANCEL
    commands["target"] = mark
    return seal_bundle(KEY, CHAIN, account, sequence, valid_until, commands)


def put(pool: Pool, *bundles: Bundle, next_sequence: int = 0, height: int = 0) -> None:
    for each in bundles:
        pool.admit(each, next_sequence, height)
        pool.add(each)


def refusal(pool: Pool, each: Bundle, next_sequence: int = 0, height: int = 0) -> Reason:
    with pytest.raises(Refused) as caught:
        pool.admit(each, next_sequence, height)
    return caught.value.reason


def test_selects_consecutive_sequences_only() -> None:
    pool = Pool()
    put(pool, bundle(1, 0), bundle(1, 1), bundle(1, 3))
    assert [b.sequence for b in pool.select(lambda account: 0, 1, 10)] == [0, 1]
    assert [b.sequence for b in pool.select(lambda account: 2, 1, 10)] == []
    put(pool, bundle(1, 2))
    assert [b.sequence for b in pool.select(lambda account: 2, 1, 10)] == [2, 3]


def test_a_gap_is_filled_in_any_order_of_arrival() -> None:
    pool = Pool()
    put(pool, bundle(1, 2), bundle(1, 0), bundle(1, 1))
    assert [b.sequence for b in pool.select(lambda account: 0, 1, 10)] == [0, 1, 2]


def test_respects_the_room_in_a_block() -> None:
    pool = Pool()
    put(pool, bundle(1, 0, count=6), bundle(1, 1, count=6), bundle(2, 0, count=4))
    assert [(b.account, b.count) for b in pool.select(lambda account: 0, 1, 10)] == [(1, 6), (2, 4)]


def test_accounts_take_turns() -> None:
    pool = Pool()
    put(pool, *(bundle(1, s) for s in range(10)), *(bundle(2, s) for s in range(10)))
    first = pool.select(lambda account: 0, 1, 10)
    second = pool.select(lambda account: 0, 1, 10)
    assert {b.account for b in first} == {1}
    assert {b.account for b in second} == {2}


def test_does_not_select_what_expires_before_the_block() -> None:
    pool = Pool()
    put(pool, bundle(1, 0, valid_until=5))
    assert pool.select(lambda account: 0, 5, 10)
    assert not pool.select(lambda account: 0, 6, 10)
    assert [b.sequence for b in pool.expire(5)] == [0]
    assert len(pool) == pool.bytes == 0


def test_refuses_a_replay_and_what_is_too_far_ahead() -> None:
    pool = Pool(per_account_max=4)
    assert refusal(pool, bundle(1, 6), next_sequence=7) is Reason.REPLAYED
    assert refusal(pool, bundle(1, 4)) is Reason.SEQUENCE_TOO_FAR
    put(pool, bundle(1, 3))


def test_refuses_duplicates_and_rivals_of_one_sequence() -> None:
    pool = Pool()
    put(pool, bundle(1, 0))
    assert refusal(pool, bundle(1, 0)) is Reason.DUPLICATE
    assert refusal(pool, bundle(1, 0, mark=9)) is Reason.DUPLICATE


def test_refuses_the_expired_and_the_immortal() -> None:
    pool = Pool()
    assert refusal(pool, bundle(1, 0, valid_until=7), height=7) is Reason.EXPIRED
    assert refusal(pool, bundle(1, 0, valid_until=10_001), height=0) is Reason.LIFETIME_TOO_LONG


def test_a_full_pool_says_busy_and_has_room_again_after_a_removal() -> None:
    one = bundle(1, 0)
    pool = Pool(bytes_max=2 * len(one.raw))
    put(pool, one, bundle(2, 0))
    assert refusal(pool, bundle(3, 0)) is Reason.BUSY
    pool.remove(one.digest)
    put(pool, bundle(3, 0))
    assert pool.bytes == 2 * len(one.raw)


def test_settling_an_account_removes_what_can_never_be_ordered() -> None:
    pool = Pool()
    put(pool, bundle(1, 0), bundle(1, 1), bundle(1, 2))
    assert [b.sequence for b in pool.settle(1, 2)] == [0, 1]
    assert [b.sequence for b in pool.select(lambda account: 2, 1, 10)] == [2]


def test_fates_are_bounded_and_a_new_try_clears_the_old_one() -> None:
    known = Fates(recent_max=2)
    for name in (b"a", b"b", b"c"):
        known.record(fates.rejected(name, "bad-signature"))
    assert known.get(b"a") is None
    assert known.get(b"c") == fates.rejected(b"c", "bad-signature")
    known.forget(b"c")
    assert known.get(b"c") is None
