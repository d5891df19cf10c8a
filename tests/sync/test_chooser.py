"""Which way is the shorter one."""

from lockstep.sync.chooser import NEVER_MS, Pace, fetch_ms, is_clearly_shorter, replay_ms

SECOND = 1_000_000


def pace(blocks_per_second: int) -> Pace:
    made = Pace()
    for second in range(10):
        made.at(blocks_per_second * second, second * SECOND)
    return made


def test_replay_is_measured_against_the_network() -> None:
    assert replay_ms(1_000, pace(110), pace(10)) == 10_000
    assert replay_ms(1_000, pace(10), pace(10)) == NEVER_MS
    assert replay_ms(1_000, Pace(), Pace()) == 1_000


def test_a_pause_is_not_measured() -> None:
    replay = pace(100)
    replay.pause()
    replay.at(50_000, 100 * SECOND)
    replay.at(50_100, 101 * SECOND)
    assert replay.rate == 100_000


def test_a_small_state_beats_a_long_chain_and_a_big_one_loses_to_a_short_one() -> None:
    replay = replay_ms(10_000, Pace(), Pace())
    assert is_clearly_shorter(fetch_ms(16 << 20, 0, 0), replay)
    assert not is_clearly_shorter(fetch_ms(1 << 30, 0, 0), replay)
    assert fetch_ms(1 << 20, 0, 0) < fetch_ms(1 << 20, 16 << 20, 0) < fetch_ms(17 << 20, 0, 0), (
        "what is here costs less"
    )
    assert not is_clearly_shorter(fetch_ms(0, 0, 0), replay_ms(300, Pace(), Pace()))
    assert is_clearly_shorter(1_000, 2_600) and not is_clearly_shorter(1_000, 2_400)
