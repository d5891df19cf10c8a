"""What is offered: the rate that was asked for, no more than the venue can follow, and honest due times."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lockstep.base.errors import ConfigurationError
from lockstep.market.cast import traders
from lockstep.market.flow import Flow
from lockstep.market.index import IndexPath
from lockstep.market.listings import LISTINGS
from lockstep.market.load import BACKLOG_SECONDS, WINDOW_COMMANDS, FlowLoad, ReplayLoad, bundle_size
from lockstep.market.meter import Meter
from lockstep.market.plan import Plan
from lockstep.market.recording import Message, Recording, What
from lockstep.market.replay import Accounts, Replay
from lockstep.wire.client import Fate

CAST = traders(1, 32)


@dataclass
class Submissions:
    """Stands in for the dispatcher: writes down what is submitted."""

    sent: list[tuple[int, int, float]] = field(default_factory=list)
    pending_commands: int = 0
    is_open: bool = True

    def can_submit(self, account: int) -> bool:
        return self.is_open

    def submit(self, account: int, commands: Any, due: float, now: float) -> int:
        self.sent.append((account, len(commands), due))
        self.pending_commands += len(commands)
        return len(self.sent) - 1


def flow_load(rate: int, bundle: int) -> tuple[FlowLoad, Submissions, Meter]:
    flow = Flow(1, LISTINGS, CAST, 2_000)
    index = IndexPath(1, tuple(listing.opening_price for listing in LISTINGS))
    submissions, meter = Submissions(), Meter(0.0)
    return FlowLoad(flow, index, submissions, meter, rate, bundle), submissions, meter  # type: ignore[arg-type]


def test_bundles_are_smaller_at_low_rates() -> None:
    assert [bundle_size(rate, 256) for rate in (0, 50, 1_000, 5_000, 25_600, 10**6)] == [256, 1, 10, 50, 256, 256]


def test_the_rate_is_kept_and_turns_are_taken() -> None:
    load, submissions, _ = flow_load(2_000, 20)
    now = 100.0
    while now < 105.0:
        now += load.produce(now)
        submissions.pending_commands = 0
    assert sum(count for _, count, _ in submissions.sent) == pytest.approx(10_000, abs=40)
    assert len({account for account, _, _ in submissions.sent}) == sum(t.weight > 0 for t in CAST)


def test_a_late_driver_counts_its_lateness() -> None:
    load, submissions, _ = flow_load(1_000, 10)
    load.produce(50.0)
    load.produce(50.1)
    dues = [due for _, _, due in submissions.sent]
    assert dues[:4] == pytest.approx([50.0, 50.01, 50.02, 50.03])
    assert len(dues) == 11


def test_beyond_the_backlog_commands_are_shed_and_counted() -> None:
    load, submissions, meter = flow_load(1_000, 10)
    submissions.pending_commands = int(1_000 * BACKLOG_SECONDS) + 1
    load.produce(1.0)
    load.produce(1.5)
    assert submissions.sent == []
    assert meter.shed == 510


def test_at_rate_zero_the_window_is_filled_and_not_more() -> None:
    load, submissions, _ = flow_load(0, 256)
    for _ in range(100):
        load.produce(1.0)
    assert WINDOW_COMMANDS - 256 < submissions.pending_commands <= WINDOW_COMMANDS
    submissions.is_open = False
    submissions.pending_commands = 0
    assert load.produce(1.0) > 0
    assert submissions.pending_commands == 0


def test_prices_walk_and_the_flow_follows_them() -> None:
    load, _, _ = flow_load(1_000, 10)
    first = load.prices()
    assert first.shape == (len(LISTINGS),)
    assert not np.array_equal(first, [load.prices() for _ in range(50)][-1])


def recording() -> Recording:
    messages = [Message(1_000_000 * second, What.NEW, second, True, 100, 5) for second in range(1, 6)]
    return Recording(LISTINGS[0].instrument, (), messages, [0, 101, 102, 103, 104])


def test_a_replay_keeps_recorded_time_times_speed() -> None:
    replay, submissions = Replay(recording(), Accounts(3, 4, 5)), Submissions()
    load = ReplayLoad(replay, submissions, speed=2.0, bundle=256)  # type: ignore[arg-type]
    for now, expected in ((10.0, 1), (10.4, 1), (10.5, 2), (11.0, 3), (12.1, 5)):
        load.produce(now)
        assert sum(count for _, count, _ in submissions.sent) == expected
    assert load.prices().tolist() == [104]
    assert not load.is_done
    for sequence in range(len(submissions.sent)):
        load.settled(3, sequence, Fate(b"", "final", 1, 0, "", b""))
    assert load.is_done


def test_a_replay_at_speed_zero_sends_what_may_be_sent() -> None:
    submissions = Submissions()
    load = ReplayLoad(Replay(recording(), Accounts(3, 4, 5)), submissions, speed=0, bundle=3)  # type: ignore[arg-type]
    assert load.prices().tolist() == [101], "before the first mid is known, the first one that will be"
    load.produce(1.0)
    assert [count for _, count, _ in submissions.sent] == [3, 2]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"rate": -1}, "--rate"), ({"bundle": 0}, "--bundle"), ({"bundle": 1025}, "--bundle"),
        ({"seconds": 0.0}, "--seconds"), ({"replay": "x"}, "--format"), ({"format": "lobster"}, "--replay"),
        ({"replay": "x", "format": "y"}, "one of lobster"), ({"instruments": "GOLD"}, "GOLD"),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_is_refused(change: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        Plan(**change).check()


def test_an_empty_recording_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "messages.csv"
    path.write_text("")
    plan = Plan(replay=str(path), format="lobster")
    with pytest.raises(ConfigurationError, match="no messages"):
        plan.recording()
