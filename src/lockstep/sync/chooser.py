"""Replay or state: which is the shorter way to the head, by what was measured. Asked again and again while either runs.

Replaying costs the blocks behind, at the rate at which they become final here, less the rate at which new ones are
made. Fetching costs the bytes that the checkpoint has at most, at the rate at which they came so far, and the start
from it. Either is left only for one that is clearly shorter, since what was done for it is (partly) lost.
"""

from dataclasses import dataclass
from typing import Final

BEHIND_BLOCKS_MIN: Final = 256
"""Less than this is always replayed."""
BLOCKS_PER_SECOND: Final = 1_000.0
"""Of replay, until it was measured."""
BYTES_PER_SECOND: Final = 60e6
"""Of fetching, until it was measured."""
START_SECONDS: Final = 1.5
START_BYTES_PER_SECOND: Final = 400e6
"""Beginning anew from a state: at least so long, and its bytes at this rate."""
CLEARLY: Final = 1.5
_SPAN_US: Final = 500_000


@dataclass(slots=True)
class Pace:
    """How fast a height grows: over spans of half a second, smoothed."""

    rate: float = 0.0
    """Blocks a second; 0 before the first span is over."""
    _height: int = -1
    _since_us: int = 0

    def at(self, height: int, now_us: int) -> None:
        """The height is this now."""
        if self._height < 0:
            self._height, self._since_us = height, now_us
        elapsed = now_us - self._since_us
        if elapsed >= _SPAN_US:
            rate = (height - self._height) * 1e6 / elapsed
            self.rate = rate if self.rate == 0.0 else 0.5 * (self.rate + rate)
            self._height, self._since_us = height, now_us

    def pause(self) -> None:
        """What comes next is not to be measured with what was."""
        self._height = -1


def replay_seconds(behind: int, replay: Pace, network: Pace) -> float:
    """Until the head is reached by executing blocks; a very long time when they are made as fast as they are run."""
    rate = (replay.rate or BLOCKS_PER_SECOND) - network.rate
    return behind / rate if rate > 0 else 1e9


def fetch_seconds(left_bytes: int, state_bytes: int, measured: float) -> float:
    """Until a node runs from a state of which so many bytes are still to come."""
    return left_bytes / (measured or BYTES_PER_SECOND) + START_SECONDS + state_bytes / START_BYTES_PER_SECOND


def is_clearly_shorter(seconds: float, other: float) -> bool:
    """Whether it pays to change."""
    return CLEARLY * seconds + 1.0 < other
