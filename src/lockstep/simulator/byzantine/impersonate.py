"""Speaks for others: votes in their names, and certificates that they never signed."""

import msgspec

from lockstep.simulator.behaviour import Actor, Honest, Leaving
from lockstep.simulator.byzantine import forging
from lockstep.wire.certificate import Certificate, Finalization, Nullification
from lockstep.wire.message import PeerMessage
from lockstep.wire.vote import Finalize, Notarize, Nullify

_SIGNATURE_BYTES = 64


class Impersonate(Honest):
    """With each vote of its own it sends the same vote of everybody else, signed with the only key that it has; and
    now and then a certificate of all of them for something that suits nobody."""

    name = "impersonate"

    def outgoing(self, node: Actor, peer: int, message: PeerMessage) -> list[Leaving]:
        """The vote, and what is added to it."""
        if not isinstance(message, Notarize | Nullify | Finalize):
            return [message]
        others = [v for v in range(len(node.genesis.validators)) if v not in (node.index, peer)]
        votes = [msgspec.structs.replace(message, signer=other) for other in others]
        if isinstance(message, Finalize):
            lie = forging.other_roots(node.key, node.genesis.chain_id, message)
            votes += [msgspec.structs.replace(lie, signer=other) for other in others]
        if node.random.randrange(4):
            return [message, *votes]
        return [message, *votes, self._certificate(node, message.view)]

    def _certificate(self, node: Actor, view: int) -> Certificate:
        """All signers, and signatures that look like some."""
        count = len(node.genesis.validators)
        bitmap = ((1 << count) - 1).to_bytes((count + 7) // 8, "little")
        junk = node.random.randbytes(_SIGNATURE_BYTES * count)
        if node.random.randrange(2):
            return Nullification(view + 1, bitmap, junk)
        return Finalization(view + 1, 1_000_000, forging.NOWHERE, bytes(32), bytes(32), bitmap, junk)
