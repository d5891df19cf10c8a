"""Allowances: so much at once, so much in the long run, and a debt is paid off before anything more is given."""

from hypothesis import given
from hypothesis import strategies as st

from lockstep.node.answers import BURST_SECONDS, Allowance

RATE = 10


def given_in(allowance: Allowance, now_us: int, asks: int) -> int:
    """How many of so many requests at one time are answered."""
    answered = 0
    for _ in range(asks):
        if allowance.has(now_us):
            allowance.take(1)
            answered += 1
    return answered


def test_so_much_at_once_and_then_as_time_passes() -> None:
    allowance = Allowance(RATE, 0)
    assert given_in(allowance, 0, 100) == BURST_SECONDS * RATE
    assert given_in(allowance, 100_000, 100) == 1
    assert given_in(allowance, 3_600_000_000, 100) == BURST_SECONDS * RATE


def test_a_debt_is_paid_off_first() -> None:
    allowance = Allowance(RATE, 0)
    allowance.take(BURST_SECONDS * RATE + 50)
    assert not allowance.has(5_000_000)
    assert allowance.has(5_100_000)


@given(st.lists(st.tuples(st.integers(0, 2_000_000), st.integers(0, 60)), max_size=40))
def test_never_more_than_the_rate_and_a_burst(steps: list[tuple[int, int]]) -> None:
    allowance = Allowance(RATE, 0)
    now_us = answered = 0
    for wait_us, asks in steps:
        now_us += wait_us
        answered += given_in(allowance, now_us, asks)
    assert answered <= BURST_SECONDS * RATE + now_us * RATE // 1_000_000 + 1
