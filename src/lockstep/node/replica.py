"""One replica of the venue: `start`, `step`, `deadline`. Nothing else is needed to run it, in any world.

Upon a client's bundle: check it, pool it, spread it, answer.
Upon a leader's proposal: fetch what it lacks, check it, persist the block and the vote, vote, and begin to execute it.
Upon a notarization and the block's roots: persist and send the finalise vote over both.
Upon a finalization: compare roots, commit, tell clients, now and then checkpoint.
Upon a certificate for what is not here: fetch it; when far behind, replay blocks or fetch a state (`synchronizer`).

After a restart everything is rebuilt from the checkpoint and the log's records after it (`Restored`): blocks are
executed again up to the newest finalization in the log, own votes are given back to the engine, which re-sends them
and never contradicts them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lockstep.base.errors import Refused
from lockstep.base.keys import PrivateKey
from lockstep.base.limits import FIRST_OBSERVER
from lockstep.consensus import interface as engine_
from lockstep.node.bodies import Bodies
from lockstep.node.builder import Builder
from lockstep.node.checks import check_bundles
from lockstep.node.clients import Clients
from lockstep.node.context import Context
from lockstep.node.effects import Effect, Persist, Reply, RosterChanged, Severity
from lockstep.node.epochs import Epochs
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
from lockstep.node.feed import Feed
from lockstep.node.guests import Guests
from lockstep.node.inbox import Inbox
from lockstep.node.ordering import Ordering
from lockstep.node.peers import Peers
from lockstep.node.pipeline import BundleFate, Pipeline
from lockstep.node.proofs import Proofs
from lockstep.node.record import Mute, StoredBlock
from lockstep.node.recovery import Recovery, Restored
from lockstep.node.rejoin import MUTED, Rejoin, is_muted_at_start
from lockstep.node.service import Service
from lockstep.node.serving import Serving
from lockstep.node.set_changes import SetChanges
from lockstep.node.synchronizer import Synchronizer
from lockstep.node.tree import Entry, Tree
from lockstep.wire.block import Header
from lockstep.wire.bundle import Bundle
from lockstep.wire.client import PriceReport, Submit, SubmitReply, SubmitSetChange
from lockstep.wire.evidence import Evidence
from lockstep.wire.genesis import Genesis
from lockstep.wire.message import BundleBody
from lockstep.wire.roster import Roster


@dataclass(frozen=True, slots=True)
class Identity:
    """Which validator this is."""

    index: int
    key: PrivateKey
    feed_key: bytes


class Replica:
    """One replica. Give it events in order; carry out its effects in order."""

    def __init__(
        self, genesis: Genesis, identity: Identity, restored: Restored, now_us: int, state_from_blocks: int = 0
    ) -> None:
        """`state_from_blocks`: see `Synchronizer`."""
        tree = Tree(restored.header, restored.directory, restored.roster)
        tree.root_observed_ms = dict(restored.observed_ms)
        self._ctx = ctx = Context(genesis, restored.roster, identity.index, identity.key, tree, now_us=now_us)
        self._bodies = Bodies(ctx)
        self._peers = Peers(ctx)
        self._serving = Serving(ctx)
        self._feed = Feed(ctx, identity.feed_key)
        self._clients = Clients(ctx, self._bundle_added, self._spread)
        self._guests = Guests(ctx, self._serving, self._hand_in)
        self._proofs = Proofs(ctx)
        self._pipeline = Pipeline(ctx, self._on_executed, self._on_final)
        self._changes = SetChanges(ctx)
        self._builder = Builder(
            ctx, self._feed.latest, self._pending_evidence, self._changes.for_block, self._want_parent, self._built,
            self._built_again,
        )  # fmt: skip
        recovery = Recovery(ctx, self._bodies, self._pipeline)
        recovery.read(restored.records)
        floor = recovery.floor()
        is_muted = is_muted_at_start(recovery.mute, recovery.votes, ctx.roster.epoch, restored.is_rebuilt)
        self._must_log_mute = is_muted and recovery.mute != MUTED
        # A vote in the chain's first view tells nothing: an empty home casts it before it hears how far the chain is.
        is_fresh = restored.header.height == 0 and not any(vote.view > 1 for vote in recovery.votes)
        self._sync = Synchronizer(
            ctx, self._pipeline, self._bodies.forget, self._fell_behind, is_fresh, state_from_blocks
        )
        self._sync.is_rebuilt = is_muted
        self._service = Service(
            ctx, restored.state_root, self._clients, self._proofs, self._serving, self._peers, self._pipeline,
            self._sync, floor.height,
        )  # fmt: skip
        self._peers.roster_changed()
        self._rejoin = Rejoin(ctx.validators, identity.index, is_muted, 0 if is_muted else recovery.mute)
        self._epochs = Epochs(ctx, recovery.votes, self._rejoin)
        self._ordering = Ordering(
            ctx,
            self._epochs.engine(floor, recovery.certificates),
            self._bodies,
            self._pipeline,
            self._builder.begin,
            self._feed.is_verified,
        )
        self._inbox = Inbox(
            ctx, self._ordering, self._bodies, self._peers, self._feed, self._serving, self._sync, self._clients,
            self._bundle_added, self._may_rejoin, self._guests.spreader.bundle, self._epochs, self._changes,
        )  # fmt: skip
        self._ordering.evidence.update(((e.signer, e.view), e) for e in recovery.evidence)
        self._by_type: dict[type, Callable[[Any], bool | None]] = {
            PeerSaid: self._peer_said, Tick: lambda event: None, Executed: self._pipeline.executed,
            Proved: self._proofs.proved, StateRead: self._sync.state_read, LeavesRead: self._sync.leaves_read,
            ChunksStored: self._sync.stored, PlainPart: self._sync.plain_part,
            PlainLost: lambda event: self._sync.plain_lost(event.peer),
            EngineResumed: lambda event: self._ordering.drive(event.event),
            ClientAsked: self._client_asked, ClientLeft: lambda event: self._service.left(event.client),
            PeerConnected: self._peer_connected, PeerLost: self._peer_lost,
        }  # fmt: skip
        """What each event does; True when nothing but a block to build can be due after it."""
        self._due_us = now_us

    # -- the interface --------------------------------------------------------------------------------

    def start(self, now_us: int) -> list[Effect]:
        """Begin. Called once."""
        self._ctx.now_us = now_us
        if self._must_log_mute:
            self._ctx.out.append(Persist((Mute(MUTED),)))
        self._pipeline.advance()
        self._ordering.start()
        self._tick()
        effects, self._ctx.out = self._ctx.out, []
        return effects

    def step(self, event: Event, now_us: int) -> list[Effect]:
        """Take one event."""
        ctx = self._ctx
        if now_us > ctx.now_us:
            ctx.now_us = now_us
        if self._by_type[event.__class__](event):
            self._due_us = self._next_due(self._is_quiet())
        else:
            self._tick()
        effects, ctx.out = ctx.out, []
        return effects

    def deadline(self) -> int | None:
        """When the replica next wants a `Tick`, in microseconds; None when it has halted."""
        return None if self._ctx.halted else self._due_us

    @property
    def final(self) -> Header:
        """The newest final block's header."""
        return self._ctx.tree.root

    @property
    def is_catching_up(self) -> bool:
        """Whether blocks are missing below what is certified to be final."""
        return self._pipeline.missing

    @property
    def roster(self) -> Roster:
        """Who decides, as of the newest final block."""
        return self._ctx.roster

    @property
    def halted(self) -> str:
        """Why the replica has halted, or an empty string."""
        return self._ctx.halted

    def queues(self) -> dict[str, int]:
        """How much every table that could grow holds now."""
        return {
            "pool_bundles": len(self._ctx.pool),
            "pool_bytes": self._ctx.pool.bytes,
            "tree": len(self._ctx.tree),
            "evidence": len(self._ordering.evidence),
            **self._bodies.queues(),
            **self._pipeline.queues(),
            **self._ordering.engine.queues(),
        }

    def _tick(self) -> None:
        """After an event: whatever is due."""
        ctx, ordering = self._ctx, self._ordering
        if ctx.halted:
            return
        if self._epochs.ready:
            for peer, message in self._epochs.take_early():
                self._inbox.take(peer, message)
        due = ordering.due_us
        if due is not None and due <= ctx.now_us:
            ordering.drive(engine_.Tick())
        self._service.tick()
        is_quiet = self._is_quiet()
        if not is_quiet:
            self._attend()
        elif self._peers.ping_due_us <= ctx.now_us:
            self._peers.tick(ordering.engine.view)
        self._due_us = self._next_due(is_quiet)

    def _attend(self) -> None:
        """Some part waits for something: each does what is due."""
        view = self._ordering.engine.view
        if self._builder.pending is not None:
            self._builder.tick(view)
        if not self._bodies.is_idle:
            self._bodies.tick()
        if self._peers.ping_due_us <= self._ctx.now_us:
            self._peers.tick(view)
        if not self._sync.is_quiet:
            self._sync.tick()
        self._guests.spreader.tick()

    def _is_quiet(self) -> bool:
        """Whether only the engine and the pings wait for a time: nearly always."""
        if self._builder.pending is not None or self._guests.spreader.due_us is not None:
            return False
        return self._bodies.is_idle and self._sync.is_quiet

    def _next_due(self, is_quiet: bool) -> int:
        earliest, due = self._peers.ping_due_us, self._ordering.due_us
        if due is not None and due < earliest:
            earliest = due
        if is_quiet:
            return earliest
        for part in (self._builder, self._bodies, self._sync, self._guests.spreader):
            due = part.deadline()
            if due is not None and due < earliest:
                earliest = due
        return earliest

    # -- peers ----------------------------------------------------------------------------------------

    def _peer_said(self, event: PeerSaid) -> bool:
        peer, message = event.peer, event.message
        if peer >= FIRST_OBSERVER:
            self._guests.said(peer, message)
        else:
            self._inbox.take(peer, message)
            if message.__class__ is not BundleBody:  # nearly all events are: they can only let a block be built
                return False
        self._builder.attempt()
        return True

    def _peer_connected(self, event: PeerConnected) -> bool:
        peer = event.peer
        if peer >= FIRST_OBSERVER:
            self._guests.connected(peer)
            return True
        self._peers.connected(peer)
        self._clients.spread_again(peer)
        self._changes.connected(peer)
        return False

    def _peer_lost(self, event: PeerLost) -> bool:
        if event.peer >= FIRST_OBSERVER:
            self._guests.lost(event.peer)
            return True
        self._peers.lost(event.peer)
        self._ordering.drive(engine_.PeerGone(event.peer))
        return False

    def _hand_in(self, bundle: Bundle) -> None:
        """A node that doesn't vote hands in a bundle; raises `Refused`."""
        self._clients.take(bundle)
        self._spread(bundle)

    def _spread(self, bundle: Bundle) -> None:
        """A bundle that was handed in here goes to everybody."""
        self._ctx.broadcast(BundleBody(bundle.raw, self._clients.said.stamp_of(bundle.digest)))
        self._guests.spreader.bundle(bundle, self._ctx.index)

    # -- rejoining ------------------------------------------------------------------------------------

    def _may_rejoin(self, peer: int, view: int) -> None:
        above = self._rejoin.heard(peer, view, self._ordering.engine.view)
        if above is not None:
            self._ctx.out.append(Persist((Mute(above),)))
            self._ordering.engine.unmute(above)
            self._ctx.note(Severity.INFO, f"enough validators were heard: this one votes again in views above {above}")

    def _fell_behind(self) -> None:
        """This home was empty, and the chain has moved on: it may have voted in a home that is lost."""
        self._rejoin.mute()
        self._ctx.out.append(Persist((Mute(MUTED),)))
        self._ordering.engine.unmute(MUTED)

    def _bundle_added(self, bundle: Bundle) -> None:
        for block in self._bodies.arrived(bundle):
            entry = self._ctx.tree.get(block)
            if entry is not None:
                self._ordering.examine(entry)

    # -- blocks ---------------------------------------------------------------------------------------

    def _want_parent(self, parent: bytes) -> None:
        entry = self._ctx.tree.get(parent)
        if entry is None:
            self._bodies.want_block(parent, [])
        else:
            entry.wanted = True
            self._ordering.examine(entry)

    def _pending_evidence(self) -> list[Evidence]:
        return list(self._ordering.evidence.values())

    def _built(self, stored: StoredBlock, observed_ms: dict[int, int]) -> None:
        """This node's own block goes through the same check as anybody's."""
        ctx, header = self._ctx, stored.block.header
        sequences = check_bundles(header, stored.bundles, ctx.tree, lambda digest: True)
        entry = ctx.tree.entry(header)
        entry.block, entry.stored, entry.valid, entry.wanted = stored.block, stored, True, True
        entry.sequences, entry.observed_ms = sequences, observed_ms
        self._ordering.drive(engine_.BlockBuilt(header))
        self._pipeline.plan(header.digest)

    def _built_again(self, header: Header) -> None:
        """The last block of an epoch is proposed again by this node."""
        self._ordering.drive(engine_.BlockBuilt(header))
        self._pipeline.plan(header.digest)

    def _on_executed(self, entry: Entry) -> None:
        execution = entry.execution
        assert execution is not None
        self._ordering.drive(engine_.BlockExecuted(entry.header, execution.state_root, execution.event_root))

    def _on_final(self, entry: Entry, fates: list[BundleFate]) -> None:
        stored = entry.stored
        assert stored is not None
        self._service.final(entry, fates)
        self._sync.final(entry.header)
        certificate = self._pipeline.last_certificate
        if certificate is not None and certificate.block == entry.header.digest:
            target = self._pipeline.target
            self._guests.spreader.final(stored.block, certificate, 0 if target is None else target.height)
        self._bodies.forget(entry.header.digest)
        for digest, *_ in fates:
            self._bodies.settle(digest)
        self._ordering.settle_evidence(stored.block)
        if stored.block.payload.change or entry.header.closes_epoch:
            self._roster_changed(entry)
        self._ordering.examine_all()

    def _roster_changed(self, entry: Entry) -> None:
        """A change of validators was ordered, or took effect."""
        ctx = self._ctx
        self._changes.final()
        self._peers.roster_changed()
        ctx.out.append(RosterChanged(ctx.roster))
        if ctx.roster.epoch == self._epochs.current:
            return
        self._ordering.begin(self._epochs.turn(entry.header, self._pipeline.last_certificate))
        for peer in range(len(ctx.validators)):
            if peer != ctx.index and peer not in ctx.connected:
                self._ordering.drive(engine_.PeerGone(peer))

    # -- clients --------------------------------------------------------------------------------------

    def _client_asked(self, event: ClientAsked) -> bool:
        request = event.request
        if type(request) is SubmitSetChange:
            self._changes.submitted(event.client, request.raw)
        elif type(request) is PriceReport:
            self._reported(event.client, request)
        else:
            view, evidence = self._ordering.engine.view, len(self._ordering.evidence)
            self._service.asked(event.client, request, view, evidence)
            if type(request) is Submit:
                self._builder.attempt()
                return True
        return False

    def _reported(self, client: int, report: PriceReport) -> None:
        try:
            self._feed.report(report)
        except Refused as refused:
            self._ctx.out.append(Reply(client, SubmitReply(bytes(32), refused.reason.value, refused.detail)))
