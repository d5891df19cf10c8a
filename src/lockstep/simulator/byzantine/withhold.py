"""Keeps things to itself: votes, or bodies."""

from lockstep.simulator.behaviour import Actor, Honest, Leaving
from lockstep.wire.certificate import Finalization, Notarization, Nullification
from lockstep.wire.message import BlockBody, BundleBody, Bundles, Certificates, Chain, PeerMessage, Proposal
from lockstep.wire.vote import Finalize, Notarize, Nullify


class WithholdVotes(Honest):
    """Sends a vote or certificate to each peer only now and then, and no two peers the same; proposes to a few."""

    name = "withhold-votes"

    def outgoing(self, node: Actor, peer: int, message: PeerMessage) -> list[Leaving]:
        """Two in five of what decides anything; never a certificate that was asked for."""
        match message:
            case Certificates():
                return []
            case Notarize() | Nullify() | Finalize() | Notarization() | Nullification() | Finalization() | Proposal():
                return [message] if node.random.randrange(5) < 2 else []
            case _:
                return [message]


class WithholdBodies(Honest):
    """Proposes and votes like an honest node, but spreads no bundle and answers no request for one, or for a block."""

    name = "withhold-bodies"

    def outgoing(self, node: Actor, peer: int, message: PeerMessage) -> list[Leaving]:
        """Everything but bodies."""
        return [] if isinstance(message, BundleBody | Bundles | BlockBody | Chain) else [message]
