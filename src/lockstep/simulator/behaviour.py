"""How a node may be made to misbehave: between its replica, which is an ordinary one, and the network.

A behaviour sees every message that its node sends, once for each recipient, and says what leaves instead. It holds
the node's key, so it may sign what it likes. It must draw chance from `node.random` only.
"""

from random import Random
from typing import Protocol

from lockstep.base.keys import PrivateKey
from lockstep.wire.genesis import Genesis
from lockstep.wire.message import PeerMessage

Leaving = PeerMessage | bytes
"""A message, or raw bytes that may not be one."""


class Actor(Protocol):
    """What a behaviour may use of its node. A `SimulatedNode` is one."""

    @property
    def index(self) -> int:
        """Which validator it is."""

    @property
    def key(self) -> PrivateKey:
        """Its own."""

    @property
    def genesis(self) -> Genesis:
        """The network's."""

    @property
    def random(self) -> Random:
        """This node's chance, seeded."""

    @property
    def now_us(self) -> int:
        """Virtual time."""


class Behaviour(Protocol):
    """One way to misbehave. One object belongs to one node."""

    name: str

    def outgoing(self, node: Actor, peer: int, message: PeerMessage) -> list[Leaving]:
        """What is sent to `peer` in place of `message`; [] is silence."""

    def incoming(self, node: Actor, peer: int, message: PeerMessage) -> PeerMessage | None:
        """What the node's own replica is told; None is deafness."""

    def tick(self, node: Actor, now_us: int) -> list[tuple[int, Leaving]]:
        """(recipient, what) to send unasked. Called every `tick_us` of virtual time."""


class Honest:
    """Nothing is changed. A base for behaviours that change little."""

    name = "honest"
    tick_us = 50_000

    def outgoing(self, node: Actor, peer: int, message: PeerMessage) -> list[Leaving]:
        """The message itself."""
        return [message]

    def incoming(self, node: Actor, peer: int, message: PeerMessage) -> PeerMessage | None:
        """The message itself."""
        return message

    def tick(self, node: Actor, now_us: int) -> list[tuple[int, Leaving]]:
        """Nothing."""
        return []
