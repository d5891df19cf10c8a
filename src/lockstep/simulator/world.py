"""A world of simulated nodes: virtual time, one heap of events, seeded faults.

Events are ordered by (time, number), randomness comes from one seeded stream per subsystem, and a running hash over
everything that happens makes two runs of one seed comparable.
"""

import heapq
from collections.abc import Callable
from random import Random

from lockstep.base.digest import ZERO_DIGEST, digest
from lockstep.base.keys import PrivateKey
from lockstep.simulator.network import Network
from lockstep.simulator.simulated_node import SimulatedNode
from lockstep.wire.genesis import Genesis
from lockstep.wire.message import PeerMessage, decode_message, encode_message

START_US = 1_700_000_000_000_000


class World:
    """`genesis`'s validators, all run by this process."""

    def __init__(self, genesis: Genesis, keys: list[PrivateKey], feed_key: bytes, seed: int) -> None:
        self.genesis = genesis
        self.now_us = START_US
        self.audit = ZERO_DIGEST
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        """(time, number, action); numbers differ, so actions are never compared."""
        self._number = 0
        self.network = Network(Random(f"network-{seed}"), len(keys))
        self.disk_random = Random(f"disk-{seed}")
        self.nodes = [SimulatedNode(self, genesis, index, key, feed_key) for index, key in enumerate(keys)]

    def after(self, delay_us: int, action: Callable[[], None]) -> None:
        """Do `action` later."""
        self._number += 1
        heapq.heappush(self._heap, (self.now_us + delay_us, self._number, action))

    def start(self) -> None:
        """Start every node and connect them."""
        for node in self.nodes:
            node.start()

    def run(self, microseconds: int) -> None:
        """Let virtual time pass."""
        end_us = self.now_us + microseconds
        while self._heap and self._heap[0][0] <= end_us:
            self.now_us, _, action = heapq.heappop(self._heap)
            action()
        self.now_us = end_us

    def run_until(self, condition: Callable[[], bool], microseconds: int) -> bool:
        """Let time pass until `condition` holds; False when it does not within the time."""
        end_us = self.now_us + microseconds
        while self._heap and self._heap[0][0] <= end_us:
            self.now_us, _, action = heapq.heappop(self._heap)
            action()
            if condition():
                return True
        return condition()

    def record(self, text: str) -> None:
        """Extend the audit hash."""
        self.audit = digest(self.audit + f"{self.now_us} {text}".encode())

    def transmit(self, source: int, target: int, message: PeerMessage) -> None:
        """Put an encoded message on the simulated wire; it is decoded, so checked, where it arrives."""
        raw = encode_message(message)
        incarnation = self.nodes[target].incarnation
        for delay_us in self.network.deliveries(source, target, self.now_us):
            self.after(delay_us, lambda: self._deliver(source, target, incarnation, raw))

    def _deliver(self, source: int, target: int, incarnation: int, raw: bytes) -> None:
        node = self.nodes[target]
        if node.is_up and node.incarnation == incarnation and self.network.is_open(source, target):
            self.record(f"{source}>{target} {digest(raw).hex()}")
            node.peer_said(source, decode_message(raw))
