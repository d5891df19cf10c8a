"""Carries out what a simulated node's replica wants, in place of the runtime's driver, executor thread and archive."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lockstep.base.errors import Refused
from lockstep.node import effects as effect_
from lockstep.node.event_batch import FinalEvents, fill
from lockstep.node.events import Executed
from lockstep.node.prover import prove
from lockstep.node.record import Record, stored_block
from lockstep.node.retention import pruned_text
from lockstep.simulator.history import Blame, Final
from lockstep.simulator.parcel import parcel_of
from lockstep.simulator.simulated_light import SimulatedLight
from lockstep.sync.checkpoint_server import CheckpointServer
from lockstep.venue.event import EVENT
from lockstep.wire.block import Header
from lockstep.wire.certificate import Finalization
from lockstep.wire.client import Fate
from lockstep.wire.codec import encode
from lockstep.wire.evidence import Evidence
from lockstep.wire.light import LightReply
from lockstep.wire.message import FetchCheckpoint, FetchState, PeerMessage, StatePart

if TYPE_CHECKING:
    from lockstep.simulator.simulated_node import SimulatedNode


class Carrier:
    """One node's; `begin` at every start of its process."""

    def __init__(self, node: "SimulatedNode") -> None:
        self._node = node
        self._world = node.world
        self._others = [peer for peer in range(len(node.genesis.validators)) if peer != node.index]
        self.by_type: dict[type, Callable[[Any], None]] = {
            effect_.Send: self._send,
            effect_.Broadcast: self._broadcast,
            effect_.Persist: self._persist,
            effect_.Resume: lambda e: node.again(e.event),
            effect_.Execute: self._execute,
            effect_.Commit: self._commit,
            effect_.Checkpoint: lambda e: node.storage.put((e, node.executor.venue.ledger.checkpoint())),
            effect_.RosterChanged: lambda e: node.home.learn(e.roster),  # everybody can be reached anyway
            effect_.Reply: self._reply,
            effect_.ServeChain: self._serve_chain,
            effect_.ServeFate: self._serve_fate,
            effect_.ServeProof: self._serve_proof,
            effect_.ServeEvents: self._serve_events,
            effect_.ServeState: self._serve_state,
            effect_.ReadState: lambda e: node.storage.put(e),
            effect_.ReadLeaves: lambda e: node.storage.put(e),
            effect_.StoreChunks: lambda e: node.storage.put(e),
            effect_.InstallState: lambda e: node.storage.put(e),
            effect_.Prove: self._prove,
            effect_.LeavePlain: self._leave_plain,
            effect_.DropPeer: self._drop,
            effect_.Note: self._note,
            effect_.Halt: lambda e: self._world.halted(node, e.text),
        }

    def begin(self) -> None:
        """A process starts."""
        self._everywhere = [route for peer in self._others for route in self._node.routes[peer]]
        self._free_us = self._world.now_us
        self._unanswered: list[Executed] = []
        self._headers: dict[bytes, tuple[Header, bytes, bytes]] = {}
        self._certificates: dict[bytes, Finalization] = {}
        self._checkpoints = CheckpointServer(self._node.home.store)

    def restore(self, records: Sequence[Record]) -> None:
        """The log is open, and holds these."""
        node = self._node
        self._light = SimulatedLight(node.storage.reader, node.home.store, self._events_of, node.home.sets.get)
        self._certificates = {record.block: record for record in records if isinstance(record, Finalization)}

    def served_checkpoint(self) -> int | None:
        """Let go of checkpoints that nobody has asked for of late; the height of the lowest that is left."""
        self._checkpoints.release(self._world.now_us)
        return self._checkpoints.lowest

    # -- messages -------------------------------------------------------------------------------------

    def _send(self, effect: effect_.Send) -> None:
        message, plain = effect.message, self._world.plain
        if plain is not None and isinstance(message, FetchState) and message.chunks and not message.marks:
            plain.requested(self._node, effect.peer, message)
        if self._node.behaviour is not None:
            self._misbehave(effect.peer, effect.message)
        else:
            self._world.transmit(self._node.routes.get(effect.peer, ()), parcel_of(effect.message))

    def _broadcast(self, effect: effect_.Broadcast) -> None:
        if self._node.behaviour is not None:
            for peer in self._others:
                self._misbehave(peer, effect.message)
            return
        self._world.transmit(self._everywhere, parcel_of(effect.message))

    def _misbehave(self, peer: int, message: PeerMessage) -> None:
        node = self._node
        assert node.behaviour is not None
        for leaving in node.behaviour.outgoing(node, peer, message):
            node.say(peer, leaving)

    def _send_part(self, peer: int, request: FetchState, part: StatePart) -> None:
        """Whole chunks go over the plain connection with a peer, if there is one; of a liar, its lies."""
        node, plain = self._node, self._world.plain
        if plain is None or not request.chunks or request.marks or not part.data:
            self._send(effect_.Send(peer, part))
            return
        leaving = [part] if node.behaviour is None else node.behaviour.outgoing(node, peer, part)
        for message in leaving:
            if not isinstance(message, StatePart) or not plain.carry(node, peer, message):
                node.say(peer, message)

    def _leave_plain(self, effect: effect_.LeavePlain) -> None:
        if self._world.plain is not None:
            self._world.plain.left(self._node, effect.peer)

    def _reply(self, effect: effect_.Reply) -> None:
        self._world.replied(self._node, effect.client, effect.message)

    def _drop(self, effect: effect_.DropPeer) -> None:
        self._node.history.blamed.append(Blame(self._world.now_us, effect.peer, effect.detail))
        self._world.drop(self._node, effect.peer)

    def _note(self, effect: effect_.Note) -> None:
        self._node.notes.append(effect)
        self._world.noted(self._node, effect)

    # -- blocks ---------------------------------------------------------------------------------------

    def _persist(self, effect: effect_.Persist) -> None:
        self._node.storage.put(effect)
        for record in effect.records:
            if type(record) is Finalization:  # not isinstance, which takes long to say no to a msgspec structure
                self._certificates[record.block] = record
            elif type(record) is Evidence:
                self._world.saw_evidence(self._node, record.signer, record.view, encode(record))

    def _execute(self, effect: effect_.Execute) -> None:
        """At once, but the answer takes as long as the executor's thread would."""
        node, world, block = self._node, self._world, effect.stored.block
        execution = node.executor.execute(effect.stored, effect.observations)
        node.history.executed[block.digest] = (execution.state_root, execution.event_root)
        self._headers[block.digest] = (block.header, execution.state_root, execution.event_root)
        world.saw_block(effect.stored)
        cost_us = node.machine.execute_us + block.header.commands
        self._free_us = max(self._free_us, world.now_us) + cost_us
        answer = Executed(block.digest, execution)
        world.call(self._free_us - world.now_us, node.later, node.incarnation, self._executed, answer)

    def _executed(self, answer: Executed) -> None:
        if not self._node.is_busy and not self._unanswered:
            self._node.take(answer)
            return
        self._unanswered.append(answer)
        self.work_on()

    def work_on(self) -> None:
        """Say what was executed, in order, unless the processor is busy still."""
        node, unanswered = self._node, self._unanswered
        if node.is_busy:
            return
        self._unanswered, incarnation = [], node.incarnation
        for answer in unanswered:
            node.later(incarnation, node.take, answer)

    def _prove(self, effect: effect_.Prove) -> None:
        node, world = self._node, self._world
        answer = prove(node.executor, effect.question)
        world.call(max(0, self._free_us - world.now_us), node.later, node.incarnation, node.take, answer)

    def _commit(self, effect: effect_.Commit) -> None:
        node = self._node
        node.executor.commit(effect.block)
        node.storage.put(effect)
        header, state_root, event_root = self._headers.pop(effect.block)
        certificate = self._certificates.pop(effect.block, None)
        final = Final(
            effect.height, header.view, effect.block, header.encode(), state_root, event_root,
            effect.events.tobytes(), None if certificate is None else encode(certificate), self._world.now_us,
        )  # fmt: skip
        node.finals[effect.height] = (effect.block, state_root)
        first = node.history.finals.setdefault(effect.height, final)
        if (first.block, first.state_root, first.event_root) != (effect.block, state_root, event_root):
            node.history.recommits.append(final)
        self._world.committed(node, final)

    # -- serving --------------------------------------------------------------------------------------

    def _serve_chain(self, effect: effect_.ServeChain) -> None:
        chain = self._node.storage.chain(effect.from_height, effect.final_height)
        self._send(effect_.Send(effect.peer, chain))

    def _serve_state(self, effect: effect_.ServeState) -> None:
        now_us = self._world.now_us
        try:
            if isinstance(effect.request, FetchCheckpoint):
                offer = self._checkpoints.offer(effect.request.height, now_us)
                if offer is not None:
                    self._send(effect_.Send(effect.peer, offer))
            else:
                self._send_part(effect.peer, effect.request, self._checkpoints.part(effect.request, now_us))
        except Refused:
            self._world.drop(self._node, effect.peer)

    def _serve_proof(self, effect: effect_.ServeProof) -> None:
        answer = self._light.answer(effect)
        if effect.is_peer and isinstance(answer, LightReply):
            self._send(effect_.Send(effect.client, answer))
        else:
            self._reply(effect_.Reply(effect.client, answer))

    def _events_of(self, height: int) -> bytes:
        final = self._node.history.finals.get(height)
        return b"" if final is None else final.events

    def _serve_events(self, effect: effect_.ServeEvents) -> None:
        batch = fill(effect.head, effect.request, effect.recent, self._final_events)
        self._reply(effect_.Reply(effect.client, batch))

    def _final_events(self, height: int) -> FinalEvents | None:
        final = self._node.history.finals.get(height)
        chain = self._node.storage.chain(height, height)
        if final is None or not chain.blocks:
            return None
        stored = stored_block(chain.blocks[0])
        rows = np.frombuffer(final.events, EVENT)
        return FinalEvents(stored, rows, final.event_root, (), not stored.bundles, chain.finalization)

    def _serve_fate(self, effect: effect_.ServeFate) -> None:
        node = self._node
        place = node.home.store.fate(effect.digest)
        final = None if place is None else node.history.finals.get(place.height)
        if place is None or final is None:
            lowest = node.home.store.lowest
            fate = Fate(effect.digest, "unknown", 0, 0, pruned_text(lowest) if lowest > 1 else "", b"")
        else:
            rows = final.events[place.first * EVENT.itemsize : (place.first + place.events) * EVENT.itemsize]
            fate = Fate(effect.digest, "final", place.height, place.place, "", rows)
        self._reply(effect_.Reply(effect.client, fate))
