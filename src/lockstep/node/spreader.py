"""This node's part in spreading bundles and final blocks to nodes that don't vote (`gossip.plumtree`).

Validators have every body first. Each publishes what it has along its links to such nodes, in the tree of the validator
that it came from: for a block its proposer, for a bundle the one that took it from a client. So each tree has its roots
at all validators, and a node keeps, of all links along which a body could come, the one along which it comes first.
Blocks travel without their bundles (`wire.spread`).

Upon a new link: push the newest final block, so that the other end knows where the chain is.
"""

from collections.abc import Callable
from typing import Final

from lockstep.gossip.plumtree import Config, Deliver, Misbehaved, Plumtree, SendTo, Verdict
from lockstep.node.context import Context
from lockstep.node.effects import DropPeer, Severity
from lockstep.wire.block import Block
from lockstep.wire.bundle import Bundle
from lockstep.wire.certificate import Finalization
from lockstep.wire.gossip import GossipMessage, Push
from lockstep.wire.spread import block_body, body_name

RECENT_BLOCKS: Final = 8
CONFIG: Final = Config(graft_us=300_000, retry_us=150_000, announce_us=20_000)


class Spreader:
    """The links of one node, and what goes along them."""

    def __init__(
        self, ctx: Context, judge: Callable[[int, bytes], Verdict], delivered: Callable[[Deliver], None]
    ) -> None:  # fmt: skip
        """`judge` says what is to become of a body that is new here, from a peer; `delivered` is told of those that are
        valid."""
        self._ctx = ctx
        self._tree = Plumtree((), judge, CONFIG, body_name)
        self._delivered = delivered
        self._newest: tuple[Block, Finalization] | None = None
        self.due_us: int | None = None
        """When `tick` has something to do. Asked for at every event, and seldom changed."""

    @property
    def duplicates(self) -> int:
        """Bodies that came when they were here already."""
        return self._tree.duplicates

    def connected(self, peer: int, is_source: bool) -> None:
        """A new link; to a validator (`is_source`) or to another node."""
        self._tree.link_up(peer, is_source)
        self.due_us = self._tree.deadline()
        if not is_source and self._newest is not None:
            block, certificate = self._newest
            self._ctx.send(peer, Push(block.header.proposer, block_body(block, certificate)))

    def lost(self, peer: int) -> None:
        """A link is gone."""
        self._tree.link_down(peer)
        self.due_us = self._tree.deadline()

    def bundle(self, bundle: Bundle, validator: int) -> None:
        """Publish a bundle that came from this validator."""
        if self._tree.links:
            self._carry(self._tree.publish(validator, bundle.raw, self._ctx.now_us))

    def final(self, block: Block, certificate: Finalization, certified_height: int) -> None:
        """A block is final, and has this certificate of its own. Others have it long since when this node is behind."""
        self.newest(block, certificate)
        if self._tree.links and certified_height <= block.header.height + RECENT_BLOCKS:
            body = block_body(block, certificate)
            self._carry(self._tree.publish(block.header.proposer, body, self._ctx.now_us))

    def newest(self, block: Block, certificate: Finalization) -> None:
        """This is the newest final block here."""
        self._newest = block, certificate

    def said(self, peer: int, message: GossipMessage) -> None:
        """A peer's message."""
        self._carry(self._tree.said(peer, message, self._ctx.now_us))

    def tick(self) -> None:
        """Time passes."""
        if self.due_us is not None and self.due_us <= self._ctx.now_us:
            self._carry(self._tree.tick(self._ctx.now_us))

    def deadline(self) -> int | None:
        """When `tick` has something to do."""
        return self.due_us

    def _carry(self, effects: list[SendTo | Deliver | Misbehaved]) -> None:
        self.due_us = self._tree.deadline()
        for effect in effects:
            match effect:
                case SendTo():
                    self._ctx.send(effect.peer, effect.message)
                case Deliver():
                    if effect.peer is not None:
                        self._delivered(effect)
                case Misbehaved():
                    self._ctx.note(Severity.WARNING, f"peer {effect.peer} {effect.detail}")
                    self._ctx.out.append(DropPeer(effect.peer, effect.detail))
