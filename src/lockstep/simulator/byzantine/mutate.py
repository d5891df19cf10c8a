"""Small mutations of valid messages, signed again: everything about them is in order but one field."""

from typing import Any

import msgspec

from lockstep.simulator.behaviour import Actor, Honest, Leaving
from lockstep.simulator.byzantine import forging
from lockstep.wire.block import decode_header
from lockstep.wire.message import BundleBody, PeerMessage, Proposal
from lockstep.wire.vote import Finalize, Notarize, Nullify

_HEADER_FIELDS = ("height", "view", "parent_view", "time_ms", "proposer", "bundles", "commands", "parent", "payload")


class Mutate(Honest):
    """One vote, proposal or structured message in three is changed by a little in one field."""

    name = "mutate"

    def outgoing(self, node: Actor, peer: int, message: PeerMessage) -> list[Leaving]:
        """Mostly the message itself."""
        if isinstance(message, BundleBody) or node.random.randrange(3):
            return [message]
        if isinstance(message, Proposal):
            name = node.random.choice(_HEADER_FIELDS)
            value = self._near(node, getattr(decode_header(message.header), name))
            if name == "proposer":
                value %= 128
            return [forging.altered(node.key, message, node.index, **{name: value})]
        names = [f for f in message.__struct_fields__ if f not in ("signature", "signer")]
        name = node.random.choice(names)
        changed = msgspec.structs.replace(message, **{name: self._near(node, getattr(message, name))})
        if isinstance(changed, Notarize | Nullify | Finalize):
            return [forging.signed_again(node.key, node.genesis.chain_id, changed)]
        return [changed]

    def _near(self, node: Actor, value: Any) -> Any:
        """A value of the same type nearby."""
        random = node.random
        if isinstance(value, int):
            return max(0, value + random.choice([-2, -1, 1, 2]))
        if isinstance(value, bytes) and value:
            place = random.randrange(len(value))
            return value[:place] + bytes((value[place] ^ 1 << random.randrange(8),)) + value[place + 1 :]
        if isinstance(value, tuple):
            return value[1:]
        return value
