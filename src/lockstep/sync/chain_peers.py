"""The peers that blocks are replayed from: one request to each at a time, and who is left alone for how long.

- A request that is not answered in time lets the peer rest, each time for twice as long. Its answer is taken all the
  same when it comes: a slow link is no lie.
- An answer without blocks means that the peer has not got them (yet, or any more): it rests for a moment.
- A wrong answer bars the peer for good: no honest peer gives one.
"""

from dataclasses import dataclass, field
from typing import Final

TIMEOUT_US: Final = 1_000_000
LACKING_US: Final = 250_000
DOUBLINGS_MAX: Final = 5
PRUNED_LACKS: Final = 4
"""Saying that it has pruned the blocks counts as saying so often that it has none."""
ASKED_KEPT: Final = 16


@dataclass(slots=True)
class ChainPeer:
    """One peer, by what it did."""

    first: int = -1
    """The height from which it is asked for blocks at present; -1: it is not asked."""
    sent_us: int = 0
    due_us: int = 0
    asked: list[int] = field(default_factory=list)
    """Heights that it was asked for lately: an answer to one of these may be late, or come twice."""
    latency_us: int = 0
    pace: int = 0
    """Blocks in 1,000 seconds, over its answers: who trickles is asked last."""
    rate: int = 0
    """Bytes a second."""
    answers: int = 0
    stalls: int = 0
    """Requests in a row that it did not answer in time."""
    lacks: int = 0
    """Answers in a row without blocks, to requests for the same height,"""
    lacking: int = -1
    """which is this one."""
    resting_until_us: int = 0
    barred: str = ""
    """What it did wrong."""

    def is_ready(self, now_us: int) -> bool:
        """Whether it may be asked for something."""
        return self.first < 0 and not self.barred and now_us >= self.resting_until_us

    def ask(self, first: int, now_us: int) -> None:
        """A request goes to it."""
        self.first, self.sent_us = first, now_us
        self.due_us = now_us + TIMEOUT_US + min(2 * self.latency_us, TIMEOUT_US)
        self.asked = [*self.asked[1 - ASKED_KEPT :], first]

    def answered(self, first: int, blocks: int, size_bytes: int, now_us: int) -> None:
        """Blocks came from it, in time or late."""
        if first == self.first:
            took_us = max(now_us - self.sent_us, 1)
            keep = 4 if self.answers else 0
            self.latency_us = (keep * self.latency_us + took_us) // (keep + 1)
            self.pace = (keep * self.pace + blocks * 1_000_000_000 // took_us) // (keep + 1)
            self.rate = (keep * self.rate + size_bytes * 1_000_000 // took_us) // (keep + 1)
            self.first = -1
            self.answers += 1
        self.stalls = self.lacks = 0
        self.resting_until_us = 0

    def lacked(self, lowest: int, now_us: int) -> None:
        """It has nothing for us, since it has pruned what is below `lowest`, perhaps: then it won't have it later."""
        self.lacks = self.lacks + 1 if self.first == self.lacking else 1
        if self.first < lowest:
            self.lacks = max(self.lacks, PRUNED_LACKS)
        self.lacking, self.first = self.first, -1
        self.resting_until_us = now_us + (LACKING_US << min(self.lacks - 1, DOUBLINGS_MAX))
        self.stalls = 0

    def stalled(self, now_us: int) -> None:
        """It did not answer in time."""
        self.first = -1
        self.resting_until_us = now_us + (TIMEOUT_US << min(self.stalls, DOUBLINGS_MAX))
        self.stalls += 1

    def gone(self) -> None:
        """No connection is left, or nothing is wanted any more."""
        self.first = -1

    @property
    def score(self) -> int:
        """0 … 100, for people."""
        return 0 if self.barred else max(0, 100 - 20 * self.stalls)
