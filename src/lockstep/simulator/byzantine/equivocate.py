"""Says one thing to some and another to the rest: blocks, votes, roots."""

from lockstep.simulator.behaviour import Actor, Honest, Leaving
from lockstep.simulator.byzantine import forging
from lockstep.wire.block import Header, decode_header
from lockstep.wire.message import PeerMessage, Proposal
from lockstep.wire.vote import Finalize, Notarize, Nullify

HEADERS_HELD_MAX = 64


class Equivocate(Honest):
    """As a leader it proposes two blocks, one to each half. It votes for every block that it hears of, nullifies what
    it notarizes and finalizes, and its finalize votes carry invented roots for half of the peers."""

    name = "equivocate"

    def __init__(self) -> None:
        self._heard: dict[bytes, Header] = {}

    def outgoing(self, node: Actor, peer: int, message: PeerMessage) -> list[Leaving]:
        """By kind."""
        chain_id = node.genesis.chain_id
        match message:
            case Proposal() if peer % 2:
                header = decode_header(message.header)
                if header.bundles:
                    return [forging.without_bundles(node.key, message, node.index)]
                return [forging.altered(node.key, message, node.index, time_ms=header.time_ms + 1)]
            case Notarize():
                rivals = [h for h in self._heard.values() if h.view == message.view and h.digest != message.block]
                return [message, *(forging.notarize(node.key, h, node.index) for h in rivals)]
            case Nullify():
                headers = [h for h in self._heard.values() if h.view == message.view]
                return [message, *(forging.notarize(node.key, h, node.index) for h in headers)]
            case Finalize():
                said = message if peer % 2 else forging.other_roots(node.key, chain_id, message)
                return [said, forging.nullify(node.key, chain_id, node.index, message.view)]
            case _:
                return [message]

    def incoming(self, node: Actor, peer: int, message: PeerMessage) -> PeerMessage | None:
        """Remember what could be voted for."""
        if isinstance(message, Proposal):
            header = decode_header(message.header)
            self._heard[header.digest] = header
            if len(self._heard) > HEADERS_HELD_MAX:
                del self._heard[next(iter(self._heard))]
        return message
