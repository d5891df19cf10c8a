"""Sends traffic that must be refused, one piece at a time, and checks what it gets."""

import asyncio
from collections.abc import Callable
from typing import Final

from lockstep.base.errors import Reason
from lockstep.gateway.link import Link
from lockstep.market.cast import Role, Trader
from lockstep.market.meter import Meter
from lockstep.market.mischief import Attempt, Mischief
from lockstep.wire.client import ClientReply, Goodbye, SubmitReply
from lockstep.wire.genesis import Genesis, Validator

_PATIENCE_SECONDS: Final = 3.0
_EXCUSES: Final = frozenset(
    reason.value
    for reason in (Reason.BUSY, Reason.RATE_LIMITED, Reason.HALTED, Reason.NOT_READY, Reason.BEHIND, Reason.DUPLICATE)
)
"""A node may always answer these instead: it looked no further, or can't judge."""


class Villain:
    """One connection to one validator."""

    def __init__(self, validator: Validator, mischief: Mischief, meter: Meter) -> None:
        self._name = validator.name
        self._mischief = mischief
        self._meter = meter
        self._waiting: Attempt | None = None
        self._since = 0.0
        self._link = Link(validator.client_address, validator.certificate, self._heard)
        self._link.start()

    async def close(self) -> None:
        """Leave."""
        await self._link.close()

    def attempt(self, final_height: int, final_bundle: bytes, now: float) -> None:
        """Try something, unless an answer is still due (not for ever: nodes get killed)."""
        client = self._link.client
        if client is None or (self._waiting is not None and now - self._since < _PATIENCE_SECONDS):
            return
        self._waiting = self._mischief.next(final_height, final_bundle)
        self._since = now
        client.send(self._waiting.frame)
        client.flush()

    def _heard(self, message: ClientReply) -> None:
        attempt = self._waiting
        if attempt is None or not isinstance(message, SubmitReply | Goodbye):
            return
        if attempt.reasons and isinstance(message, Goodbye):
            return  # the node stops, or is full; what it thinks of the attempt is not known
        self._waiting = None
        if isinstance(message, Goodbye) or message.reason in attempt.reasons:
            self._meter.turned_away[attempt.name] += 1
        elif message.reason not in _EXCUSES:
            verdict = f"refused as {message.reason!r}" if message.reason else "taken"
            self._meter.wronged.append(f"{self._name}: {attempt.name} was {verdict}")


class Villains:
    """One villain for each validator; they take turns."""

    def __init__(self, genesis: Genesis, cast: tuple[Trader, ...], seed: int, meter: Meter) -> None:
        account = next(trader for trader in cast if trader.role is Role.VILLAIN)
        self._turn = 0
        self._villains = [
            Villain(validator, Mischief(account, genesis.chain_id, seed + number), meter)
            for number, validator in enumerate(genesis.validators)
        ]

    def attempt(self, is_live: Callable[[int], bool], final_height: int, final_bundle: bytes, now: float) -> None:
        """The next one tries something, on a live validator: one that is behind may rightly take what others know
        to be used or expired."""
        for _ in self._villains:
            self._turn = (self._turn + 1) % len(self._villains)
            if is_live(self._turn):
                self._villains[self._turn].attempt(final_height, final_bundle, now)
                return

    async def close(self) -> None:
        """All leave."""
        await asyncio.gather(*(villain.close() for villain in self._villains))
