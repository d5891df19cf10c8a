"""What the driver knows about the validators: their states, their blocks, whether their roots agree."""

from collections import Counter
from typing import Any, Final

import numpy as np

from lockstep.market.meter import Meter
from lockstep.market.report import Instrument, Progress, Validator, short_status
from lockstep.market.roots import RootCheck
from lockstep.venue.event import EVENT, EventFlag, EventKind, EventReason
from lockstep.wire.client import BlockFinal, StatusReply
from lockstep.wire.genesis import Genesis

_OLD_SECONDS: Final = 2.0


class Observer:
    """Follows all validators of a network."""

    def __init__(self, genesis: Genesis, meter: Meter) -> None:
        self._genesis = genesis
        self._meter = meter
        self._statuses: list[StatusReply | None] = [None] * len(genesis.validators)
        self._connected = [False] * len(genesis.validators)
        self._began = meter.total.began
        self.roots = RootCheck()
        self.phase = "connecting"
        self._aging: tuple[bytes, float] = (b"", 0.0)
        self._old = b""

    # -- what comes in --------------------------------------------------------------------------------

    def connected(self, validator: int, is_up: bool) -> None:
        """A connection came up or went."""
        self._connected[validator] = is_up
        if not is_up:
            self._statuses[validator] = None

    def status(self, validator: int, status: StatusReply) -> None:
        """A validator says how it is."""
        self._statuses[validator] = status

    def block(self, validator: int, block: BlockFinal) -> None:
        """A validator says that a block is final there."""
        if self.roots.note(validator, block):
            self._meter.block_final(block.fills)

    def sample(self, outcomes: bytes) -> None:
        """Outcome records of a bundle that was picked for a look."""
        self._meter.outcomes.update(count_outcomes(outcomes))

    # -- questions ------------------------------------------------------------------------------------

    def is_live(self, validator: int) -> bool:
        """Whether it is connected and says that it is live."""
        status = self._statuses[validator]
        return status is not None and status.state == "live"

    @property
    def all_live(self) -> bool:
        """Whether every validator is."""
        return all(self.is_live(v) for v in range(len(self._statuses)))

    @property
    def quorum_live(self) -> bool:
        """Whether validators with more than 2/3 of the stake are."""
        validators = self._genesis.validators
        stake = sum(validator.stake for v, validator in enumerate(validators) if self.is_live(v))
        return 3 * stake > 2 * sum(validator.stake for validator in validators)

    @property
    def any_live(self) -> int:
        """The first validator that is; 0 if none is."""
        return next((v for v in range(len(self._statuses)) if self.is_live(v)), 0)

    @property
    def final_height(self) -> int:
        """The highest final height that a connected validator tells."""
        return max((status.final_height for status in self._statuses if status is not None), default=0)

    @property
    def has_prices(self) -> bool:
        """Whether every instrument has a fresh mark price, as every connected validator tells."""
        statuses = [status for status in self._statuses if status is not None]
        return bool(statuses) and all(
            status.instruments and not any(i.stale for i in status.instruments) for status in statuses
        )

    def common(self) -> BlockFinal | None:
        """The newest block that every connected validator has reported final."""
        return self.roots.common([v for v, up in enumerate(self._connected) if up])

    def old_bundle(self, last_final: bytes, now: float) -> bytes:
        """A bundle that became final so long ago that every live validator knows it."""
        if now - self._aging[1] > _OLD_SECONDS:
            self._old, self._aging = self._aging[0], (last_final, now)
        return self._old

    # -- reports --------------------------------------------------------------------------------------

    def progress(self, now: float, pending_commands: int, observers: tuple[Validator, ...] = ()) -> Progress:
        """How the run stands. `observers`: the nodes that don't vote."""
        window = self._meter.take_recent(now)
        recent, total = window.summary(now), self._meter.total
        best = max((s for s in self._statuses if s is not None), key=lambda s: s.final_height, default=None)
        return Progress(
            phase=self.phase,
            elapsed=round(now - self._began, 3),
            validators=tuple(
                short_status(validator.name, up, status)
                for validator, up, status in zip(self._genesis.validators, self._connected, self._statuses, strict=True)
            ),
            observers=observers,
            instruments=()
            if best is None
            else tuple(
                Instrument(i.symbol, i.best_bid, i.best_ask, i.mark, i.stale, i.open_interest, i.volume)
                for i in best.instruments
            ),
            commands_per_second=recent["commands_per_second"],
            fills_per_second=recent["fills_per_second"],
            blocks_per_second=recent["blocks_per_second"],
            finality_p50_ms=recent["finality_ms"]["p50"],
            finality_p99_ms=recent["finality_ms"]["p99"],
            commands_committed=total.commands,
            blocks=total.blocks,
            pending_commands=pending_commands,
            final_height=self.roots.newest,
            roots_agree=not self.roots.disagreements,
            notes=tuple(self._meter.wronged[-3:]),
        )

    def result(self, now: float) -> dict[str, Any]:
        """The result of the run, as far as the driver knows it. The figures are those of the first measured window;
        all windows are listed besides."""
        meter, common = self._meter, self.common()
        windows = [window.summary(now) for window in meter.windows] or [meter.warm_up.summary(now)]
        first = windows[0]
        return {
            "validators": len(self._statuses),
            "bytes_out": [
                {"validators": status.validators_bytes_out, "observers": status.observers_bytes_out}
                for status in self._statuses
                if status is not None
            ],
            **{key: first[key] for key in ("seconds", "blocks", "commands_committed", "commands_per_second", "fills")},
            "finality_ms": first["finality_ms"],
            "final_height": common.height if common else 0,
            "state_root": common.state_root.hex() if common else "",
            "roots_agree": not self.roots.disagreements and self.roots.compared > 0 and common is not None,
            "heights_compared": self.roots.compared,
            "disagreements": [
                {"height": d.height, "validators": d.validators, "roots": d.roots} for d in self.roots.disagreements
            ],
            "windows": windows,
            "commands_committed_in_all": meter.total.commands,
            "refused": dict(meter.refused),
            "bad_traffic_refused": dict(meter.turned_away),
            "violations": list(meter.wronged),
            "sampled_outcomes": dict(meter.outcomes.most_common()),
            "shed_commands": meter.shed,
            "sent_again": meter.sent_again,
            "signed_again": meter.signed_again,
        }


def count_outcomes(outcomes: bytes) -> Counter[str]:
    """EVENT rows → how many commands ended how; rejections and cancellations with their reason."""
    rows = np.frombuffer(outcomes, EVENT)
    rows = rows[rows["flags"] & EventFlag.OUTCOME != 0]
    pairs, counts = np.unique(rows[["kind", "reason"]], return_counts=True)
    named: Counter[str] = Counter()
    for (kind, reason), count in zip(pairs.tolist(), counts.tolist(), strict=True):
        name = EventKind(kind).name.lower()
        named[f"{name}: {EventReason(reason).name.lower().replace('_', '-')}" if reason else name] += count
    return named
