"""The simulated network: delays, bandwidth, loss, duplication, reordering, partitions, and nodes that are slow or deaf.

Two ways of losing a message. On raw links (`streams` off) it is just gone, which no TCP connection does; it is the
harsher of the two, and every protocol here must stand it. With `streams`, what is lost takes its connection with it:
nothing later on that connection arrives, both ends notice after a while, and dial again (see `connections`).
Messages of one link arrive in the order in which they were sent, but for those that `reorder_permille` picks.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from lockstep.simulator.chance import chance, draw

PERMILLE = 1_000


class Delays(Protocol):
    """A table of delays."""

    def one_way_us(self, source: int, target: int, random: Random) -> int:
        """How long one message travels."""


@dataclass(slots=True)
class Network:
    """Probabilities are integer shares of 1000. Links are directed pairs of validators' indexes."""

    random: Random
    nodes: int
    table: Delays | None = None
    """None: uniform delays between the next two."""
    delay_us_min: int = 500
    delay_us_max: int = 3_000
    loss_permille: int = 0
    duplicate_permille: int = 0
    reorder_permille: int = 0
    reorder_us: int = 20_000
    """A message that is reordered takes up to so much longer, and others may overtake it."""
    bytes_per_second: int = 0
    """Of each link; 0 is no limit. What does not fit waits."""
    streams: bool = False
    closed: dict[tuple[int, int], None] = field(default_factory=dict)
    """Links that carry nothing at present."""
    slow_us: dict[int, int] = field(default_factory=dict)
    """Node → what each of its messages takes longer."""
    deaf: dict[int, None] = field(default_factory=dict)
    """Nodes that accept everything and never hear it."""
    delivered: int = 0
    lost: int = 0
    fired: dict[str, int] = field(default_factory=dict)
    """Fault → how often."""
    _free_us: dict[tuple[int, int], int] = field(default_factory=dict)
    _arrived_us: dict[tuple[int, int], int] = field(default_factory=dict)

    def deliveries(self, source: int, target: int, size: int, now_us: int) -> list[int]:
        """Times at which copies of a message sent now arrive; [] when it is lost."""
        link = (source, target)
        if link in self.closed:
            self.lost += 1
            return []
        if self.loss_permille and chance(self.random, self.loss_permille, PERMILLE):
            self.lost += 1
            self.fire("loss")
            return []
        self.delivered += 1
        arrives = [self._arrival(link, size, now_us)]
        if self.duplicate_permille and not self.streams and chance(self.random, self.duplicate_permille, PERMILLE):
            self.fire("duplicate")
            arrives.append(self._arrival(link, size, now_us))
        return arrives

    def _arrival(self, link: tuple[int, int], size: int, now_us: int) -> int:
        leaves_us = now_us
        if self.bytes_per_second:
            leaves_us = max(now_us, self._free_us.get(link, 0)) + size * 1_000_000 // self.bytes_per_second
            self._free_us[link] = leaves_us
            if leaves_us > now_us + 5_000:
                self.fire("queueing")
        source, target = link
        if self.table is None:
            travel_us = draw(self.random, self.delay_us_min, self.delay_us_max)
        else:
            travel_us = self.table.one_way_us(source, target, self.random)
        if self.slow_us:
            travel_us += self.slow_us.get(source, 0) + self.slow_us.get(target, 0)
        arrives_us = leaves_us + travel_us
        if self.reorder_permille and not self.streams and chance(self.random, self.reorder_permille, PERMILLE):
            self.fire("reorder")
            return arrives_us + self.random.randint(1, self.reorder_us)
        before_us = self._arrived_us.get(link, 0)
        if arrives_us < before_us:
            return before_us
        self._arrived_us[link] = arrives_us
        return arrives_us

    def fire(self, fault: str) -> None:
        """A fault did something."""
        self.fired[fault] = self.fired.get(fault, 0) + 1

    def is_open(self, source: int, target: int) -> bool:
        """Whether the directed link carries messages."""
        return (source, target) not in self.closed

    def begin_stream(self, a: int, b: int) -> None:
        """A new connection: nothing of the old one is waited for."""
        for link in ((a, b), (b, a)):
            self._free_us.pop(link, None)
            self._arrived_us.pop(link, None)

    def close(self, source: int, target: int) -> None:
        """Close one direction of one link."""
        self.closed[(source, target)] = None

    def partition(self, *groups: list[int]) -> None:
        """Close every link between different groups, and open all others."""
        self.heal()
        place = {node: number for number, group in enumerate(groups) for node in group}
        for a in range(self.nodes):
            for b in range(self.nodes):
                if place.get(a) != place.get(b):
                    self.closed[(a, b)] = None

    def heal(self) -> None:
        """Open every link."""
        self.closed.clear()

    def reset(self) -> None:
        """No faults any more; delays and bandwidth stay."""
        self.heal()
        self.loss_permille = self.duplicate_permille = self.reorder_permille = 0
        self.slow_us.clear()
        self.deaf.clear()
