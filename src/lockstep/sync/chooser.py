"""Replay or state: which is the shorter way to the head, by what was measured. Asked again and again while either runs.

Replaying costs the blocks behind, at the rate at which they become final here, less the rate at which new ones are
made. Fetching costs the bytes that are not known to be here, at the rate at which they came so far, and bringing what
was fetched into memory. Either is left only for one that is clearly shorter, since what was done for it is (partly)
lost.
"""

from dataclasses import dataclass
from typing import Final

BEHIND_BLOCKS_MIN: Final = 256
"""Less than this is always replayed."""
BLOCKS_PER_SECOND: Final = 1_000
"""Of replay, until it was measured."""
BYTES_PER_SECOND: Final = 60_000_000
"""Of fetching, until it was measured."""
START_MS: Final = 1_500
START_BYTES_PER_SECOND: Final = 400_000_000
"""Beginning anew from a state: at least so long, and what was fetched of it at this rate; the tables are in memory."""
NEVER_MS: Final = 1 << 40
_SPAN_US: Final = 500_000


@dataclass(slots=True)
class Pace:
    """How fast a height grows: over spans of half a second, smoothed."""

    rate: int = 0
    """Blocks in 1,000 seconds; 0 before the first span is over."""
    _height: int = -1
    _since_us: int = 0

    def at(self, height: int, now_us: int) -> None:
        """The height is this now."""
        if self._height < 0:
            self._height, self._since_us = height, now_us
        elapsed = now_us - self._since_us
        if elapsed >= _SPAN_US:
            rate = (height - self._height) * 1_000_000_000 // elapsed
            self.rate = (self.rate + rate) // 2 if self.rate else rate
            self._height, self._since_us = height, now_us

    def pause(self) -> None:
        """What comes next is not to be measured with what was."""
        self._height = -1


def replay_ms(behind: int, replay: Pace, network: Pace) -> int:
    """Until the head is reached by executing blocks; `NEVER_MS` when they are made as fast as they are run."""
    rate = (replay.rate or BLOCKS_PER_SECOND * 1_000) - network.rate
    return behind * 1_000_000 // rate if rate > 0 else NEVER_MS


def fetch_ms(left_bytes: int, done_bytes: int, measured: int) -> int:
    """Until a node runs from a state of which so many bytes were fetched, and so many are still to come at most, at
    `measured` bytes a second."""
    fetching = left_bytes * 1_000 // (measured or BYTES_PER_SECOND)
    return fetching + START_MS + (left_bytes + done_bytes) * 1_000 // START_BYTES_PER_SECOND


def is_clearly_shorter(one_ms: int, other_ms: int) -> bool:
    """Whether it pays to change: half as long again and a second are not worth it."""
    return one_ms * 3 // 2 + 1_000 < other_ms
