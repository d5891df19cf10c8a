"""Connections between nodes, as the runtime has them: one for each pair, dialled again for ever.

A connection has a number. What was sent on an older one never arrives. One that lost a message is broken: nothing more
arrives on it, and after a while both ends notice.
"""

from dataclasses import dataclass
from random import Random
from typing import Final

RETRY_US_MIN: Final = 50_000
RETRY_US_MAX: Final = 250_000
NOTICE_US_MIN: Final = 20_000
NOTICE_US_MAX: Final = 2_000_000


@dataclass(slots=True)
class Connection:
    """Between two nodes' processes."""

    number: int = 0
    is_up: bool = False
    is_broken: bool = False
    retry_us: int = RETRY_US_MIN


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
