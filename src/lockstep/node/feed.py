"""What validators see: the price reports of this node's operator go out as signed observations, and the newest
observation of each validator is kept for the next block."""

from typing import Final

from lockstep.base.errors import Reason, Refused
from lockstep.base.limits import BLOCK_TIME_AHEAD_MS_MAX
from lockstep.node.context import Context
from lockstep.wire.client import PriceReport, verify_price_report
from lockstep.wire.message import ObservationBody
from lockstep.wire.observation import Observation, decode_observation, seal_observation

INTERVAL_MS_MIN: Final = 50
"""Observations of one validator closer together than this are not looked at: a bound on signature checks."""


class Feed:
    """Newest observations, by validator."""

    def __init__(self, ctx: Context, feed_key: bytes) -> None:
        self._ctx = ctx
        self._feed_key = feed_key
        self._latest: dict[int, Observation] = {}

    def latest(self) -> list[Observation]:
        """The newest of each validator, by index."""
        return [self._latest[v] for v in sorted(self._latest)]

    def is_verified(self, raw: bytes) -> bool:
        """Whether these bytes are an observation whose signature was checked on arrival."""
        return any(o.raw == raw for o in self._latest.values())

    def report(self, report: PriceReport) -> None:
        """The operator's price source reports; raises `Refused`."""
        ctx = self._ctx
        if not verify_price_report(report, self._feed_key, ctx.validators.chain_id):
            raise Refused(Reason.BAD_SIGNATURE, "the price report is not signed by this node's feed key")
        if len(report.prices) != len(ctx.genesis.instruments):
            raise Refused(Reason.MALFORMED, f"{len(report.prices)} prices, {len(ctx.genesis.instruments)} instruments")
        own = self._latest.get(ctx.index)
        time_ms = min(report.time_ms, ctx.now_ms)
        if not any(report.prices) or (own is not None and time_ms < own.time_ms + INTERVAL_MS_MIN):
            return
        observation = seal_observation(ctx.key, ctx.validators.chain_id, ctx.index, time_ms, report.prices)
        self._latest[ctx.index] = observation
        ctx.broadcast(ObservationBody(observation.raw))

    def arrived(self, peer: int, raw: bytes) -> None:
        """A peer's observation; raises `Refused`."""
        observation = decode_observation(raw)
        if observation.validator != peer:
            raise Refused(Reason.BAD_OBSERVATION, "validators send their own observations only")
        known = self._latest.get(peer)
        if known is not None and observation.time_ms < known.time_ms + INTERVAL_MS_MIN:
            return
        if len(observation.prices) != len(self._ctx.genesis.instruments) or not any(observation.prices):
            raise Refused(Reason.BAD_OBSERVATION, "an observation has one price for each instrument, not all zero")
        if observation.time_ms > self._ctx.now_ms + BLOCK_TIME_AHEAD_MS_MAX:
            return  # nobody can say whose clock is wrong: it may be ours
        if not observation.signed_by(self._ctx.validators):
            raise Refused(Reason.BAD_SIGNATURE, "the observation is not signed by its validator")
        self._latest[peer] = observation
