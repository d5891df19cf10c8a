"""The simulated network: delays, bandwidth, loss, duplication, reordering, partitions, and nodes that are slow or deaf.

Two ways of losing a message. On raw links (`streams` off) it is just gone, which no TCP connection does; it is the
harsher of the two, and every protocol here must stand it. With `streams`, what is lost takes its connection with it:
nothing later on that connection arrives, both ends notice after a while, and dial again (see `connections`).
Messages of one link arrive in the order in which they were sent, but for those that `reorder_permille` picks.
"""

from dataclasses import dataclass, field
from random import Random

from lockstep.simulator.chance import chance, draw
from lockstep.simulator.latency import Link, Table

PERMILLE = 1_000


@dataclass(slots=True)
class Channel:
    """One direction between two validators."""

    source: int
    target: int
    delays: Link | None
    """None: uniform."""
    free_us: int = 0
    """When everything sent so far has left, where there is a limit of bytes."""
    arrived_us: int = 0
    """When the last message arrives that was not reordered."""


@dataclass(slots=True)
class Network:
    """Probabilities are integer shares of 1000. Links are directed pairs of validators' indexes."""

    random: Random
    nodes: int
    table: Table | None = None
    """None: uniform delays between the next two. Set by `use`."""
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
    fired: dict[str, int] = field(default_factory=dict)
    """Fault → how often."""
    _channels: dict[tuple[int, int], Channel] = field(default_factory=dict)

    def use(self, table: Table) -> None:
        """Delays as in this table from now on."""
        self.table = table
        for channel in self._channels.values():
            channel.delays = table.link(channel.source, channel.target)

    def channel(self, source: int, target: int) -> Channel:
        """From one validator to another; always the same one."""
        found = self._channels.get((source, target))
        if found is None:
            delays = None if self.table is None else self.table.link(source, target)
            found = self._channels[(source, target)] = Channel(source, target, delays)
        return found

    def deliveries(self, channel: Channel, size: int, now_us: int) -> tuple[int, ...]:
        """Times at which copies of a message sent now arrive; () when it is lost."""
        if self.closed and (channel.source, channel.target) in self.closed:
            return ()
        if self.loss_permille and chance(self.random, self.loss_permille, PERMILLE):
            self.fire("loss")
            return ()
        at_us = self._arrival(channel, size, now_us)
        if self.duplicate_permille and not self.streams and chance(self.random, self.duplicate_permille, PERMILLE):
            self.fire("duplicate")
            return at_us, self._arrival(channel, size, now_us)
        return (at_us,)

    def _arrival(self, channel: Channel, size: int, now_us: int) -> int:
        delays = channel.delays
        if delays is None:
            at_us = now_us + draw(self.random, self.delay_us_min, self.delay_us_max)
        else:
            at_us = now_us + delays.draw_us(self.random)
        if self.bytes_per_second:
            at_us += self._queued_us(channel, size, now_us)
        if self.slow_us:
            at_us += self.slow_us.get(channel.source, 0) + self.slow_us.get(channel.target, 0)
        if self.reorder_permille and not self.streams and chance(self.random, self.reorder_permille, PERMILLE):
            self.fire("reorder")
            return at_us + self.random.randint(1, self.reorder_us)
        if at_us < channel.arrived_us:
            return channel.arrived_us
        channel.arrived_us = at_us
        return at_us

    def _queued_us(self, channel: Channel, size: int, now_us: int) -> int:
        """From now until the message's last byte has left."""
        waits_us = max(now_us, channel.free_us) + size * 1_000_000 // self.bytes_per_second - now_us
        channel.free_us = now_us + waits_us
        if waits_us > 5_000:
            self.fire("queueing")
        return waits_us

    def fire(self, fault: str) -> None:
        """A fault did something."""
        self.fired[fault] = self.fired.get(fault, 0) + 1

    def is_open(self, source: int, target: int) -> bool:
        """Whether the directed link carries messages."""
        return (source, target) not in self.closed

    def begin_stream(self, a: int, b: int) -> None:
        """A new connection: nothing of the old one is waited for."""
        for channel in (self.channel(a, b), self.channel(b, a)):
            channel.free_us = channel.arrived_us = 0

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
