"""What validators say, handed to whichever part of the replica it is for. A lie is named, and its teller dropped."""

from collections.abc import Callable
from typing import Any

from lockstep.base.errors import Reason, Refused
from lockstep.base.marks import reached
from lockstep.consensus import interface as engine_
from lockstep.node.bodies import Bodies
from lockstep.node.clients import Clients
from lockstep.node.context import Context
from lockstep.node.effects import DropPeer, Severity
from lockstep.node.epochs import Epochs
from lockstep.node.feed import Feed
from lockstep.node.ordering import Ordering
from lockstep.node.peers import Peers
from lockstep.node.serving import Serving
from lockstep.node.set_changes import SetChanges
from lockstep.node.synchronizer import Synchronizer
from lockstep.wire.block import Header, decode_block, decode_header
from lockstep.wire.bundle import Bundle
from lockstep.wire.certificate import Certificate, Finalization, Notarization, Nullification
from lockstep.wire.light import AskLight, LightReply
from lockstep.wire.message import (
    BlockBody,
    BundleBody,
    Bundles,
    Certificates,
    Chain,
    CheckpointOffer,
    FetchBlock,
    FetchBundles,
    FetchCertificates,
    FetchChain,
    FetchCheckpoint,
    FetchState,
    ObservationBody,
    PeerMessage,
    Ping,
    Pong,
    Proposal,
    SetChangeBody,
    StatePart,
)
from lockstep.wire.validators import epoch_of
from lockstep.wire.vote import Finalize, Notarize, Nullify, Vote


class Inbox:
    """Peers' messages."""

    def __init__(
        self, ctx: Context, ordering: Ordering, bodies: Bodies, peers: Peers, feed: Feed, serving: Serving,
        sync: Synchronizer, clients: Clients, bundle_added: Callable[[Bundle], None],
        heard: Callable[[int, int], None], spread: Callable[[Bundle, int], None], epochs: Epochs, changes: SetChanges,
    ) -> None:  # fmt: skip
        """`bundle_added` is told of bundles that are here; `heard`, of the view that a peer claims in a ping; `spread`,
        of bundles that a peer took from its clients."""
        self._ctx = ctx
        self._ordering = ordering
        self._bodies = bodies
        self._peers = peers
        self._sync = sync
        self._clients = clients
        self._bundle_added = bundle_added
        self._heard = heard
        self._spread = spread
        self._epochs = epochs
        self._by_type: dict[type, Callable[[int, Any], object]] = {
            BundleBody: self._bundle, Notarize: self._vote, Nullify: self._vote, Finalize: self._vote,
            Notarization: self._certificate, Nullification: self._certificate, Finalization: self._certificate,
            Proposal: self._proposal, Certificates: self._certificates, FetchCertificates: self._fetch_certificates,
            ObservationBody: lambda peer, message: feed.arrived(peer, message.raw),
            Ping: self._ping, Pong: peers.pong,
            SetChangeBody: lambda peer, message: changes.arrived(message.raw),
            FetchBundles: serving.bundles, Bundles: self._bundles, FetchBlock: serving.block, BlockBody: self._block,
            FetchChain: serving.chain, Chain: sync.chain, FetchCheckpoint: serving.state,
            FetchState: serving.state, AskLight: serving.light, CheckpointOffer: sync.offered,
            LightReply: sync.shown, StatePart: sync.part,
        }  # fmt: skip

    def take(self, peer: int, message: PeerMessage) -> None:
        """A decoded message from an authenticated validator."""
        if self._ctx.halted:
            return
        try:
            self._by_type.get(message.__class__, self._unexpected)(peer, message)
        except Refused as refused:
            self._ctx.note(Severity.WARNING, f"validator {peer} sent {type(message).__name__}: {refused}")
            self._ctx.out.append(DropPeer(peer, str(refused)))

    def _unexpected(self, peer: int, message: PeerMessage) -> None:
        raise Refused(Reason.MALFORMED, "unexpected here")

    # -- consensus ------------------------------------------------------------------------------------

    def _vote(self, peer: int, vote: Vote) -> None:
        if not self._epochs.is_early(peer, vote):
            self._ordering.drive(engine_.VoteArrived(peer, vote))

    def _certificate(self, peer: int, certificate: Certificate) -> None:
        if not self._epochs.is_early(peer, certificate):
            self._ordering.drive(engine_.CertificateArrived(peer, certificate))

    def _certificates(self, peer: int, message: Certificates) -> None:
        for certificate in message.certificates:
            self._ordering.drive(engine_.CertificateArrived(peer, certificate))

    def _fetch_certificates(self, peer: int, message: FetchCertificates) -> None:
        self._ordering.drive(engine_.CertificatesRequested(peer, message.from_view, message.to_view))

    def _ping(self, peer: int, message: Ping) -> None:
        self._peers.ping(peer, message)
        self._ordering.drive(engine_.PeerProgress(peer, message.view, message.final_height))
        self._heard(peer, message.view)
        self._sync.claimed(peer, message.view, message.final_height)

    def _proposal(self, peer: int, message: Proposal) -> None:
        if self._epochs.is_early(peer, message):
            return
        header = decode_header(message.header)
        ctx = self._ctx
        if header.chain_id != ctx.validators.chain_id:
            raise Refused(Reason.WRONG_CHAIN, "a proposal for another chain")
        if epoch_of(message.view) != self._epochs.current or epoch_of(header.view) != self._epochs.current:
            return  # late, by a whole epoch
        is_own = (message.view, message.parent_view) == (header.view, header.parent_view)
        if ctx.validators.leader(message.view) != peer or (is_own and header.proposer != peer):
            raise Refused(Reason.NOT_LEADER, f"validator {peer} does not lead view {message.view}")
        if not is_own and not header.closes_epoch:
            raise Refused(Reason.MALFORMED, "only the last block of an epoch is proposed again")
        # The engine decides what becomes of it; the payload waits in the tree. One entry a view and leader at most
        # twice over: the engine's window of views bounds what is kept.
        if not self._is_in_window(header):
            return
        block = decode_block(message.header, message.payload)
        self._ordering.offer(block)
        again = None if is_own else engine_.Again(message.view, message.parent_view)
        self._ordering.drive(engine_.ProposalArrived(peer, header, message.signature, again))

    def _is_in_window(self, header: Header) -> bool:
        """Whether a proposal can still matter, and its leader has not proposed too much in this view already."""
        view, tree = self._ordering.engine.view, self._ctx.tree
        if not tree.root.view < header.view <= view + 16 or header.height <= tree.root.height:
            return False
        rivals = [e for e in tree.entries() if e.header.view == header.view and e.header.digest != header.digest]
        return len(rivals) < 2

    # -- bodies ---------------------------------------------------------------------------------------

    def _bundle(self, peer: int, message: BundleBody) -> None:
        bundle = message.bundle
        if self._bundle_arrived(bundle):
            self._spread(bundle, peer)
        if message.stamp is not None:
            self._clients.said.heard(peer, message.stamp, bundle.digest)

    def _bundles(self, peer: int, message: Bundles) -> None:
        for raw in message.raws:
            self._bundle_arrived(Bundle(raw))

    def _block(self, peer: int, message: BlockBody) -> None:
        header = decode_header(message.header)
        if self._bodies.wants_block(header.digest):
            self._ordering.offer(decode_block(message.header, message.payload))

    def _bundle_arrived(self, bundle: Bundle) -> bool:
        """From a peer; whether it is new in the pool. Races make `duplicate`, `replayed`, `expired` and `busy` normal;
        a bad signature is a lie."""
        awaited = self._bodies.is_awaited(bundle.digest)
        try:
            self._clients.take(bundle)
        except Refused as refused:
            if refused.reason in (Reason.BAD_SIGNATURE, Reason.WRONG_CHAIN):
                raise
            if awaited:
                reached("replica: a refused bundle that a block orders is kept")
                self._bodies.keep(bundle)
                self._bundle_added(bundle)
            return False
        return True
