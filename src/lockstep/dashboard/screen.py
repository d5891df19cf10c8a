"""What a screen shows, as plain data."""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from lockstep.market.report import Instrument, Progress

EVENTS_KEPT: Final = 6
HISTORY_KEPT: Final = 60


@dataclass(frozen=True, slots=True)
class ValidatorRow:
    """One validator: what it says of itself, and what its process is seen to do."""

    name: str
    state: str
    """syncing, live, lagging, stalled or halted as the node says; otherwise what its process does: starting, down …"""
    detail: str = ""
    view: int = 0
    height: int = 0
    final_height: int = 0
    lag_blocks: int = 0
    lag_ms: int = 0
    state_root: str = ""
    pool_bundles: int = 0
    peers: int = 0
    rss_mib: int = 0
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `alarm` is for what must not go unseen."""

    seconds: float
    text: str
    alarm: bool = False


@dataclass(slots=True)
class Screen:
    """Everything on the screen."""

    title: str
    phase: str = "starting"
    elapsed: float = 0.0
    seconds: float | None = None
    validators: tuple[ValidatorRow, ...] = ()
    instruments: tuple[Instrument, ...] = ()
    commands_per_second: float = 0.0
    fills_per_second: float = 0.0
    blocks_per_second: float = 0.0
    finality_p50_ms: float = 0.0
    finality_p99_ms: float = 0.0
    commands_committed: int = 0
    pending_commands: int = 0
    final_height: int = 0
    roots_agree: bool = True
    rates: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY_KEPT))
    """Recent commands a second, oldest first."""
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))

    def take(self, progress: Progress) -> None:
        """Take over what the driver reports about the venue."""
        self.phase = progress.phase
        self.elapsed = progress.elapsed
        self.instruments = progress.instruments
        self.commands_per_second = progress.commands_per_second
        self.fills_per_second = progress.fills_per_second
        self.blocks_per_second = progress.blocks_per_second
        if progress.finality_p50_ms:
            self.finality_p50_ms = progress.finality_p50_ms
            self.finality_p99_ms = progress.finality_p99_ms
        self.commands_committed = progress.commands_committed
        self.pending_commands = progress.pending_commands
        self.final_height = progress.final_height
        self.roots_agree = progress.roots_agree
        self.rates.append(progress.commands_per_second)
