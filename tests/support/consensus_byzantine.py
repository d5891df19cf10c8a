"""Validators that break the rules: honest engines whose messages are tampered with on the way out."""

from lockstep.consensus import interface as on
from lockstep.wire.message import Certificates, FetchCertificates
from lockstep.wire.vote import Finalize, Notarize, sign_finalize, sign_notarize, sign_nullify
from tests.support.consensus_keys import CHAIN
from tests.support.consensus_node import Node


class Equivocator(Node):
    """Proposes one block to one half and another to the other, votes for every block, and nullifies what it
    finalizes. Its finalize votes for half of the peers carry invented roots."""

    def carry_one(self, effect: on.Effect) -> None:
        key = self.world.keys[self.index]
        match effect:
            case on.Propose():
                header = effect.header
                twin = type(header)(
                    CHAIN, header.height, header.view, header.parent_view, header.time_ms + 1, header.proposer, 0, 0,
                    header.parent, header.payload,
                )  # fmt: skip
                signature = sign_notarize(key, CHAIN, self.index, twin.view, twin.digest).signature
                peers = list(range(len(self.world.keys)))
                self.world.propose(self.index, effect, peers[::2])
                self.world.propose(self.index, on.Propose(twin, signature), peers[1::2])
            case on.Check():
                header = effect.header
                self.spread(sign_notarize(key, CHAIN, self.index, header.view, header.digest))
                super().carry_one(effect)
            case on.Broadcast(message=Finalize() as vote):
                lie = sign_finalize(
                    key, CHAIN, self.index, vote.view, vote.height, vote.block, vote.event_root, vote.state_root
                )
                for peer in range(len(self.world.keys)):
                    if peer != self.index:
                        self.world.send(self.index, peer, vote if peer % 2 else lie)
                self.spread(sign_nullify(key, CHAIN, self.index, vote.view))
            case _:
                super().carry_one(effect)

    def spread(self, vote: on.Outgoing) -> None:
        self.world.broadcast(self.index, vote)


class Withholder(Node):
    """Sends each message to each peer only sometimes, answers no question, and never shares certificates."""

    def carry_one(self, effect: on.Effect) -> None:
        peers = [p for p in range(len(self.world.keys)) if p != self.index and self.world.random.random() < 0.4]
        match effect:
            case on.Broadcast(message=message):
                for peer in peers:
                    self.world.send(self.index, peer, message)
            case on.SendTo(message=Certificates()):
                pass
            case on.Propose():
                self.world.propose(self.index, effect, peers)
            case _:
                super().carry_one(effect)


class Liar(Node):
    """Sends garbage: votes with broken signatures, votes of others, certificates without a quorum, wild questions."""

    def carry_one(self, effect: on.Effect) -> None:
        if isinstance(effect, on.Broadcast) and isinstance(effect.message, Notarize):
            vote = effect.message
            other = (self.index + 1) % len(self.world.keys)
            self.world.broadcast(self.index, Notarize(vote.view, vote.block, other, vote.signature))
            self.world.broadcast(self.index, Notarize(vote.view, bytes(32), self.index, vote.signature))
            self.world.broadcast(self.index, Notarize(vote.view, vote.block, 100, vote.signature))
            self.world.broadcast(self.index, FetchCertificates(0, 1 << 62))
        super().carry_one(effect)
