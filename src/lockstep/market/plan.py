"""What a run is to be: how much of what, for how long, from which seed. And what follows from it for the genesis."""

from pathlib import Path

import msgspec

from lockstep.base.errors import ConfigurationError
from lockstep.base.limits import BUNDLE_COMMANDS_MAX
from lockstep.market import bitstamp, lobster
from lockstep.market.cast import TRADERS_DEFAULT, Trader, replay_traders, traders
from lockstep.market.flow import live_orders_for
from lockstep.market.listings import choose
from lockstep.market.recording import Recording
from lockstep.wire.genesis import Instrument

FORMATS = {"lobster": lobster, "bitstamp-l3": bitstamp}


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run of the driver."""

    genesis: str = ""
    """Path of the network's genesis file."""
    feed_key: str = ""
    """Path of the private key of its price feed."""
    seed: int = 1
    rate: int = 5_000
    """Commands a second offered; 0: as fast as they are accepted."""
    bundle: int = 256
    """Commands a bundle, at most."""
    seconds: float | None = None
    """Length of the measured window; None: until told to stop."""
    warm_up: float = 2.0
    instruments: str = ""
    replay: str | None = None
    format: str | None = None
    speed: float = 1.0
    resumed: bool = False
    """Whether the network has run before: blocks of then may still become final, and use sequences."""
    observers: tuple[str, ...] = ()
    """Homes, on this machine, of nodes that don't vote: they are watched, and not traded on."""

    def check(self) -> None:
        """Raise `ConfigurationError` when something can't be."""
        if self.rate < 0 or self.speed < 0 or self.warm_up < 0:
            raise ConfigurationError("--rate and --speed can't be negative")
        if not 1 <= self.bundle <= BUNDLE_COMMANDS_MAX:
            raise ConfigurationError(f"--bundle is 1 to {BUNDLE_COMMANDS_MAX} commands, not {self.bundle}")
        if self.seconds is not None and self.seconds <= 0:
            raise ConfigurationError("--seconds must be positive; leave it out to run until Ctrl-C")
        if (self.replay is None) != (self.format is None):
            raise ConfigurationError("--replay FILE and --format go together")
        if self.format is not None and self.format not in FORMATS:
            raise ConfigurationError(f"--format is one of {', '.join(FORMATS)}, not {self.format!r}")
        if self.replay is None:
            choose(self.instruments)

    def cast(self) -> tuple[Trader, ...]:
        """Who trades."""
        return traders(self.seed, TRADERS_DEFAULT) if self.replay is None else replay_traders(self.seed)

    def listed(self) -> tuple[Instrument, ...]:
        """What the genesis must list."""
        if self.format is not None:
            return (FORMATS[self.format].INSTRUMENT,)
        return tuple(listing.instrument for listing in choose(self.instruments))

    def recording(self) -> Recording | None:
        """The recording to replay, read; raises `ConfigurationError`."""
        if self.replay is None or self.format is None:
            return None
        recording: Recording = FORMATS[self.format].read(Path(self.replay))
        if not recording.messages:
            raise ConfigurationError(f"{self.replay} holds no messages")
        return recording

    @property
    def live_orders(self) -> int:
        """Resting orders to keep."""
        return live_orders_for(self.rate)
