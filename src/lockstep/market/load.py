"""What a driver puts on a venue: a seeded market's flow at a rate, or a recording at its own pace.

A load knows prices and commands; it is asked to `produce`, submits through the dispatcher, and says when it wants
to be asked again. Times are the driver's monotonic seconds.
"""

from itertools import cycle
from typing import Any, Final, Protocol

import numpy as np

from lockstep.market.dispatch import Dispatcher
from lockstep.market.flow import Flow
from lockstep.market.index import IndexPath
from lockstep.market.meter import Meter
from lockstep.market.replay import Replay
from lockstep.wire.client import Fate

WINDOW_COMMANDS: Final = 102_400
"""On their way at rate 0: five full blocks, one in each stage from the pool to finality."""
BACKLOG_SECONDS: Final = 3.0
"""At a given rate, what is on its way may pile up to so many seconds' worth; what is offered beyond it is shed."""
_BUNDLES_PER_SECOND: Final = 100
"""At low rates bundles are made smaller rather than rarer: a command doesn't wait for others to fill its bundle."""
_TIMER_SECONDS: Final = 0.002
_BUNDLES_PER_TURN: Final = 16
_IDLE_SECONDS: Final = 0.005

Observed = np.ndarray[Any, Any]


class Load(Protocol):
    """Something that submits."""

    def prices(self) -> Observed:
        """Index prices now, (instruments,) int64 ticks; a step of the path is taken each time."""

    def produce(self, now: float) -> float:
        """Submit what is due; returns the seconds until it wants to be asked again."""

    def settled(self, account: int, sequence: int, fate: Fate) -> None:
        """A bundle of ours is final."""

    @property
    def is_done(self) -> bool:
        """Whether nothing more will come."""


def bundle_size(rate: int, limit: int) -> int:
    """Commands a bundle at this rate: `limit`, or fewer where bundles would be rarer than a hundred a second."""
    return limit if rate == 0 else max(1, min(limit, rate // _BUNDLES_PER_SECOND))


class FlowLoad:
    """The seeded market: at `rate` commands a second, or (0) as fast as they are accepted."""

    def __init__(
        self, flow: Flow, index: IndexPath, dispatcher: Dispatcher, meter: Meter, rate: int, bundle: int
    ) -> None:
        self._flow = flow
        self._index = index
        self._dispatcher = dispatcher
        self._meter = meter
        self._rate = rate
        self._bundle = bundle
        self._turns = cycle(flow.schedule)
        self._began: float | None = None
        self._offered = 0
        self.is_done = False

    def prices(self) -> Observed:
        """Walk the index one step."""
        prices = self._index.step()
        self._flow.observe(prices)
        return prices

    def produce(self, now: float) -> float:
        """Submit what is due, or what fits the window."""
        return self._at_rate(now) if self._rate else self._as_accepted(now)

    def settled(self, account: int, sequence: int, fate: Fate) -> None:
        """Nothing depends on it."""

    def _at_rate(self, now: float) -> float:
        if self._began is None:
            self._began = now
        while (due := self._began + self._offered * self._bundle / self._rate) <= now:
            self._offered += 1
            # A timer's rounding is not a delay of the venue's making; anything longer is counted into it.
            counted_from = due if now - due > _TIMER_SECONDS else now
            is_backed_up = self._dispatcher.pending_commands > self._rate * BACKLOG_SECONDS
            if is_backed_up or not self._submit(counted_from, now):
                self._meter.shed += self._bundle
        return due - now

    def _as_accepted(self, now: float) -> float:
        for _ in range(_BUNDLES_PER_TURN):
            if self._dispatcher.pending_commands + self._bundle > WINDOW_COMMANDS or not self._submit(now, now):
                return _IDLE_SECONDS
        return 0.0

    def _submit(self, due: float, now: float) -> bool:
        """One bundle of the next trader that can send; False when none can."""
        for _ in range(len(self._flow.schedule)):
            account = next(self._turns)
            if self._dispatcher.can_submit(account):
                self._dispatcher.submit(account, self._flow.commands(account, self._bundle), due, now)
                return True
        return False


class ReplayLoad:
    """A recording, at `speed` times its own pace, or (0) as fast as its order allows."""

    def __init__(self, replay: Replay, dispatcher: Dispatcher, speed: float, bundle: int) -> None:
        self._replay = replay
        self._dispatcher = dispatcher
        self._speed = speed
        self._bundle = bundle
        self._numbers: dict[tuple[int, int], int] = {}
        self._began: float | None = None
        self._first_us = replay.recording.messages[0].time_us
        self._price = next((mid for mid in replay.recording.mids if mid), 1)

    @property
    def is_done(self) -> bool:
        """Whether all of it is final."""
        return self._replay.is_done

    def prices(self) -> Observed:
        """The recorded mid at this point."""
        self._price = self._replay.mid or self._price
        return np.array([self._price], dtype=np.int64)

    def produce(self, now: float) -> float:
        """Submit what may be sent by now."""
        if self._began is None:
            self._began = now
        passed_us = int((now - self._began) * self._speed * 1e6) if self._speed else 1 << 61
        for bundle in self._replay.take(self._first_us + passed_us, self._bundle):
            sequence = self._dispatcher.submit(bundle.account, bundle.commands, now, now)
            self._numbers[bundle.account, sequence] = bundle.number
        return _IDLE_SECONDS

    def settled(self, account: int, sequence: int, fate: Fate) -> None:
        """Learn what became of it."""
        number = self._numbers.pop((account, sequence), None)
        if number is not None:
            self._replay.settled(number, fate.outcomes)
