"""Whom a node that doesn't vote dials: some of the validators, and some others of its kind.

It is told addresses to begin with, and hears of others from those that it is connected to. An address that doesn't
answer, or turns this node away, is left alone for a while, each time for twice as long. What was only heard of is
forgotten when it fails again and again; no more than `ADDRESSES_KEPT` are remembered.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from lockstep.base.errors import ConfigurationError
from lockstep.runtime.address import parse_address

VALIDATOR_LINKS: Final = 2
"""Two, so that one that is cut off or withholds is noticed at once."""
OBSERVER_LINKS: Final = 3
ADDRESSES_KEPT: Final = 64
FAILURES_MAX: Final = 6
RETRY_SECONDS_MIN: Final = 0.25
RETRY_SECONDS_MAX: Final = 30.0
ALONE_SECONDS_MAX: Final = 2.0
"""Of waiting, while there is no connection at all."""


@dataclass(slots=True)
class Place:
    """One address."""

    host: str
    port: int
    validator: int | None = None
    """Who must answer there, if that is known."""
    is_given: bool = False
    """By the operator or the genesis: never forgotten."""
    is_busy: bool = False
    """Dialled now, or connected."""
    failures: int = 0
    due: float = 0.0


class Seeker:
    """The addresses, and which of them is to be dialled next."""

    def __init__(self, own: str, seed: int | None = None) -> None:
        """`own`: this node's address, as others hear of it."""
        self._own = own
        self._random = random.Random(seed)
        self._places: dict[str, Place] = {}

    def give(self, address: str, validator: int | None = None) -> None:
        """An address to begin with; raises `ConfigurationError`."""
        host, port = parse_address(address)
        self._places[address] = Place(host, port, validator, is_given=True)

    def heard(self, addresses: Iterable[str]) -> None:
        """Somebody says that nodes are at these addresses."""
        for address in addresses:
            if address in self._places or address == self._own:
                continue
            try:
                host, port = parse_address(address)
            except ConfigurationError:
                continue
            self._places[address] = Place(host, port)
            if len(self._places) > ADDRESSES_KEPT:
                self._forget_one()

    def next(self, validators: int, observers: int, now: float) -> Place | None:
        """Whom to dial, with so many of each kind connected or dialled already; None: nobody at present."""
        late = 0.0 if validators or observers else RETRY_SECONDS_MAX - ALONE_SECONDS_MAX
        ready = [place for place in self._places.values() if not place.is_busy and place.due - late <= now]
        wanted = [
            place
            for place in ready
            if (validators < VALIDATOR_LINKS if place.validator is not None else observers < OBSERVER_LINKS)
        ]
        if not wanted:
            return None
        place = self._random.choice(wanted)
        place.is_busy = True
        return place

    def ended(self, place: Place, was_good: bool, now: float) -> None:
        """The attempt, or the connection that came of it, is over. `was_good`: there was one, and no lie on it."""
        place.is_busy = False
        place.failures = 0 if was_good else place.failures + 1
        delay = min(RETRY_SECONDS_MAX, RETRY_SECONDS_MIN * 2.0**place.failures)
        place.due = now + delay * self._random.uniform(0.5, 1.0)
        if place.failures >= FAILURES_MAX and not place.is_given:
            self._places = {address: other for address, other in self._places.items() if other is not place}

    def busy(self) -> tuple[int, int]:
        """Places dialled or connected: of validators, of others."""
        busy = [place for place in self._places.values() if place.is_busy]
        of_validators = sum(1 for place in busy if place.validator is not None)
        return of_validators, len(busy) - of_validators

    def _forget_one(self) -> None:
        idle = [a for a, place in self._places.items() if not place.is_given and not place.is_busy]
        if idle:
            del self._places[self._random.choice(idle)]
