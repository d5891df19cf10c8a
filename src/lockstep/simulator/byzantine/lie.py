"""Lies about where it is, and answers questions with things that were not asked for."""

import msgspec

from lockstep.simulator.behaviour import Actor, Honest, Leaving
from lockstep.simulator.byzantine import forging
from lockstep.wire.certificate import Finalization, Notarization, Nullification
from lockstep.wire.message import BlockBody, Bundles, Certificates, Chain, PeerMessage, Ping

HIGHEST = (1 << 63) - 1


class Lie(Honest):
    """Claims heights and views that don't exist, sends certificates of itself alone, spoils every answer that it
    gives to a node that fetches."""

    name = "lie"

    def outgoing(self, node: Actor, peer: int, message: PeerMessage) -> list[Leaving]:
        """By kind."""
        random = node.random
        match message:
            case Ping():
                claim = random.choice([0, message.final_height + random.randrange(1_000), HIGHEST])
                view = random.choice([0, message.view, message.view + random.randrange(200), HIGHEST])
                return [Ping(message.time_us, view, claim), self._certificate(node, message.view)]
            case BlockBody():
                return [BlockBody(message.header, message.payload[:-1] + b"\x00")]
            case Bundles():
                return [Bundles(tuple(raw[:-1] + bytes((raw[-1] ^ 1,)) for raw in message.raws))]
            case Chain(blocks=(_, *_) as blocks):
                return [random.choice([Chain(tuple(reversed(blocks)), message.finalization), Chain(blocks, None)])]
            case Certificates(certificates=(first, *_)):
                alone = msgspec.structs.replace(first, view=first.view + 1)
                return [Certificates((alone, *message.certificates[1:]))]
            case _:
                return [message]

    def _certificate(self, node: Actor, view: int) -> Notarization | Nullification | Finalization:
        """A certificate that only this validator signed: for a view ahead, a block of nowhere, or a far height."""
        chain_id, validators = node.genesis.chain_id, len(node.genesis.validators)
        bitmap = (1 << node.index).to_bytes((validators + 7) // 8, "little")
        nothing = Nullification(view + 1, bitmap, b"")
        block = Notarization(view, forging.NOWHERE, bitmap, b"")
        height = Finalization(view + 5, 1_000_000, forging.NOWHERE, bytes(32), bytes(32), bitmap, b"")
        claims: list[Notarization | Nullification | Finalization] = [nothing, block, height]
        chosen = node.random.choice(claims)
        return msgspec.structs.replace(chosen, signatures=node.key.sign(chosen.message(chain_id)))
