"""Delays, windows, and the comparison of roots."""

import random

import pytest

from lockstep.market.latency import Latencies
from lockstep.market.meter import Meter
from lockstep.market.roots import KEPT_HEIGHTS_MAX, RootCheck
from lockstep.wire.client import BlockFinal


def test_quantiles_are_within_one_per_cent_of_the_sorted_truth() -> None:
    source = random.Random(4)
    delays = sorted(source.lognormvariate(2, 1.2) for _ in range(20_000))
    histogram = Latencies()
    for delay in delays:
        histogram.add(delay)
    for share in (0.01, 0.5, 0.95, 0.99, 0.999):
        assert histogram.quantile(share) == pytest.approx(delays[int(share * len(delays)) - 1], rel=0.011)
    assert histogram.quantile(1.0) == delays[-1]
    assert len(histogram) == len(delays)


def test_no_delays_no_quantiles_and_extremes_stay_in_range() -> None:
    histogram = Latencies()
    assert histogram.summary() == {"p50": 0, "p95": 0, "p99": 0}
    histogram.add(0.0)
    histogram.add(1e9)
    assert histogram.worst_ms == 1e9
    assert len(histogram) == 2


def test_a_window_counts_only_what_happens_in_it() -> None:
    meter = Meter(0.0)
    meter.bundle_final(7, 1.0)
    meter.begin("healthy", 2.0)
    meter.bundle_final(10, 5.0)
    meter.block_final(3)
    meter.begin("one dead", 4.0)
    meter.bundle_final(4, 50.0)
    meter.end(8.0)
    meter.bundle_final(1_000, 1.0)
    healthy, dead = (window.summary(99.0) for window in meter.windows)
    assert (healthy["commands_committed"], healthy["seconds"], healthy["commands_per_second"]) == (10, 2.0, 5.0)
    assert (healthy["blocks"], healthy["fills"]) == (1, 3)
    assert (dead["commands_committed"], dead["seconds"], dead["commands_per_second"]) == (4, 4.0, 1.0)
    assert dead["finality_ms"]["p50"] == pytest.approx(50, rel=0.011)
    assert meter.total.commands == 1_021


def block(height: int, root: int = 1) -> BlockFinal:
    return BlockFinal(height, height, 0, bytes(32), bytes([root]) * 32, bytes(32), 1, 2, 3)


def test_equal_roots_agree_and_the_common_height_is_everybodys() -> None:
    check = RootCheck()
    assert check.note(0, block(1))
    assert not check.note(1, block(1))
    assert check.note(0, block(2))
    assert check.common([0, 1]).height == 1  # type: ignore[union-attr]
    assert check.common([0]).height == 2  # type: ignore[union-attr]
    assert check.common([0, 2]) is None
    assert check.common([]) is None
    assert check.compared == 1
    assert check.disagreements == []


def test_one_different_root_is_found_and_named() -> None:
    check = RootCheck()
    for validator in range(3):
        check.note(validator, block(5, root=9 if validator == 2 else 1))
    assert [(d.height, d.validators) for d in check.disagreements] == [(5, (0, 2))]


def test_old_heights_are_forgotten() -> None:
    check = RootCheck()
    for height in range(1, KEPT_HEIGHTS_MAX + 100):
        check.note(0, block(height))
    assert len(check._heights) == KEPT_HEIGHTS_MAX
    assert not check.note(1, block(3))
