"""What a run achieved: windows of time, each with its commands, blocks, fills and delays.

A window counts what became final between its beginning and its end, by the driver's clock: a bundle when its fate
arrives, a block when the first validator reports it. The warm-up before the first window is not counted.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from lockstep.market.latency import Latencies


@dataclass(slots=True)
class Window:
    """One measured stretch of time. Times are the driver's monotonic seconds."""

    name: str
    began: float
    ended: float | None = None
    bundles: int = 0
    commands: int = 0
    blocks: int = 0
    fills: int = 0
    latencies: Latencies = field(default_factory=Latencies)

    def seconds(self, now: float) -> float:
        """Its length so far."""
        return (self.ended if self.ended is not None else now) - self.began

    def summary(self, now: float) -> dict[str, Any]:
        """As a JSON object."""
        seconds = max(self.seconds(now), 1e-9)
        return {
            "name": self.name,
            "seconds": round(seconds, 3),
            "blocks": self.blocks,
            "bundles": self.bundles,
            "commands_committed": self.commands,
            "commands_per_second": round(self.commands / seconds, 1),
            "fills": self.fills,
            "fills_per_second": round(self.fills / seconds, 1),
            "blocks_per_second": round(self.blocks / seconds, 1),
            "finality_ms": self.latencies.summary(),
            "finality_worst_ms": round(self.latencies.worst_ms, 2),
        }


class Meter:
    """Counts into the present window, and into totals that nothing resets."""

    def __init__(self, now: float) -> None:
        self.windows: list[Window] = []
        self.warm_up = Window("warm-up", now)
        self.total = Window("all", now)
        self.recent = Window("recent", now)
        self.refused: Counter[str] = Counter()
        """Refusals of honest bundles, by reason. Each is tried again."""
        self.turned_away: Counter[str] = Counter()
        """Bad traffic that was refused as it should be, by kind."""
        self.wronged: list[str] = []
        """Bad traffic that was not refused, or for the wrong reason; and outcomes that were lost."""
        self.outcomes: Counter[str] = Counter()
        """Outcomes of the commands of sampled bundles, by kind."""
        self.shed = 0
        """Commands that were offered but not submitted, because too many were on their way."""
        self.signed_again = 0
        self.sent_again = 0

    def begin(self, name: str, now: float) -> None:
        """End the present window and begin another."""
        self.end(now)
        self.windows.append(Window(name, now))

    def end(self, now: float) -> None:
        """End the present window."""
        present = self._present()
        if present.ended is None:
            present.ended = now

    def _present(self) -> Window:
        return self.windows[-1] if self.windows else self.warm_up

    def _open(self) -> list[Window]:
        return [window for window in (self._present(), self.total, self.recent) if window.ended is None]

    def bundle_final(self, commands: int, delay_ms: float) -> None:
        """A bundle became final, so long after it was due."""
        for window in self._open():
            window.bundles += 1
            window.commands += commands
            window.latencies.add(delay_ms)

    def block_final(self, fills: int) -> None:
        """A height became final somewhere for the first time."""
        for window in self._open():
            window.blocks += 1
            window.fills += fills

    def take_recent(self, now: float) -> Window:
        """What happened since the last call."""
        recent, self.recent = self.recent, Window("recent", now)
        recent.ended = now
        return recent
