"""Who of those that don't vote comes in, and whom they dial."""

import pytest

from lockstep.base.errors import ConfigurationError, Reason, Refused
from lockstep.base.limits import FIRST_OBSERVER
from lockstep.runtime import guests as guests_module
from lockstep.runtime.guests import BARRED_SECONDS, Admission, Guests
from lockstep.runtime.seeker import (
    ADDRESSES_KEPT,
    ALONE_SECONDS_MAX,
    FAILURES_MAX,
    OBSERVER_LINKS,
    RETRY_SECONDS_MAX,
    VALIDATOR_LINKS,
    Seeker,
)

KEYS = [bytes([number]) * 32 for number in range(8)]


def reason(guests: Guests, key: bytes, now: float = 0.0) -> Reason:
    with pytest.raises(Refused) as refused:
        guests.admit(key, now)
    return refused.value.reason


def test_a_full_table_says_so_and_has_room_again_when_one_leaves() -> None:
    guests = Guests(Admission(2))
    first, second = guests.admit(KEYS[0], 0), guests.admit(KEYS[1], 0)
    assert FIRST_OBSERVER <= first < second
    assert reason(guests, KEYS[2]) is Reason.BUSY
    guests.left(first)
    assert guests.admit(KEYS[2], 0) > second, "a number is never given twice"


def test_those_who_were_dialled_take_no_room() -> None:
    guests = Guests(Admission(1))
    guests.dialled(KEYS[0])
    guests.admit(KEYS[1], 0)
    assert guests.inside == 1


def test_two_nodes_have_one_connection() -> None:
    guests = Guests(Admission(4))
    number = guests.dialled(KEYS[0])
    assert reason(guests, KEYS[0]) is Reason.DUPLICATE
    with pytest.raises(Refused):
        guests.dialled(KEYS[0])
    guests.left(number)
    assert guests.admit(KEYS[0], 0)


def test_only_keys_that_are_allowed_come_in() -> None:
    guests = Guests(Admission(4, (KEYS[1],)))
    assert reason(guests, KEYS[0]) is Reason.UNKNOWN_PEER
    assert guests.admit(KEYS[1], 0)


def test_one_that_misbehaved_is_kept_out_for_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    guests = Guests(Admission(4))
    guests.bar(KEYS[0], 100.0)
    assert reason(guests, KEYS[0], 100.0 + BARRED_SECONDS - 0.1) is Reason.RATE_LIMITED
    guests.left(guests.admit(KEYS[0], 100.0 + BARRED_SECONDS))
    guests.bar(KEYS[0], 200.0)
    assert reason(guests, KEYS[0], 200.0 + 2 * BARRED_SECONDS - 0.1) is Reason.RATE_LIMITED
    monkeypatch.setattr(guests_module, "BARRED_MAX", 2)
    for key in KEYS[1:4]:
        guests.bar(key, 200.0)
    assert guests.admit(KEYS[0], 200.0), "the oldest is forgotten"


def seeker(validators: int = 4) -> Seeker:
    made = Seeker("10.0.0.9:1", seed=1)
    for index in range(validators):
        made.give(f"10.0.0.1:{index + 1}", index)
    return made


def test_some_validators_and_some_others_are_dialled_and_nobody_twice() -> None:
    made = seeker()
    made.heard(f"10.0.0.2:{port}" for port in range(1, 9))
    found = []
    while (place := made.next(*made.busy(), 0.0)) is not None:
        found.append(place)
    assert made.busy() == (VALIDATOR_LINKS, OBSERVER_LINKS)
    assert len({(place.host, place.port) for place in found}) == VALIDATOR_LINKS + OBSERVER_LINKS


def test_an_address_that_fails_is_left_alone_for_longer_each_time() -> None:
    made = seeker(1)
    now, waits = 0.0, []
    for _ in range(12):
        place = made.next(0, 1, now)
        assert place is not None
        made.ended(place, False, now)
        waits.append(place.due - now)
        assert made.next(0, 1, now) is None
        now = place.due
    assert waits[0] < 1 < waits[5] <= RETRY_SECONDS_MAX and waits[-1] > 10
    made.ended(place, True, now)
    assert place.due - now < 1


def test_a_node_without_any_connection_does_not_wait_long() -> None:
    made = seeker(1)
    now = 0.0
    for _ in range(12):
        place = made.next(0, 0, now)
        assert place is not None
        made.ended(place, False, now)
        assert made.next(0, 0, now + ALONE_SECONDS_MAX) is place
        place.is_busy = False
        now = place.due


def test_hearsay_is_bounded_and_forgotten_when_it_is_of_no_use() -> None:
    made = Seeker("10.0.0.9:1", seed=1)
    made.heard(["10.0.0.9:1", "nonsense", "10.0.0.3:70000", ""])
    assert made.next(0, 0, 0.0) is None
    made.heard(f"10.0.0.2:{port}" for port in range(1, 200))
    assert len(made._places) == ADDRESSES_KEPT
    made = Seeker("", seed=1)
    made.heard(["10.0.0.2:1"])
    now = 0.0
    for _ in range(FAILURES_MAX):
        place = made.next(0, 1, now)
        assert place is not None
        made.ended(place, False, now)
        now = place.due
    assert made.next(0, 1, now + 1e6) is None
    with pytest.raises(ConfigurationError):
        made.give("nonsense")
