"""A network of full nodes that only spread what validators publish: what an overlay costs, and how fast it is.

Each node runs `gossip.plumtree`; delays come from a latency table, and each node's uplink sends one message after the
other. No replicas: what is measured is the overlay.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from lockstep.gossip.plumtree import Config, Deliver, Effect, Misbehaved, Plumtree, SendTo, Verdict
from lockstep.simulator.latency import Table
from lockstep.wire.gossip import decode_gossip, encode_gossip

LINKS: Final = 4
"""Links that each node opens; it has about twice as many, counting those opened by others."""
UPLINK_BYTES_PER_SECOND: Final = 12_500_000
"""100 Mbit/s."""


@dataclass(slots=True)
class _Node:
    tree: Plumtree
    links: list[int]
    is_up: bool = True
    bytes_sent: int = 0
    free_us: int = 0
    """When the uplink has sent what was given to it."""
    arrived_us: dict[bytes, int] = field(default_factory=dict)
    timer_us: int | None = None


class Overlay:
    """`nodes` of them, linked at random: a connected graph."""

    def __init__(self, table: Table, nodes: int, seed: int, config: Config | None = None, links: int = LINKS) -> None:
        self._table = table
        self._random = Random(f"overlay-{seed}")
        self.now_us = 0
        self._heap: list[tuple[int, int, int, int | None, bytes]] = []
        """(time, number, node, sender, message); without a sender: a timer."""
        self._number = 0
        self.misbehaved: list[Misbehaved] = []
        self.on_deliver: Callable[[int, Deliver], None] = lambda index, delivered: None
        """Told every body that is new at a node."""
        self.nodes = [
            _Node(Plumtree(peers, lambda peer, body: Verdict.SPREAD, config), peers)
            for peers in random_graph(nodes, links, self._random)
        ]

    def publish(self, index: int, body: bytes) -> None:
        """A node, one of the first so many, spreads something new in its own tree."""
        node = self.nodes[index]
        self._carry(index, node.tree.publish(index, body, self.now_us))

    def crash(self, index: int) -> None:
        """A node is gone; its neighbours notice when their connections end."""
        node = self.nodes[index]
        node.is_up = False
        for peer in node.links:
            self.nodes[peer].tree.link_down(index)

    def run(self, microseconds: int) -> None:
        """Let time pass."""
        end_us = self.now_us + microseconds
        while self._heap and self._heap[0][0] <= end_us:
            self.now_us, _, index, sender, raw = heapq.heappop(self._heap)
            node = self.nodes[index]
            if not node.is_up:
                continue
            if sender is not None:
                self._carry(index, node.tree.said(sender, decode_gossip(raw), self.now_us))
            elif node.timer_us == self.now_us:
                node.timer_us = None
                self._carry(index, node.tree.tick(self.now_us))
        self.now_us = end_us

    def _carry(self, index: int, effects: list[Effect]) -> None:
        node = self.nodes[index]
        for effect in effects:
            match effect:
                case SendTo():
                    self._send(index, node, effect)
                case Deliver():
                    node.arrived_us[effect.key] = self.now_us
                    self.on_deliver(index, effect)
                case Misbehaved():
                    self.misbehaved.append(effect)
        due = node.tree.deadline()
        if due is not None and (node.timer_us is None or due < node.timer_us):
            node.timer_us = max(due, self.now_us)
            self._push(node.timer_us, index, None, b"")

    def _send(self, index: int, node: _Node, effect: SendTo) -> None:
        raw = encode_gossip(effect.message)
        node.bytes_sent += len(raw)
        node.free_us = max(node.free_us, self.now_us) + len(raw) * 1_000_000 // UPLINK_BYTES_PER_SECOND
        self._push(node.free_us + self._table.one_way_us(index, effect.peer, self._random), effect.peer, index, raw)

    def _push(self, time_us: int, index: int, sender: int | None, raw: bytes) -> None:
        self._number += 1
        heapq.heappush(self._heap, (time_us, self._number, index, sender, raw))


def random_graph(nodes: int, links: int, random: Random) -> list[list[int]]:
    """Neighbours of each node: a ring in random order, so that nobody is cut off, and random links beside it."""
    order = list(range(nodes))
    random.shuffle(order)
    peers: list[dict[int, None]] = [{} for _ in range(nodes)]

    def join(a: int, b: int) -> None:
        if a != b:
            peers[a][b] = peers[b][a] = None

    for place, index in enumerate(order):
        join(index, order[(place + 1) % nodes])
        for _ in range(links - 1):
            join(index, random.randrange(nodes))
    return [list(neighbours) for neighbours in peers]
