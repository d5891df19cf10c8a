"""The peers that a state is fetched from: how much each is asked for at a time, and who is left alone.

- An answer raises a peer's window by one request, up to what its measured rate fills in `AHEAD_US`.
- A request is for as many chunks as a peer sends in `PART_US`: each costs both sides some time, however large it is;
  but of `PART_CHUNKS_MIN`, if it sends these in `SLOW_PART_US`.
- A request may take twice as long as the peer's rate makes one expect, up to `EXPECTED_US_MAX`, and a time-out besides.
- One that is not answered in time sets the window to one, and the peer is left alone for a while, each time for twice
  as long; it is thought to be half as quick, or a slow link would be asked for more than it sends in time for ever.
  A stall costs at most that time-out; a trickle is a stall that never ends, and costs the same.
- A wrong answer bars the peer for good: no honest peer gives one.
"""

from dataclasses import dataclass, field
from typing import Final

from lockstep.ledger.table import CHUNK_BYTES
from lockstep.wire.message import STATE_CHUNKS_MAX

TIMEOUT_US: Final = 1_500_000
AHEAD_US: Final = 200_000
PART_US: Final = 20_000
PART_CHUNKS_MIN: Final = 1_024
UNKNOWN_RATE: Final = 1 << 20
"""Bytes a second: what halving begins with, of a peer that has not answered yet."""
SLOW_PART_US: Final = 1_000_000
EXPECTED_US_MAX: Final = 10_000_000
WINDOW_CHUNKS_MAX: Final = 16_384
SUSPENDED_US: Final = 1_000_000
SUSPENDED_DOUBLINGS_MAX: Final = 5


@dataclass(slots=True)
class StatePeer:
    """One peer, by what it did."""

    height: int = -1
    """Of the checkpoint that it serves; -1: it has not said."""
    gone: int = -1
    """The height that it said it doesn't serve any more."""
    window: int = 2
    asked: int = 0
    """Requests outstanding."""
    rate: int = 0
    """Bytes a second, over its answers."""
    latency_us: int = 0
    answers: int = 0
    stalls: int = 0
    resting_until_us: int = 0
    barred: str = ""
    """What it did wrong."""

    def may_ask(self, height: int, now_us: int) -> bool:
        """Whether another request may go to it."""
        ready = self.height == height and not self.barred and now_us >= self.resting_until_us
        return ready and self.asked < self.window

    @property
    def part_chunks(self) -> int:
        """How many chunks it is to be asked for in one request."""
        quick, slow = self._sent_in(PART_US), self._sent_in(SLOW_PART_US) if self.rate else PART_CHUNKS_MIN
        return min(max(quick, min(slow, PART_CHUNKS_MIN), 1), STATE_CHUNKS_MAX)

    def _sent_in(self, microseconds: int) -> int:
        return self.rate * microseconds // 1_000_000 // CHUNK_BYTES

    def allowed_us(self, size: int) -> int:
        """After how long an answer of so many bytes is too late."""
        expected = 2 * size * 1_000_000 // self.rate if self.rate else 0
        return TIMEOUT_US + min(2 * self.latency_us, TIMEOUT_US) + min(expected, EXPECTED_US_MAX)

    def answered(self, size: int, took_us: int) -> None:
        """It gave a good answer to one of its requests."""
        self.asked -= 1
        took_us = max(took_us, 1)
        rate = size * self.window * 1_000_000 // took_us  # the others of its window were under way in the same time
        self.rate = rate if not self.answers else (4 * self.rate + rate) // 5
        self.latency_us = took_us if not self.answers else (4 * self.latency_us + took_us) // 5
        self.answers += 1
        self.stalls = 0
        fills = 2 + AHEAD_US * self.window // max(self.latency_us, self.window)
        self.window = max(2, min(self.window + 1, fills, WINDOW_CHUNKS_MAX // max(self.part_chunks, PART_CHUNKS_MIN)))

    def stalled(self, now_us: int) -> None:
        """It did not answer in time."""
        self.asked -= 1
        self.window = 1
        if now_us < self.resting_until_us:
            return  # the others of its window, which are late together
        self.rate = max(1, (self.rate or UNKNOWN_RATE) // 2)
        self.resting_until_us = now_us + (SUSPENDED_US << min(self.stalls, SUSPENDED_DOUBLINGS_MAX))
        self.stalls += 1

    @property
    def score(self) -> int:
        """0 … 100, for people."""
        return 0 if self.barred else max(0, 100 - 20 * self.stalls)


@dataclass(slots=True)
class StatePeers:
    """All of them, by index."""

    peers: dict[int, StatePeer] = field(default_factory=dict)

    def of(self, peer: int) -> StatePeer:
        """The peer's entry, made if need be."""
        return self.peers.setdefault(peer, StatePeer())

    def ready(self, height: int, now_us: int) -> list[int]:
        """Who may be asked something, the one with the most room first. Where all who serve it are silent, it was the
        network, and one of them is asked all the same: a partition that heals must not leave everybody resting."""
        free = [(p.asked / p.window, index) for index, p in self.peers.items() if p.may_ask(height, now_us)]
        if free or any(p.asked for p in self.peers.values()):
            return [index for _, index in sorted(free)]
        silent = [(self.peers[index].resting_until_us, index) for index in self.serving(height)]
        return [index for _, index in sorted(silent)[:1]]

    def serving(self, height: int) -> list[int]:
        """Who serves this checkpoint and did nothing wrong."""
        return [index for index, p in sorted(self.peers.items()) if p.height == height and not p.barred]
