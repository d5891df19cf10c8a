"""Which way is the shorter one."""

from lockstep.sync.chooser import Pace, fetch_seconds, is_clearly_shorter, replay_seconds

SECOND = 1_000_000


def pace(blocks_per_second: int) -> Pace:
    made = Pace()
    for second in range(10):
        made.at(blocks_per_second * second, second * SECOND)
    return made


def test_replay_is_measured_against_the_network() -> None:
    assert replay_seconds(1_000, pace(110), pace(10)) == 10.0
    assert replay_seconds(1_000, pace(10), pace(10)) > 1e8
    assert replay_seconds(1_000, Pace(), Pace()) == 1.0


def test_a_pause_is_not_measured() -> None:
    replay = pace(100)
    replay.pause()
    replay.at(50_000, 100 * SECOND)
    replay.at(50_100, 101 * SECOND)
    assert replay.rate == 100.0


def test_a_small_state_beats_a_long_chain_and_a_big_one_loses_to_a_short_one() -> None:
    replay = replay_seconds(10_000, Pace(), Pace())
    assert is_clearly_shorter(fetch_seconds(16 << 20, 16 << 20, 0.0), replay)
    assert not is_clearly_shorter(fetch_seconds(1 << 30, 1 << 30, 0.0), replay)
    assert not is_clearly_shorter(fetch_seconds(0, 0, 0.0), replay_seconds(300, Pace(), Pace()))
    assert is_clearly_shorter(1.0, 2.6) and not is_clearly_shorter(1.0, 2.4)
