"""A node that doesn't vote: `start`, `step`, `deadline`, as a replica's; the same worlds run it.

It executes every final block, compares the certified roots with its own, keeps log and checkpoints, and serves clients
and other nodes, all as a validator does. It takes no part in consensus: it never signs, and nobody counts it.

Upon a final block that was spread: check its certificate, pass it on, make it whole (`arrivals`), execute and commit.
Upon a bundle that was spread: check it, pool it, pass it on: most blocks then are whole at once.
Upon a certificate for what is not here: replay blocks or fetch a state (`synchronizer`).
Upon a client's bundle: check it, pool it, hand it to the validators that are connected; if none is, to other nodes,
  who do the same.
Nothing from a peer is believed: a block that no quorum signed, or a bundle that its account did not sign, is a lie, is
never passed on, and costs its sender the connection.
"""

from typing import Final

from lockstep.base.errors import Reason, Refused
from lockstep.base.keys import PrivateKey
from lockstep.gossip.plumtree import Deliver, Verdict
from lockstep.node.answers import Answers, votes
from lockstep.node.arrivals import Arrivals
from lockstep.node.bodies import Bodies
from lockstep.node.clients import Clients
from lockstep.node.context import NOT_A_VALIDATOR, Context
from lockstep.node.effects import DropPeer, Effect, Persist, Reply, RosterChanged, Severity
from lockstep.node.events import (
    ChunksStored,
    ClientAsked,
    ClientLeft,
    EngineResumed,
    Event,
    Executed,
    LeavesRead,
    PeerConnected,
    PeerLost,
    PeerSaid,
    PlainLost,
    PlainPart,
    Proved,
    StateRead,
    Tick,
)
from lockstep.node.peers import Peers
from lockstep.node.pipeline import BundleFate, Pipeline
from lockstep.node.proofs import Proofs
from lockstep.node.record import StoredBlock
from lockstep.node.recovery import Recovery, Restored, adopt
from lockstep.node.service import Service
from lockstep.node.serving import Serving
from lockstep.node.spreader import Spreader
from lockstep.node.synchronizer import Synchronizer
from lockstep.node.tree import Entry, Tree
from lockstep.wire.block import Block, Header
from lockstep.wire.bundle import Bundle
from lockstep.wire.certificate import Finalization, verify_certificate
from lockstep.wire.client import PriceReport, SubmitReply
from lockstep.wire.genesis import Genesis
from lockstep.wire.gossip import Graft, IHave, Prune, Push
from lockstep.wire.light import LightReply
from lockstep.wire.message import BundleBody, Bundles, Chain, CheckpointOffer, PeerMessage, Pong, StatePart
from lockstep.wire.roster import Roster
from lockstep.wire.spread import decode_block_body, is_bundle

HAND_ON_MAX: Final = 2
"""Other nodes that a client's bundle is given to when no validator is connected."""


class Follower:
    """One node that doesn't vote. Give it events in order; carry out its effects in order."""

    def __init__(self, genesis: Genesis, name: str, key: PrivateKey, restored: Restored, now_us: int) -> None:
        tree = Tree(restored.header, restored.directory, restored.roster)
        tree.root_observed_ms = dict(restored.observed_ms)
        self._ctx = ctx = Context(
            genesis, restored.roster, NOT_A_VALIDATOR, key, tree, name, now_us=now_us
        )  # fmt: skip
        self._bodies = Bodies(ctx)
        self._peers = Peers(ctx)
        serving = Serving(ctx)
        self._answers = Answers(ctx, serving)
        self._clients = Clients(ctx, self._bundle_added, self._hand_on)
        self._proofs = Proofs(ctx)
        self._pipeline = Pipeline(ctx, lambda entry: None, self._on_final)
        self._arrivals = Arrivals(ctx, self._bodies.find, self._arrived)
        self._spreader = Spreader(ctx, self._judge, self._delivered)
        self._judged: tuple[Block, Finalization] | None = None
        recovery = Recovery(ctx, self._bodies, self._pipeline)
        recovery.read(restored.records)
        self._sync = Synchronizer(ctx, self._pipeline, self._bodies.forget, lambda: None, is_fresh=False)
        floor = recovery.floor()
        finals = [record for record in recovery.certificates if isinstance(record, Finalization)]
        self._newest_final = max(finals, key=lambda record: record.height, default=None)
        self._service = Service(
            ctx, restored.state_root, self._clients, self._proofs, serving, self._peers, self._pipeline, self._sync,
            floor.height if self._newest_final is None else max(floor.height, self._newest_final.height),
        )  # fmt: skip

    # -- the interface --------------------------------------------------------------------------------

    def start(self, now_us: int) -> list[Effect]:
        """Begin. Called once."""
        self._ctx.now_us = now_us
        if self._newest_final is not None:
            self._pipeline.expect(self._newest_final)
        self._pipeline.advance()
        self._tick()
        return self._take_effects()

    def step(self, event: Event, now_us: int) -> list[Effect]:
        """Take one event."""
        ctx = self._ctx
        ctx.now_us = max(ctx.now_us, now_us)
        match event:
            case PeerSaid():
                self._said(event.peer, event.message)
            case Executed():
                self._pipeline.executed(event)
            case Proved():
                self._proofs.proved(event)
            case StateRead():
                self._sync.state_read(event)
            case LeavesRead():
                self._sync.leaves_read(event)
            case ChunksStored():
                self._sync.stored(event)
            case PlainPart():
                self._sync.plain_part(event)
            case PlainLost():
                self._sync.plain_lost(event.peer)
            case ClientAsked():
                self._client_asked(event)
            case ClientLeft():
                self._service.left(event.client)
            case PeerConnected():
                self._connected(event.peer)
            case PeerLost():
                self._lost(event.peer)
            case Tick() | EngineResumed():
                pass
        self._tick()
        return self._take_effects()

    def deadline(self) -> int | None:
        """When the node next wants a `Tick`, in microseconds; None when it has halted."""
        if self._ctx.halted:
            return None
        dues = (self._arrivals.deadline(), self._sync.deadline(), self._spreader.deadline())
        return min([self._peers.deadline(), *(due for due in dues if due is not None)])

    @property
    def final(self) -> Header:
        """The newest final block's header."""
        return self._ctx.tree.root

    @property
    def roster(self) -> Roster:
        """Who decides, as of the newest final block."""
        return self._ctx.roster

    @property
    def halted(self) -> str:
        """Why the node has halted, or an empty string."""
        return self._ctx.halted

    def queues(self) -> dict[str, int]:
        """How much every table that could grow holds now."""
        return {
            "pool_bundles": len(self._ctx.pool),
            "pool_bytes": self._ctx.pool.bytes,
            "tree": len(self._ctx.tree),
            "arrivals": len(self._arrivals),
            **self._bodies.queues(),
            **self._pipeline.queues(),
        }

    def counts(self) -> dict[str, int]:
        """What the overlay cost: bodies that came twice, and bundles that had to be fetched."""
        return {"duplicates": self._spreader.duplicates, "fetched": self._arrivals.fetched}

    def _take_effects(self) -> list[Effect]:
        effects, self._ctx.out = self._ctx.out, []
        return effects

    def _tick(self) -> None:
        if self._ctx.halted:
            return
        self._spreader.tick()
        self._arrivals.tick()
        self._peers.tick(self._ctx.tree.root.view)
        self._sync.tick()
        self._service.tick()

    # -- peers ----------------------------------------------------------------------------------------

    def _connected(self, peer: int) -> None:
        self._peers.connected(peer)
        self._answers.connected(peer)
        self._spreader.connected(peer, is_source=votes(peer))
        if votes(peer):
            self._clients.spread_again(peer)

    def _lost(self, peer: int) -> None:
        self._peers.lost(peer)
        self._answers.lost(peer)
        self._spreader.lost(peer)
        self._arrivals.peer_lost(peer)

    def _said(self, peer: int, message: PeerMessage) -> None:
        if self._ctx.halted:
            return
        try:
            self._take(peer, message)
        except Refused as refused:
            self._ctx.note(Severity.WARNING, f"peer {peer} sent {type(message).__name__}: {refused}")
            self._ctx.out.append(DropPeer(peer, str(refused)))

    def _take(self, peer: int, message: PeerMessage) -> None:
        match message:
            case Push() | IHave() | Graft() | Prune():
                self._spreader.said(peer, message)
            case BundleBody():
                self._handed_in(peer, Bundle(message.raw))
            case Bundles():
                for raw in message.raws:
                    self._fetched(Bundle(raw))
            case Chain():
                self._sync.chain(peer, message)
            case CheckpointOffer():
                self._sync.offered(peer, message)
            case LightReply():
                self._sync.shown(peer, message)
            case StatePart():
                self._sync.part(peer, message)
            case Pong():
                self._peers.pong(peer, message)
            case _:
                if not self._answers.take(peer, message):
                    raise Refused(Reason.MALFORMED, "a node that does not vote has no use for it")

    # -- what is spread -------------------------------------------------------------------------------

    def _judge(self, peer: int, body: bytes) -> Verdict:
        """What is to become of a body that is new here."""
        try:
            if is_bundle(body):
                return self._judge_bundle(Bundle(body))
            block, certificate = decode_block_body(body)
            if block.header.chain_id != self._ctx.validators.chain_id:
                return Verdict.LIE
            if block.header.height <= self._ctx.tree.root.height:
                return Verdict.KEPT_BACK
            validators = self._ctx.tree.roster_after(self._pipeline.tip.digest).validators
            if block.header.validators != validators.hash:
                # It can't be judged before the blocks below it are here: they are asked for, and it comes with them.
                self._sync.claimed(peer, block.header.view, block.header.height)
                return Verdict.KEPT_BACK
            verify_certificate(certificate, validators)
        except Refused:
            return Verdict.LIE
        self._judged = block, certificate
        return Verdict.SPREAD

    def _judge_bundle(self, bundle: Bundle) -> Verdict:
        """Races make most refusals normal; a bad signature is a lie."""
        if self._ctx.pool.get(bundle.digest) is not None:
            return Verdict.SPREAD
        if self._arrivals.awaits(bundle.digest):
            self._bodies.keep(bundle)
            self._arrivals.bundle(bundle)
            return Verdict.SPREAD
        try:
            self._clients.take(bundle)
        except Refused as refused:
            return Verdict.LIE if refused.reason in (Reason.BAD_SIGNATURE, Reason.WRONG_CHAIN) else Verdict.KEPT_BACK
        return Verdict.SPREAD

    def _delivered(self, delivered: Deliver) -> None:
        if self._judged is not None and delivered.peer is not None:
            (block, certificate), self._judged = self._judged, None
            self._arrivals.block(block, certificate, delivered.peer)

    def _fetched(self, bundle: Bundle) -> None:
        """A bundle that was asked for; late ones are of no use."""
        if self._arrivals.awaits(bundle.digest):
            self._bodies.keep(bundle)
            self._arrivals.bundle(bundle)

    def _arrived(self, certificate: Finalization, stored: StoredBlock | None) -> None:
        """A block is final, and maybe here whole."""
        if stored is not None:
            entry = self._ctx.tree.entry(stored.block.header)
            if not entry.valid:
                adopt(entry, stored)
        self._ctx.out.append(Persist((certificate,)))
        self._pipeline.finalise(certificate)

    def _on_final(self, entry: Entry, fates: list[BundleFate]) -> None:
        stored, certificate = entry.stored, self._pipeline.last_certificate
        assert stored is not None
        self._service.final(entry, fates)
        self._bodies.forget(entry.header.digest)
        for digest, *_ in fates:
            self._bodies.settle(digest)
        self._arrivals.final(entry.header.height)
        if stored.block.payload.change or entry.header.closes_epoch:
            self._peers.roster_changed()
            self._ctx.out.append(RosterChanged(self._ctx.roster))
        if certificate is not None and certificate.block == entry.header.digest:
            self._spreader.newest(stored.block, certificate)

    # -- clients --------------------------------------------------------------------------------------

    def _client_asked(self, event: ClientAsked) -> None:
        request = event.request
        if isinstance(request, PriceReport):
            text = "this node does not vote: report prices to a validator"
            self._ctx.out.append(Reply(event.client, SubmitReply(bytes(32), Reason.NOT_READY.value, text)))
        else:
            self._service.asked(event.client, request, self._ctx.tree.root.view, 0)

    def _bundle_added(self, bundle: Bundle) -> None:
        self._arrivals.bundle(bundle)

    def _handed_in(self, peer: int, bundle: Bundle) -> None:
        """Another node hands in a client's bundle, since it knows no validator; raises `Refused` for a lie."""
        if votes(peer) or not self._answers.may_hand_in(peer):
            return
        try:
            self._clients.take(bundle)
        except Refused as refused:
            if refused.reason in (Reason.BAD_SIGNATURE, Reason.WRONG_CHAIN):
                raise
            return
        self._hand_on(bundle, peer)

    def _hand_on(self, bundle: Bundle, source: int | None = None) -> None:
        """To the validators that are connected; if none is, to some other nodes."""
        connected = [peer for peer in self._ctx.connected if peer != source]
        validators = [peer for peer in connected if votes(peer)]
        for peer in validators or connected[:HAND_ON_MAX]:
            self._ctx.send(peer, BundleBody(bundle.raw))
