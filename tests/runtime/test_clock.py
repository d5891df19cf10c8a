"""The clock that protocol code is told."""

import time

import pytest

from lockstep.runtime.clock import Clock


def test_it_begins_at_the_wall_clock_and_does_not_follow_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monotonic = [5_000_000_000]
    monkeypatch.setattr(time, "monotonic_ns", lambda: monotonic[0])
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)
    clock = Clock()
    assert clock.now_us() == 1_700_000_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: 0)  # the wall clock is set back by fifty years
    monotonic[0] += 2_500
    assert clock.now_us() == 1_700_000_000_000_002
