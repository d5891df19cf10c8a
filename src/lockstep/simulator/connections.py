"""Connections between nodes, as the runtime has them: one for each pair, dialled again for ever.

A connection has a number. What was sent on an older one never arrives. One that lost a message is broken: nothing more
arrives on it, and after a while both ends notice. A route is what everything from one node to another goes by.
"""

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from lockstep.simulator.network import Channel

if TYPE_CHECKING:
    from lockstep.simulator.simulated_node import SimulatedNode

RETRY_US_MIN: Final = 50_000
RETRY_US_MAX: Final = 250_000
NOTICE_US_MIN: Final = 20_000
NOTICE_US_MAX: Final = 2_000_000


@dataclass(slots=True)
class Connection:
    """Between two nodes' processes."""

    number: int = 0
    is_up: bool = False
    carries: int = 0
    """Its number while what is sent on it may arrive; 0 when it is down or broken."""
    retry_us: int = RETRY_US_MIN

    def begin(self) -> None:
        """A dial succeeded."""
        self.number += 1
        self.carries = self.number
        self.is_up = True
        self.retry_us = RETRY_US_MIN

    def end(self) -> None:
        """It is down, and both ends know."""
        self.is_up = False
        self.carries = 0


@dataclass(frozen=True, slots=True)
class Route:
    """From one node's process to another's: looked up once, not for every message."""

    source: "SimulatedNode"
    target: "SimulatedNode"
    connection: Connection
    """Of both directions."""
    channel: Channel


class Connections:
    """All of them, by pair of instances' numbers, in both orders."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._by_pair: dict[tuple[int, int], Connection] = {}

    def of(self, a: int, b: int) -> Connection:
        """The connection of a pair."""
        found = self._by_pair.get((a, b))
        if found is None:
            found = self._by_pair[(a, b)] = self._by_pair[(b, a)] = Connection()
        return found

    def notice_us(self) -> int:
        """How long until an end notices that a connection is gone without a word."""
        return self._random.randint(NOTICE_US_MIN, NOTICE_US_MAX)

    def next_dial_us(self, connection: Connection) -> int:
        """When to dial again. The delay grows while dialling fails."""
        delay = connection.retry_us
        connection.retry_us = min(RETRY_US_MAX, 2 * delay)
        return self._random.randint(delay // 2, delay)
