"""What may be pruned, given heights: nothing that somebody still needs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.node.retention import KEEP_BLOCKS_MIN, KEEP_DAYS, Floors, Mode, Needs, Retention, floors
from lockstep.sync.chooser import BEHIND_BLOCKS_MIN
from lockstep.sync.light_rule import Rule

HEIGHTS = st.integers(0, 10_000)
NEEDS = st.builds(Needs, HEIGHTS, HEIGHTS, st.none() | HEIGHTS, HEIGHTS)


@pytest.mark.parametrize(
    ("mode", "needs", "expected"),
    [
        (Mode.ARCHIVE, Needs(9_000, 9_000, None, 8_000), Floors(1, 1)),
        (Mode.FULL, Needs(9_000, 8_500, None, 6_000), Floors(6_000, 6_000)),
        (Mode.FULL, Needs(9_000, 8_500, None, 8_900), Floors(8_001, 8_001)),
        (Mode.PRUNED, Needs(9_000, 8_500, None, 6_000), Floors(8_001, 6_000)),
        (Mode.PRUNED, Needs(9_000, 7_000, None, 6_000), Floors(7_000, 6_000)),
        (Mode.PRUNED, Needs(9_000, 8_500, 5_000, 6_000), Floors(5_000, 5_000)),
        (Mode.PRUNED, Needs(500, 500, None, 400), Floors(1, 1)),
    ],
)
def test_the_rule(mode: Mode, needs: Needs, expected: Floors) -> None:
    assert floors(Retention(mode, blocks=1_000), needs) == expected


@given(st.builds(Retention, st.sampled_from([Mode.FULL, Mode.PRUNED]), st.just(0), st.integers(512, 5_000)), NEEDS)
def test_nothing_that_is_needed_goes(retention: Retention, needs: Needs) -> None:
    kept = floors(retention, needs)
    for height in (needs.checkpoint, needs.oldest_checkpoint, needs.checkpoint - retention.blocks + 1):
        assert kept.blocks <= max(1, height)
    assert needs.served is None or kept.blocks <= max(1, needs.served)
    assert 1 <= kept.headers <= kept.blocks and kept.headers <= max(1, needs.aged)
    assert retention.mode is not Mode.FULL or kept.blocks <= max(1, needs.aged)


def test_the_defaults_fit_what_others_promise() -> None:
    assert Rule().period_ms <= KEEP_DAYS * 24 * 3600 * 1000, "a light client's trust is served to its end"
    assert KEEP_BLOCKS_MIN >= 2 * BEHIND_BLOCKS_MIN, "a peer that replays finds its blocks"
