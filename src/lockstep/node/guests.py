"""Nodes that don't vote, as a validator sees them: it spreads blocks and bundles to them, takes bundles from them, and
answers their requests. Nothing that they say reaches consensus; whoever says more than is due is dropped."""

from collections.abc import Callable

from lockstep.base.errors import Reason, Refused
from lockstep.gossip.plumtree import Verdict
from lockstep.node.answers import Answers
from lockstep.node.context import Context
from lockstep.node.effects import DropPeer, Severity
from lockstep.node.serving import Serving
from lockstep.node.spreader import Spreader
from lockstep.wire.bundle import Bundle
from lockstep.wire.gossip import Graft, Prune
from lockstep.wire.message import BundleBody, PeerMessage


class Guests:
    """All of them that are connected."""

    def __init__(self, ctx: Context, serving: Serving, hand_in: Callable[[Bundle], None]) -> None:
        """`hand_in` takes a bundle as if from a client of this node, or raises `Refused`."""
        self._ctx = ctx
        self._hand_in = hand_in
        self._answers = Answers(ctx, serving)
        self.spreader = Spreader(ctx, lambda peer, body: Verdict.KEPT_BACK, lambda delivered: None)
        self._connected: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._connected)

    def connected(self, peer: int) -> None:
        """One is connected."""
        self._connected[peer] = None
        self._answers.connected(peer)
        self.spreader.connected(peer, is_source=False)

    def lost(self, peer: int) -> None:
        """It is gone."""
        self._connected.pop(peer, None)
        self._answers.lost(peer)
        self.spreader.lost(peer)

    def said(self, peer: int, message: PeerMessage) -> None:
        """What one says."""
        if self._ctx.halted or peer not in self._connected:
            return
        try:
            self._take(peer, message)
        except Refused as refused:
            self._ctx.note(Severity.WARNING, f"observer {peer} sent {type(message).__name__}: {refused}")
            self._ctx.out.append(DropPeer(peer, str(refused)))

    def _take(self, peer: int, message: PeerMessage) -> None:
        match message:
            case Graft() | Prune():
                self.spreader.said(peer, message)
            case BundleBody():
                if self._answers.may_hand_in(peer):
                    self._bundle(Bundle(message.raw))
            case _:
                if not self._answers.take(peer, message):
                    raise Refused(Reason.MALFORMED, "a node that does not vote has nothing to say of that kind")

    def _bundle(self, bundle: Bundle) -> None:
        """Races make most refusals normal; a bad signature is a lie."""
        try:
            self._hand_in(bundle)
        except Refused as refused:
            if refused.reason in (Reason.BAD_SIGNATURE, Reason.WRONG_CHAIN):
                raise
