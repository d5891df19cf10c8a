"""Bad leaders: blocks that are invalid in one way or another, and blocks that come late."""

from typing import Any, Final

import msgspec

from lockstep.simulator.behaviour import Actor, Honest, Leaving
from lockstep.simulator.byzantine import forging
from lockstep.wire.block import Payload, decode_header, decode_payload
from lockstep.wire.message import PeerMessage, Proposal

_CHANGES: Final = (
    "height", "view", "parent", "parent_view", "past", "future", "commands", "payload", "bundles", "junk",
)  # fmt: skip
HELD_MAX: Final = 64


class InvalidBlocks(Honest):
    """Each of its blocks is wrong in one way, rightly signed: another height, view, parent, time, count or payload,
    bundles twice, observations or evidence that are not what they claim to be."""

    name = "invalid-blocks"

    def __init__(self) -> None:
        self._made: tuple[bytes, Proposal] | None = None

    def outgoing(self, node: Actor, peer: int, message: PeerMessage) -> list[Leaving]:
        """The same fault for every peer: a block that only some find invalid would be another attack."""
        if not isinstance(message, Proposal):
            return [message]
        if self._made is None or self._made[0] != message.header:
            self._made = (message.header, _spoiled(node, message, node.random.choice(_CHANGES)))
        return [self._made[1]]


def _spoiled(node: Actor, proposal: Proposal, change: str) -> Proposal:
    header, payload = decode_header(proposal.header), decode_payload(proposal.payload)
    fields: dict[str, dict[str, Any]] = {
        "height": {"height": header.height + 1},
        "view": {"view": header.view + len(node.genesis.validators)},
        "parent": {"parent": forging.NOWHERE},
        "parent_view": {"parent_view": header.parent_view + 1},
        "past": {"time_ms": 1},
        "future": {"time_ms": header.time_ms + 3_600_000},
        "commands": {"commands": header.commands + 1},
    }
    if change in fields:
        return forging.altered(node.key, proposal, node.index, **fields[change])
    if change == "bundles" and header.bundles:
        return forging.doubled(node.key, proposal, node.index)
    if change == "payload":
        return msgspec.structs.replace(proposal, payload=proposal.payload + b"\x00")
    junk = Payload(payload.bundles, (*payload.observations, node.random.randbytes(96)), (node.random.randbytes(200),))
    return forging.with_payload(node.key, proposal, node.index, junk.encode())


class LateBlocks(Honest):
    """Holds its blocks back for up to four Delta, each peer's for another time."""

    name = "late-blocks"

    def __init__(self) -> None:
        self._held: list[tuple[int, int, Proposal]] = []

    def outgoing(self, node: Actor, peer: int, message: PeerMessage) -> list[Leaving]:
        """Nothing yet, if it is a block."""
        if not isinstance(message, Proposal):
            return [message]
        delay_us = node.random.randrange(4_000 * node.genesis.parameters.delta_ms)
        self._held = [*self._held, (node.now_us + delay_us, peer, message)][-HELD_MAX:]
        return []

    def tick(self, node: Actor, now_us: int) -> list[tuple[int, Leaving]]:
        """What is due."""
        due = [(peer, message) for at_us, peer, message in self._held if at_us <= now_us]
        self._held = [held for held in self._held if held[0] > now_us]
        return [*due]
