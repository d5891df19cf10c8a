"""Between the ordering engine, which sees headers only, and everything that a header stands for.

The engine asks to build and to check blocks; this fetches, checks and plans them, and answers. Effects of the engine
become effects of the replica, in order; an own notarize vote takes the block that it votes for into the log with it.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from lockstep.base.errors import Reason, Refused
from lockstep.base.limits import EMPTY_DEPTH_MAX, SPECULATIVE_DEPTH_MAX
from lockstep.base.marks import reached
from lockstep.consensus import interface as engine_
from lockstep.consensus.interface import Engine
from lockstep.node.bodies import Bodies
from lockstep.node.checks import (
    check_bundles,
    check_change,
    check_clock,
    check_evidence,
    check_header,
    check_observations,
)
from lockstep.node.context import Context
from lockstep.node.effects import Broadcast, Effect, Persist, Resume, Send, Severity
from lockstep.node.events import EngineResumed
from lockstep.node.pipeline import Pipeline
from lockstep.node.record import Record, StoredBlock
from lockstep.node.tree import Entry
from lockstep.wire.block import Block
from lockstep.wire.bundle import Bundle
from lockstep.wire.certificate import signer_list
from lockstep.wire.evidence import Evidence, decode_evidence
from lockstep.wire.message import Proposal
from lockstep.wire.vote import Finalize, Notarize


class Ordering:
    """Drives the engine and answers it."""

    def __init__(
        self,
        ctx: Context,
        engine: Engine,
        bodies: Bodies,
        pipeline: Pipeline,
        begin_build: Callable[[engine_.Build], None],
        observation_verified: Callable[[bytes], bool],
    ) -> None:
        self._ctx = ctx
        self.engine = engine
        self._bodies = bodies
        self._pipeline = pipeline
        self._begin_build = begin_build
        self._observation_verified = observation_verified
        self._queue: deque[engine_.Event] = deque()
        self._driving = False
        self._next: Engine | None = None
        self._is_closed = False
        """The last block of the engine's epoch is final, but not committed yet: nothing more is to be decided."""
        self.evidence: dict[tuple[int, int], Evidence] = {}
        """Equivocations seen and not in a block of the chain yet, by (signer, view)."""
        self.due_us: int | None = None
        """When the engine next wants a tick. Asked for at every event, and changed only by stepping the engine."""
        self._by_type: dict[type, Callable[[Any], None]] = {
            engine_.Persist: self._persist, engine_.Resume: lambda effect: self._queue.append(effect.event),
            engine_.Broadcast: self._send_on, engine_.SendTo: self._send_on, engine_.Propose: self._send_on,
            engine_.Build: self._begin_build, engine_.Check: self._check_block, engine_.Notarized: self._notarized,
            engine_.Finalized: self._finalized, engine_.Accuse: self._accuse, engine_.Diverged: self._diverged,
            engine_.Misbehaved: self._misbehaved,
        }  # fmt: skip

    def start(self) -> None:
        """Start the engine."""
        for effect in self.engine.start(self._ctx.now_us):
            self._by_type[effect.__class__](effect)
        self._drain()

    def begin(self, engine: Engine) -> None:
        """An epoch begins: its engine takes over."""
        self._next = engine
        if not self._driving:
            self._drain()

    def drive(self, event: engine_.Event) -> None:
        """Step the engine. Answers given while it is being stepped wait their turn: no recursion."""
        if self._is_closed and not isinstance(event, engine_.CertificatesRequested | engine_.BlockExecuted):
            return
        self._queue.append(event)
        if not self._driving:
            self._drain()

    def _drain(self) -> None:
        self._driving = True
        queue, ctx, by_type = self._queue, self._ctx, self._by_type
        try:
            while not ctx.halted:
                if self._next is not None:
                    self.engine, self._next, self._is_closed = self._next, None, False
                    effects = self.engine.start(ctx.now_us)
                elif queue:
                    effects = self.engine.step(queue.popleft(), ctx.now_us)
                else:
                    break
                for effect in effects:
                    by_type[effect.__class__](effect)
        finally:
            self._driving = False
        self.due_us = None if self._is_closed else self.engine.deadline()

    def _send_on(self, effect: engine_.Effect) -> None:
        self._ctx.out.append(self._outgoing(effect))

    def _check_block(self, effect: engine_.Check) -> None:
        self._want(self._ctx.tree.entry(effect.header))

    def _finalized(self, effect: engine_.Finalized) -> None:
        header = self._ctx.tree.header(effect.certificate.block)
        self._is_closed = self._is_closed or (header is not None and header.closes_epoch)
        self._pipeline.finalise(effect.certificate)

    def _misbehaved(self, effect: engine_.Misbehaved) -> None:
        self._ctx.note(Severity.WARNING, f"validator {effect.peer}: {effect.detail}")

    def _outgoing(self, effect: engine_.Effect) -> Effect:
        if type(effect) is engine_.Broadcast:
            return Broadcast(effect.message)
        if type(effect) is engine_.Resume:
            return Resume(EngineResumed(effect.event))
        if type(effect) is engine_.SendTo:
            return Send(effect.peer, effect.message)
        if type(effect) is not engine_.Propose:
            raise TypeError(f"{type(effect).__name__} cannot wait for a write")
        entry = self._ctx.tree.get(effect.header.digest)
        assert entry is not None and entry.block is not None, "only a block that was built here is proposed"
        at = engine_.Proposed(effect.header, effect.again)
        payload = entry.block.payload.encode()
        return Broadcast(Proposal(effect.header.encode(), payload, effect.signature, at.view, at.parent_view))

    def _persist(self, effect: engine_.Persist) -> None:
        record = effect.record
        records: list[Record] = [record]
        if type(record) is Notarize or type(record) is Finalize:
            entry = self._ctx.tree.get(record.block)
            if entry is not None and entry.stored is not None and not entry.persisted:
                entry.persisted = True
                records.insert(0, entry.stored)
        self._ctx.out.append(Persist(tuple(records), tuple([self._outgoing(then) for then in effect.then])))

    def _notarized(self, effect: engine_.Notarized) -> None:
        certificate = effect.certificate
        signers = [s for s in signer_list(certificate.signers, len(self._ctx.validators)) if s != self._ctx.index]
        entry = self._ctx.tree.get(certificate.block)
        if entry is None:
            if certificate.block != self._ctx.tree.root.digest:
                self._bodies.want_block(certificate.block, signers)
            return
        entry.notarized = True
        entry.view = max(entry.view, certificate.view)
        entry.signers = tuple(signers)
        if entry.valid is False:
            self._ctx.halt(
                f"a quorum notarized block {entry.header.digest.hex()}, which is not valid by this node's rules: "
                "its software or state differs from the network's."
            )
            return
        self._want(entry)

    def _accuse(self, effect: engine_.Accuse) -> None:
        evidence = effect.evidence
        key = (evidence.signer, evidence.view)
        if key not in self.evidence:
            self.evidence[key] = evidence
            self._ctx.out.append(Persist((evidence,)))
            self._ctx.note(Severity.ALARM, f"validator {key[0]} signed two contradicting votes in view {key[1]}")

    def settle_evidence(self, block: Block) -> None:
        """The block is final: what it proves is on the chain."""
        for raw in block.payload.evidence:
            evidence = decode_evidence(raw, self._ctx.validators)
            self.evidence.pop((evidence.signer, evidence.view), None)

    def _diverged(self, effect: engine_.Diverged) -> None:
        who = ", ".join(str(signer) for signer in effect.signers)
        text = (
            f"DIVERGENCE at height {effect.height}: this node computed state root {effect.own[0].hex()} and event root "
            f"{effect.own[1].hex()}; validators {who} signed {effect.other[0].hex()} and {effect.other[1].hex()}."
        )
        if effect.fatal:
            text += " No quorum can form on this node's result, so it stops trading and voting."
            self._ctx.halt(text, effect.block, effect.height)
        else:
            self._ctx.note(Severity.ALARM, text)

    # -- blocks ---------------------------------------------------------------------------------------

    def offer(self, block: Block) -> None:
        """A block with its payload is here (from a proposal, an answer, or the log)."""
        if block.header.height <= self._ctx.tree.root.height:
            return
        entry = self._ctx.tree.entry(block.header)
        if entry.block is None:
            entry.block = block
        if self._bodies.wants_block(block.header.digest):
            self._bodies.got_block(block.header.digest)
            entry.wanted = True
        self.examine(entry)

    def _want(self, entry: Entry) -> None:
        entry.wanted = True
        if entry.valid is not None:
            self.drive(engine_.BlockChecked(entry.header.digest, entry.valid))
            self._pipeline.plan(entry.header.digest)
        self.examine(entry)

    def examine_all(self) -> None:
        """Examine every wanted block again: the final height has moved."""
        for entry in sorted(self._ctx.tree.entries(), key=lambda e: e.header.height):
            self.examine(entry)

    def examine(self, entry: Entry) -> None:
        """Check a wanted block as soon as everything that the answer depends on is here."""
        tree, header = self._ctx.tree, entry.header
        if not entry.wanted or entry.valid is not None:
            return
        depth = SPECULATIVE_DEPTH_MAX if header.bundles else EMPTY_DEPTH_MAX
        if not tree.root.height < header.height <= tree.root.height + depth:
            reached("ordering: a block too deep to vote for")
            return  # too far ahead to vote: asked again when the final height moves
        if entry.block is None:
            self._bodies.want_block(header.digest, [header.proposer, *entry.signers])
            return
        if not tree.is_valid(header.parent) and not self._ask_for_parent(entry):
            return
        bundles = self._resolve(entry, entry.block)
        if bundles is None:
            return
        try:
            self._check(entry, entry.block, bundles)
            if not entry.notarized:
                check_clock(header, self._ctx.now_ms)
        except Refused as refused:
            self._answer_invalid(entry, refused)
            return
        self._answer_valid(entry, StoredBlock(entry.block, bundles))

    def _ask_for_parent(self, entry: Entry) -> bool:
        """Returns whether the parent is valid now."""
        parent = self._ctx.tree.get(entry.header.parent)
        if parent is None:
            self._bodies.want_block(entry.header.parent, [entry.header.proposer, *entry.signers])
            return False
        parent.wanted = True
        self.examine(parent)
        return parent.valid is True and entry.valid is None

    def _resolve(self, entry: Entry, block: Block) -> tuple[Bundle, ...] | None:
        found = []
        missing = []
        for digest in block.payload.bundle_digests():
            bundle = self._bodies.find(digest)
            if bundle is None:
                missing.append(digest)
            else:
                found.append(bundle)
        if missing:
            reached("ordering: bundles of a block are missing")
            self._bodies.want_bundles(entry, missing)
            return None
        return tuple(found)

    def _check(self, entry: Entry, block: Block, bundles: tuple[Bundle, ...]) -> None:
        ctx, header = self._ctx, entry.header
        parent = ctx.tree.header(header.parent)
        assert parent is not None
        roster = ctx.tree.roster_after(header.parent)
        check_header(header, parent, roster, ctx.genesis.parameters.block_commands_max)
        entry.sequences = check_bundles(header, bundles, ctx.tree, lambda d: ctx.pool.get(d) is not None)
        observations = check_observations(
            block, ctx.tree, len(ctx.genesis.instruments), roster.validators, self._observation_verified
        )
        entry.observed_ms = {o.validator: o.time_ms for o in observations}
        check_evidence(block, roster.validators)
        check_change(block, roster)

    def _answer_invalid(self, entry: Entry, refused: Refused) -> None:
        header = entry.header
        if refused.reason is Reason.FUTURE_TIMESTAMP:
            reached("ordering: a block from the future waits")
            entry.wanted = False  # our clock's opinion, not a fact: a notarization overrules it
        else:
            entry.valid = False
        text = f"block {header.height} of validator {header.proposer} in view {header.view} is not valid: {refused}"
        reached("ordering: a notarized block is invalid")
        if entry.notarized:
            self._ctx.halt(f"{text}. A quorum voted for it, so this node's rules or state differ from the network's.")
            return
        self._ctx.note(Severity.WARNING, text)
        self.drive(engine_.BlockChecked(header.digest, valid=False))

    def _answer_valid(self, entry: Entry, stored: StoredBlock) -> None:
        entry.valid = True
        entry.stored = stored
        self.drive(engine_.BlockChecked(entry.header.digest, valid=True))
        self._pipeline.plan(entry.header.digest)
        self._pipeline.advance()
        for child in self._ctx.tree.entries():
            if child.header.parent == entry.header.digest:
                self.examine(child)
