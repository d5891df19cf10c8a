"""Nodes that take bundles and finalise blocks, without any of the project's machinery: what they would tell a reader,
and what must therefore come before what. Bundles are numbers."""

from dataclasses import dataclass, field

from lockstep.sync.merge import FinalBlock, Told
from lockstep.wire.stream import Clock, LocalEvent, LocalKind, Point, clock_of

RING = 6
"""What a node keeps of what it said: little, so that slow readers miss something."""


@dataclass
class Node:
    """One node's memory; `disk` survives a restart."""

    number: int
    epoch: int = 1
    said: list[LocalEvent] = field(default_factory=list)
    stamps: dict[int, Point] = field(default_factory=dict)
    """Bundle → where the node that took it said so."""
    heard: dict[int, Point] = field(default_factory=dict)
    height: int = 0
    told: dict[int, tuple[Clock, bool]] = field(default_factory=dict)
    """Clocks of the blocks that became final in this epoch."""

    def say(self, kind: LocalKind, clock: Clock, after: int, bundle: int = 0) -> LocalEvent:
        """`after`: the height of the newest block that the clock's own events came after."""
        height = max(self.height, after, self.said[-1].height if self.said else 0)
        event = LocalEvent(len(self.said) + 1, kind, height, clock, bytes(32), 0, bundle, "")
        self.said.append(event)
        return event


class Said:
    """All of them, the one chain of blocks, and who said what when."""

    def __init__(self, count: int) -> None:
        self.nodes = [Node(number) for number in range(count)]
        self.blocks: list[list[int]] = []
        self.pending: list[int] = []
        self.taken: dict[int, tuple[int, int, int]] = {}
        """Bundle → (node, epoch, sequence)."""
        self.everything: dict[tuple[int, int, int], LocalEvent] = {}
        for node in self.nodes:
            self._say(node, LocalKind.STARTED, ())

    def _say(self, node: Node, kind: LocalKind, clock: Clock, bundle: int = 0) -> LocalEvent:
        after = max((self.everything[p.node, p.epoch, p.sequence].height for p in clock), default=0)
        event = node.say(kind, clock, after, bundle)
        self.everything[node.number, node.epoch, event.sequence] = event
        return event

    def take(self, number: int, reached: list[bool], follows: bool) -> None:
        """A bundle is taken; `reached` says which nodes have it from here. With `follows`, the client came from others:
        this comes after everything that the node has heard."""
        node, bundle = self.nodes[number], len(self.taken) + 1
        event = self._say(node, LocalKind.TAKEN, clock_of(node.heard.values()) if follows else (), bundle)
        point = Point(number, node.epoch, event.sequence)
        self.taken[bundle] = number, node.epoch, event.sequence
        self.pending.append(bundle)
        for other, is_reached in zip(self.nodes, reached, strict=True):
            if other is node or is_reached:
                other.stamps[bundle] = point
            if other is not node and is_reached:
                other.heard[number] = point

    def order(self, count: int) -> None:
        """A block is agreed on. Some node has it at once."""
        chosen, self.pending = self.pending[:count], self.pending[count:]
        self.blocks.append(chosen)

    def finalise(self, number: int) -> None:
        """The node's next block is final there."""
        node = self.nodes[number]
        if node.height == len(self.blocks):
            return
        bundles = self.blocks[node.height]
        node.height += 1
        clock = clock_of(node.stamps[b] for b in bundles if b in node.stamps)
        node.told[node.height] = clock, all(bundle in node.stamps for bundle in bundles)

    def restart(self, number: int) -> None:
        """Everything but the chain is forgotten."""
        old = self.nodes[number]
        self.nodes[number] = Node(number, old.epoch + 1, height=old.height)
        self._say(self.nodes[number], LocalKind.STARTED, ())

    def answer(self, number: int, place: tuple[int, int, int], limit: int) -> Told:
        """What the node tells who asks from `place`."""
        node, (height, epoch, sequence) = self.nodes[number], place
        if epoch == 0:
            sequence = len(node.said)
        elif epoch != node.epoch:
            sequence = 0
        oldest = max(1, len(node.said) - RING + 1)
        local = [event for event in node.said[oldest - 1 :] if event.sequence > sequence][:limit]
        blocks = tuple(self._block(node, h) for h in range(height, min(node.height, height + limit - 1) + 1))
        return Told(number, node.epoch, oldest, len(node.said), node.height, blocks, tuple(local))

    def _block(self, node: Node, height: int) -> FinalBlock:
        clock, is_settled = node.told.get(height, ((), not self.blocks[height - 1]))
        return FinalBlock(height, b"block %d" % height, clock, is_settled, tuple(self.blocks[height - 1]))
