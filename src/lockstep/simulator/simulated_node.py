"""One node in a simulated world: the unmodified replica, executor and log, on a simulated disk, clock and network.

`crash` ends its process at any moment, also between two effects of one step; `start` begins a new one from the disk.
What the process does by itself to end (a failed write, a log that it refuses, a broken invariant) is told to the
world by `stopped`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final

from lockstep.base.errors import StorageFailed
from lockstep.base.keys import PrivateKey
from lockstep.node.answers import votes
from lockstep.node.effects import Effect, Note
from lockstep.node.events import ClientAsked, Event, PeerConnected, PeerLost, PeerSaid, Tick
from lockstep.node.executor import Executor
from lockstep.node.follower import Follower
from lockstep.node.recovery import Restored
from lockstep.node.replacement import Chunks, Standing, replaced
from lockstep.node.replica import Identity, Replica
from lockstep.node.restore import directory_of, observed_of
from lockstep.simulator.behaviour import Behaviour
from lockstep.simulator.carrier import Carrier
from lockstep.simulator.clock import NodeClock
from lockstep.simulator.connections import Route
from lockstep.simulator.disk import Disk, Survival
from lockstep.simulator.history import NodeHistory
from lockstep.simulator.machine import Machine
from lockstep.simulator.parcel import Parcel, parcel_of, parcel_of_raw
from lockstep.simulator.simulated_storage import SimulatedStorage
from lockstep.simulator.simulated_store import SimulatedStore
from lockstep.venue.venue import Venue
from lockstep.wire.block import decode_header, genesis_header
from lockstep.wire.client import ClientReply, ClientRequest
from lockstep.wire.genesis import Genesis
from lockstep.wire.message import PeerMessage
from lockstep.wire.roster import Roster, genesis_roster
from lockstep.wire.validators import ValidatorSet

if TYPE_CHECKING:
    from lockstep.simulator.world import World


_NEVER_US: Final = 1 << 62


@dataclass(slots=True)
class Home:
    """What outlives a process."""

    disk: Disk
    store: SimulatedStore = field(default_factory=SimulatedStore)
    clock: NodeClock = field(default_factory=NodeClock)
    is_rebuilt: bool = False
    """Made anew for a validator that has voted before: its record of own votes is not complete."""

    sets: dict[bytes, ValidatorSet] = field(default_factory=dict)
    """Validator sets by their hash, for light clients."""

    def learn(self, roster: Roster) -> None:
        """Keep the set that decides, and the one to come."""
        for validators in (roster.validators, roster.next_set):
            self.sets[validators.hash] = validators

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
        self.is_busy = False
        """The processor does other things than executing blocks."""
        self.history = NodeHistory(index)
        self.finals: dict[int, tuple[bytes, bytes]] = {}
        """Height → (block digest, state root) of every block that this node ever committed."""
        self.replies: list[tuple[int, ClientReply]] = []
        self.notes: list[Note] = []
        self.routes: dict[int, list[Route]] = {}
        """Peer → to each of its nodes, if there are twins."""
        self._carrier = Carrier(self)
        self._carry = self._carrier.by_type

    # -- life -----------------------------------------------------------------------------------------

    def start(self, standing: Standing | None = None) -> None:
        """Begin, or begin again, from what the disk holds; the state from memory, where that still stands."""
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
        self._timer_us = self._timer_own_us = _NEVER_US
        self._carrier.begin()
        try:
            self._open(standing)
        except StorageFailed as error:
            self._fail(error)
            return
        self._run(self.replica.start(self.now_us))
        if self.is_up:
            world.connect_all(self)

    def _open(self, standing: Standing | None) -> None:
        home, genesis = self.home, self.genesis
        incarnation = self.incarnation

        def failed(error: Exception) -> None:
            if self.incarnation == incarnation:
                self._fail(error)

        self.storage = SimulatedStorage(self, home.disk, home.store, self._released, failed)
        records = self.storage.open()
        self._carrier.restore(records)
        meta = home.store.meta
        header = genesis_header(genesis.chain_id, genesis.time_ms) if meta is None else decode_header(meta.header)
        pinned = None if standing is None else home.store.pin()
        if standing is None or pinned is None:
            venue = Venue(genesis, home.store.state())
        else:
            venue = replaced(standing, pinned.offer.manifest, pinned.read)
        self.executor = Executor(venue, header.digest, header.height)
        self._directory = directory_of(venue)
        is_rebuilt = home.is_rebuilt or (meta is not None and meta.is_rebuilt)
        restored = Restored(
            header, venue.ledger.root, self._directory, venue.roster, observed_of(venue), records, is_rebuilt
        )
        for roster in (genesis_roster(genesis), venue.roster):
            home.learn(roster)
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

    def begin_anew(self, fetched: Chunks) -> None:
        """A state that was fetched has become the checkpoint: the process begins again from it."""
        self._end()
        self.home.disk.kill()
        self.start(Standing(self.executor.venue, fetched))

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

    def work_again(self) -> None:
        """Not busy any more: what was to be executed meanwhile is, once the process is not paused."""
        self.is_busy = False
        if self.is_up:
            self.later(self.incarnation, self._carrier.work_on)

    @property
    def now_us(self) -> int:
        """By this node's clock."""
        return self.home.clock.now_us(self.world.now_us)

    def next_sequence(self, account: int) -> int:
        """The account's next sequence, as of this node's final state."""
        return self._directory.next_sequence(account)

    def served_checkpoint(self) -> int | None:
        """Height of the lowest checkpoint that somebody is fetching from here: it keeps the blocks above."""
        return self._carrier.served_checkpoint()

    def queues(self) -> dict[str, int]:
        """How much every table that could grow holds now."""
        return {**self.replica.queues(), "storage": self.storage.waiting, "events": len(self._events)}

    # -- events ---------------------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        """Step the replica and carry out what it wants."""
        if self.is_paused:
            self._held.append((self.take, (event,)))
        elif self.is_up:
            self._events.append(event)
            if not self._is_running:
                self._run(())

    def again(self, event: Event) -> None:
        """An effect resumes the replica: the event comes when the effects before it are carried out."""
        self._events.append(event)

    def receive(self, peer: int, parcel: Parcel) -> None:
        """Bytes came from a peer: decode them as the transport does, which drops whoever sends nonsense."""
        message = parcel.message
        if message is None:
            self.world.drop(self, peer)
            return
        if self.behaviour is not None:
            message = self.behaviour.incoming(self, peer, message)
            if message is None:
                return
        self.take(PeerSaid(peer, message))

    def ask(self, client: int, request: ClientRequest) -> None:
        """A client asks."""
        self.take(ClientAsked(client, request))

    def later(self, incarnation: int, action: Callable[..., None], *arguments: object) -> None:
        """Something comes back to this process, if it still is this process."""
        if self.incarnation != incarnation:
            return
        if self.is_paused:
            self._held.append((action, arguments))
        else:
            action(*arguments)

    def _released(self, effects: list[Effect]) -> None:
        """What waited for this process's storage, which is closed when the process ends."""
        if self.is_paused:
            self._held.append((self._run, (effects,)))
        else:
            self._run(effects)

    def _run(self, effects: Sequence[Effect]) -> None:
        """As the runtime's driver: an event that comes up while effects are carried out waits its turn."""
        self._is_running = True
        incarnation, events = self.incarnation, self._events
        try:
            while True:
                for effect in effects:
                    if self.crash_after_effects >= 0 and self._dies():
                        return
                    self._carry[effect.__class__](effect)
                    if self.incarnation != incarnation:
                        return
                if not events:
                    break
                effects = self.replica.step(events.popleft(), self.home.clock.now_us(self.world.now_us))
        except Exception as error:  # noqa: BLE001 (what the replica raises ends its process, and is judged by the world)
            if self.incarnation == incarnation:
                self._fail(error)
            return
        self._is_running = False
        self._arm()

    def _dies(self) -> bool:
        """Whether this is where the process dies: the planned number of effects is carried out."""
        if self.crash_after_effects == 0:
            self.world.crash_now(self)
            return True
        self.crash_after_effects -= 1
        return False

    def _arm(self) -> None:
        """One timer. One that is due earlier is left: when it fires, it is set again."""
        due = self.replica.deadline()
        if due is None or due >= self._timer_own_us:
            return
        now_us = self.world.now_us
        due_us = now_us + self.home.clock.wait_us(now_us, due)
        if due_us < self._timer_us:
            self._timer_us, self._timer_own_us = due_us, due
            self.world.call(due_us - now_us, self._fire, due_us, self.incarnation)

    def _fire(self, due_us: int, incarnation: int) -> None:
        if self.incarnation != incarnation or self._timer_us != due_us:
            return
        if self.is_paused:
            self._held.append((self._fire, (due_us, incarnation)))
            return
        self._timer_us = self._timer_own_us = _NEVER_US
        due = self.replica.deadline()
        if due is not None and due <= self.now_us:
            self.take(Tick())
        else:
            self._arm()

    def say(self, peer: int, leaving: PeerMessage | bytes) -> None:
        """Send something as it is."""
        parcel = parcel_of_raw(leaving) if isinstance(leaving, bytes) else parcel_of(leaving)
        self.world.transmit(self.routes.get(peer, ()), parcel)

    # -- what the world tells ---------------------------------------------------------------------------

    def connected(self, peer: int) -> None:
        """A connection is up."""
        self.take(PeerConnected(peer))

    def lost(self, peer: int) -> None:
        """No connection is left."""
        self.take(PeerLost(peer))
