"""One node in a simulated world: the unmodified replica, executor and log, on a simulated disk, clock and network.

`crash` ends its process at any moment, also between two effects of one step; `start` begins a new one from the disk.
What the process does by itself to end (a failed write, a log that it refuses, a broken invariant) is told to the
world by `stopped`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from lockstep.base.errors import Refused, StorageFailed
from lockstep.base.keys import PrivateKey
from lockstep.node import effects as effect_
from lockstep.node.answers import votes
from lockstep.node.effects import Effect
from lockstep.node.events import ClientAsked, Event, Executed, PeerConnected, PeerLost, PeerSaid, Tick
from lockstep.node.executor import Executor
from lockstep.node.follower import Follower
from lockstep.node.prover import prove
from lockstep.node.recovery import Restored
from lockstep.node.replica import Identity, Replica
from lockstep.node.restore import directory_of, observed_of
from lockstep.simulator.behaviour import Behaviour
from lockstep.simulator.clock import NodeClock
from lockstep.simulator.disk import Disk, Survival
from lockstep.simulator.history import Blame, Final, NodeHistory
from lockstep.simulator.machine import Machine
from lockstep.simulator.parcel import Parcel, parcel_of, parcel_of_raw
from lockstep.simulator.simulated_light import SimulatedLight
from lockstep.simulator.simulated_storage import SimulatedStorage
from lockstep.simulator.simulated_store import SimulatedStore
from lockstep.sync.checkpoint_server import CheckpointServer
from lockstep.venue.event import EVENT
from lockstep.venue.venue import Venue
from lockstep.wire.block import Header, decode_header, genesis_header
from lockstep.wire.certificate import Finalization
from lockstep.wire.client import ClientReply, ClientRequest, Fate
from lockstep.wire.codec import encode
from lockstep.wire.evidence import Evidence
from lockstep.wire.genesis import Genesis
from lockstep.wire.message import FetchCheckpoint, PeerMessage

if TYPE_CHECKING:
    from lockstep.simulator.world import World


@dataclass(slots=True)
class Home:
    """What outlives a process."""

    disk: Disk
    store: SimulatedStore = field(default_factory=SimulatedStore)
    clock: NodeClock = field(default_factory=NodeClock)
    is_rebuilt: bool = False
    """Made anew for a validator that has voted before: its record of own votes is not complete."""

    def rebuild(self) -> None:
        """Everything is lost, but the key."""
        self.disk.erase()
        self.store = SimulatedStore()
        self.is_rebuilt = True


class SimulatedNode:
    """A node's process, or the lack of one."""

    def __init__(
        self,
        world: World,
        genesis: Genesis,
        index: int,
        instance: int,
        key: PrivateKey,
        feed_key: bytes,
        home: Home,
        random: Random,
    ) -> None:
        """`instance` tells twins apart, who share an index and a key."""
        self.world = world
        self.genesis = genesis
        self.index = index
        self.instance = instance
        self.key = key
        self.home = home
        self.machine = Machine()
        self.random = random
        """For this node's behaviour."""
        self.behaviour: Behaviour | None = None
        self._identity = Identity(index, key, feed_key)
        self.is_up = False
        self.is_paused = False
        self.incarnation = 0
        self.crash_after_effects = -1
        """The process dies after so many more effects; -1: it doesn't."""
        self.sync_extra_us = 0
        """A disk that is slow at present."""
        self.history = NodeHistory(index)
        self.finals: dict[int, tuple[bytes, bytes]] = {}
        """Height → (block digest, state root) of every block that this node ever committed."""
        self.replies: list[tuple[int, ClientReply]] = []
        self.notes: list[effect_.Note] = []
        self._carriers: dict[type, Callable[..., None]] = {
            effect_.Send: self._send,
            effect_.Broadcast: self._broadcast,
            effect_.Persist: self._persist,
            effect_.Resume: lambda e: self._events.append(e.event),
            effect_.Execute: self._execute,
            effect_.Commit: self._commit,
            effect_.Checkpoint: lambda e: self.storage.put((e, self.executor.venue.ledger.checkpoint())),
            effect_.Reply: self._reply,
            effect_.ServeChain: self._serve_chain,
            effect_.ServeFate: self._serve_fate,
            effect_.ServeProof: lambda e: self._reply(effect_.Reply(e.client, self._light.answer(e))),
            effect_.ServeEvents: lambda _: None,  # nobody in here reads events
            effect_.ServeState: self._serve_state,
            effect_.ReadState: lambda e: self.storage.put(e),
            effect_.StoreChunks: lambda e: self.storage.put(e),
            effect_.InstallState: lambda e: self.storage.put(e),
            effect_.Prove: self._prove,
            effect_.DropPeer: self._drop,
            effect_.Note: self._note,
            effect_.Halt: lambda e: self.world.halted(self, e.text),
        }

    # -- life -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, or begin again, from what the disk holds."""
        world = self.world
        self.incarnation += 1
        self.history.starts += 1
        self.home.store.index_lost()
        self.home.clock.begin(world.now_us)
        self.is_up, self.is_paused = True, False
        self.crash_after_effects = -1
        self._held: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()
        self._events: deque[Event] = deque()
        self._is_running = False
        self._timer_us = -1
        self._free_us = world.now_us
        self._headers: dict[bytes, tuple[Header, bytes, bytes]] = {}
        self._certificates: dict[bytes, Finalization] = {}
        try:
            self._open()
        except StorageFailed as error:
            self._fail(error)
            return
        self._run(self.replica.start(self.now_us))
        if self.is_up:
            world.connect_all(self)

    def _open(self) -> None:
        home, genesis = self.home, self.genesis
        incarnation = self.incarnation

        def released(effects: list[Effect]) -> None:
            self._later(incarnation, self._run, effects)

        def failed(error: Exception) -> None:
            if self.incarnation == incarnation:
                self._fail(error)

        self._checkpoints = CheckpointServer(home.store)
        self.storage = SimulatedStorage(self, home.disk, home.store, released, failed)
        records = self.storage.open()
        self._light = SimulatedLight(self.storage.reader, home.store, self._events_of)
        self._certificates = {record.block: record for record in records if isinstance(record, Finalization)}
        meta = home.store.meta
        header = genesis_header(genesis.chain_id, genesis.time_ms) if meta is None else decode_header(meta.header)
        venue = Venue(genesis, home.store.state())
        self.executor = Executor(venue, header.digest, header.height)
        self._directory = directory_of(venue)
        is_rebuilt = home.is_rebuilt or (meta is not None and meta.is_rebuilt)
        restored = Restored(header, venue.ledger.root, self._directory, observed_of(venue), records, is_rebuilt)
        self.replica: Replica | Follower
        if votes(self.index):
            self.replica = Replica(genesis, self._identity, restored, self.now_us, self.machine.state_from_blocks)
        else:
            self.replica = Follower(genesis, f"observer-{self.instance}", self.key, restored, self.now_us)

    def crash(self, survival: Survival | None = Survival.PREFIX) -> None:
        """End the process. With a `survival` the machine loses its power too; without, only the process dies."""
        if not self.is_up:
            return
        self._end()
        if survival is None:
            self.home.disk.kill()
        else:
            self.home.disk.power_failure(survival)

    def _end(self) -> None:
        self.is_up = self.is_paused = False
        self.incarnation += 1
        storage = getattr(self, "storage", None)
        if storage is not None:
            storage.close()
        self.world.disconnect_all(self)

    def _fail(self, error: Exception) -> None:
        """The process ends by itself."""
        self.history.stopped = str(error)
        self._end()
        self.home.disk.kill()
        self.world.stopped(self, error)

    def begin_anew(self) -> None:
        """A state that was fetched has become the checkpoint: the process begins again from it."""
        self._end()
        self.home.disk.kill()
        self.start()

    def pause(self) -> None:
        """Nothing moves (SIGSTOP); the world goes on."""
        self.is_paused = self.is_up

    def resume(self) -> None:
        """Everything that came meanwhile is taken now."""
        if not self.is_paused:
            return
        self.is_paused = False
        held, self._held = self._held, deque()
        for action, arguments in held:
            if not self.is_up:
                return
            action(*arguments)

    @property
    def now_us(self) -> int:
        """By this node's clock."""
        return self.home.clock.now_us(self.world.now_us)

    def next_sequence(self, account: int) -> int:
        """The account's next sequence, as of this node's final state."""
        return self._directory.next_sequence(account)

    def queues(self) -> dict[str, int]:
        """How much every table that could grow holds now."""
        return {**self.replica.queues(), "storage": self.storage.waiting, "events": len(self._events)}

    # -- events ---------------------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        """Step the replica and carry out what it wants."""
        if not self.is_up:
            return
        if self.is_paused:
            self._held.append((self.take, (event,)))
            return
        self._events.append(event)
        self._run(())

    def receive(self, peer: int, parcel: Parcel) -> None:
        """Bytes came from a peer: decode them as the transport does, which drops whoever sends nonsense."""
        message = parcel.message()
        if message is None:
            self.world.drop(self, peer)
            return
        if self.behaviour is not None:
            message = self.behaviour.incoming(self, peer, message)
        if message is not None:
            self.take(PeerSaid(peer, message))

    def ask(self, client: int, request: ClientRequest) -> None:
        """A client asks."""
        self.take(ClientAsked(client, request))

    def _later(self, incarnation: int, action: Callable[..., None], *arguments: object) -> None:
        """Something comes back to this process, if it still is this process."""
        if self.incarnation != incarnation:
            return
        if self.is_paused:
            self._held.append((action, arguments))
        else:
            action(*arguments)

    def _run(self, effects: list[Effect] | tuple[Effect, ...]) -> None:
        """As the runtime's driver: an event that comes up while effects are carried out waits its turn."""
        if self._is_running or not self.is_up:
            return
        self._is_running = True
        incarnation = self.incarnation
        try:
            alive = self._carry(effects, incarnation)
            while alive and self._events:
                event = self._events.popleft()
                alive = self._carry(self.replica.step(event, self.now_us), incarnation)
        except Exception as error:  # noqa: BLE001 (what the replica raises ends its process, and is judged by the world)
            if self.incarnation == incarnation:
                self._fail(error)
            return
        finally:
            if self.incarnation == incarnation:
                self._is_running = False
        if alive:
            self._arm()

    def _carry(self, effects: list[Effect] | tuple[Effect, ...], incarnation: int) -> bool:
        """Carry out effects in order; False when the process ended meanwhile."""
        for effect in effects:
            if self.crash_after_effects >= 0:
                if self.crash_after_effects == 0:
                    self.world.crash_now(self)
                    return False
                self.crash_after_effects -= 1
            self._carriers[type(effect)](effect)
            if self.incarnation != incarnation:
                return False
        return True

    def _arm(self) -> None:
        """One timer. One that is due earlier is left: when it fires, it is set again."""
        due = self.replica.deadline()
        if due is None:
            return
        now_us = self.world.now_us
        due_us = now_us + self.home.clock.wait_us(now_us, due)
        if self._timer_us < 0 or due_us < self._timer_us:
            self._timer_us = due_us
            self.world.call(due_us - now_us, self._fire, due_us, self.incarnation)

    def _fire(self, due_us: int, incarnation: int) -> None:
        if self.incarnation != incarnation or self._timer_us != due_us:
            return
        if self.is_paused:
            self._held.append((self._fire, (due_us, incarnation)))
            return
        self._timer_us = -1
        due = self.replica.deadline()
        if due is not None and due <= self.now_us:
            self.take(Tick())
        else:
            self._arm()

    # -- effects --------------------------------------------------------------------------------------

    def _send(self, effect: effect_.Send) -> None:
        if self.behaviour is not None:
            self._misbehave(effect.peer, effect.message)
        else:
            self.world.transmit(self, effect.peer, parcel_of(effect.message))

    def _broadcast(self, effect: effect_.Broadcast) -> None:
        peers = [peer for peer in range(len(self.genesis.validators)) if peer != self.index]
        if self.behaviour is not None:
            for peer in peers:
                self._misbehave(peer, effect.message)
            return
        parcel = parcel_of(effect.message)
        for peer in peers:
            self.world.transmit(self, peer, parcel)

    def _misbehave(self, peer: int, message: PeerMessage) -> None:
        assert self.behaviour is not None
        for leaving in self.behaviour.outgoing(self, peer, message):
            self.say(peer, leaving)

    def say(self, peer: int, leaving: PeerMessage | bytes) -> None:
        """Send something as it is."""
        parcel = parcel_of_raw(leaving) if isinstance(leaving, bytes) else parcel_of(leaving)
        self.world.transmit(self, peer, parcel)

    def _persist(self, effect: effect_.Persist) -> None:
        self.storage.put(effect)
        for record in effect.records:
            if isinstance(record, Finalization):
                self._certificates[record.block] = record
            elif isinstance(record, Evidence):
                self.world.saw_evidence(self, record.signer, record.view, encode(record))

    def _execute(self, effect: effect_.Execute) -> None:
        """At once, but the answer takes as long as the executor's thread would."""
        world, block = self.world, effect.stored.block
        execution = self.executor.execute(effect.stored, effect.observations)
        self.history.executed[block.digest] = (execution.state_root, execution.event_root)
        self._headers[block.digest] = (block.header, execution.state_root, execution.event_root)
        world.saw_block(effect.stored)
        cost_us = self.machine.execute_us + block.header.commands
        self._free_us = max(self._free_us, world.now_us) + cost_us
        answer = Executed(block.digest, execution)
        world.call(self._free_us - world.now_us, self._later, self.incarnation, self.take, answer)

    def _prove(self, effect: effect_.Prove) -> None:
        world = self.world
        answer = prove(self.executor, effect.question)
        world.call(max(0, self._free_us - world.now_us), self._later, self.incarnation, self.take, answer)

    def _commit(self, effect: effect_.Commit) -> None:
        self.executor.commit(effect.block)
        self.storage.put(effect)
        header, state_root, event_root = self._headers.pop(effect.block)
        certificate = self._certificates.pop(effect.block, None)
        final = Final(
            effect.height, header.view, effect.block, header.encode(), state_root, event_root,
            effect.events.tobytes(), None if certificate is None else encode(certificate), self.world.now_us,
        )  # fmt: skip
        self.finals[effect.height] = (effect.block, state_root)
        first = self.history.finals.setdefault(effect.height, final)
        if (first.block, first.state_root, first.event_root) != (effect.block, state_root, event_root):
            self.history.recommits.append(final)
        self.world.committed(self, final)

    def _reply(self, effect: effect_.Reply) -> None:
        self.world.replied(self, effect.client, effect.message)

    def _serve_chain(self, effect: effect_.ServeChain) -> None:
        chain = self.storage.chain(effect.from_height, effect.final_height)
        self._send(effect_.Send(effect.peer, chain))

    def _serve_state(self, effect: effect_.ServeState) -> None:
        try:
            if isinstance(effect.request, FetchCheckpoint):
                offer = self._checkpoints.offer(effect.request.height, self.world.now_us)
                if offer is not None:
                    self._send(effect_.Send(effect.peer, offer))
            else:
                part = self._checkpoints.part(effect.request, self.world.now_us)
                self._send(effect_.Send(effect.peer, part))
        except Refused:
            self.world.drop(self, effect.peer)

    def _events_of(self, height: int) -> bytes:
        final = self.history.finals.get(height)
        return b"" if final is None else final.events

    def _serve_fate(self, effect: effect_.ServeFate) -> None:
        place = self.home.store.fate(effect.digest)
        final = None if place is None else self.history.finals.get(place.height)
        if place is None or final is None:
            fate = Fate(effect.digest, "unknown", 0, 0, "", b"")
        else:
            rows = final.events[place.first * EVENT.itemsize : (place.first + place.events) * EVENT.itemsize]
            fate = Fate(effect.digest, "final", place.height, place.place, "", rows)
        self._reply(effect_.Reply(effect.client, fate))

    def _drop(self, effect: effect_.DropPeer) -> None:
        self.history.blamed.append(Blame(self.world.now_us, effect.peer, effect.detail))
        self.world.drop(self, effect.peer)

    def _note(self, effect: effect_.Note) -> None:
        self.notes.append(effect)
        self.world.noted(self, effect)

    # -- what the world tells ---------------------------------------------------------------------------

    def connected(self, peer: int) -> None:
        """A connection is up."""
        self.take(PeerConnected(peer))

    def lost(self, peer: int) -> None:
        """No connection is left."""
        self.take(PeerLost(peer))
