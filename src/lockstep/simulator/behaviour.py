"""How a node may be made to misbehave: between its replica, which is an ordinary one, and the network.

A behaviour sees every message that its node sends, once for each recipient, and says what leaves instead. It holds
the node's key, so it may sign what it likes. It must draw chance from `node.random` only.
"""

from typing import TYPE_CHECKING, Protocol

from lockstep.wire.message import PeerMessage

if TYPE_CHECKING:
    from lockstep.simulator.simulated_node import SimulatedNode

Leaving = PeerMessage | bytes
"""A message, or raw bytes that may not be one."""


class Behaviour(Protocol):
    """One way to misbehave. One object belongs to one node."""

    name: str

    def outgoing(self, node: "SimulatedNode", peer: int, message: PeerMessage) -> list[Leaving]:
        """What is sent to `peer` in place of `message`; [] is silence."""

    def incoming(self, node: "SimulatedNode", peer: int, message: PeerMessage) -> PeerMessage | None:
        """What the node's own replica is told; None is deafness."""

    def tick(self, node: "SimulatedNode", now_us: int) -> list[tuple[int, Leaving]]:
        """(recipient, what) to send unasked. Called every `tick_us` of virtual time."""


class Honest:
    """Nothing is changed. A base for behaviours that change little."""

    name = "honest"
    tick_us = 50_000

    def outgoing(self, node: "SimulatedNode", peer: int, message: PeerMessage) -> list[Leaving]:
        """The message itself."""
        return [message]

    def incoming(self, node: "SimulatedNode", peer: int, message: PeerMessage) -> PeerMessage | None:
        """The message itself."""
        return message

    def tick(self, node: "SimulatedNode", now_us: int) -> list[tuple[int, Leaving]]:
        """Nothing."""
        return []
