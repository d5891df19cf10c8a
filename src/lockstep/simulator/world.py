"""A world of simulated nodes: virtual time, one heap of events, seeded faults.

Events are ordered by (time, number), randomness comes from one seeded stream per subsystem, and a running hash over
everything that happens makes two runs of one seed comparable. The world lets time pass and carries messages; what goes
wrong when is decided by whoever drives it (`faults`), what must hold by the checkers.
"""

import gc
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from heapq import heappop, heappush
from typing import Any, Final

from lockstep.base.digest import digest
from lockstep.base.keys import PrivateKey
from lockstep.base.limits import FIRST_OBSERVER
from lockstep.node.effects import Note
from lockstep.node.record import StoredBlock
from lockstep.simulator.audit import Audit
from lockstep.simulator.chance import stream
from lockstep.simulator.connections import Connection, Connections, Route
from lockstep.simulator.disk import Disk, Survival
from lockstep.simulator.history import Final as FinalBlock
from lockstep.simulator.history import History, SeenEvidence
from lockstep.simulator.network import Network
from lockstep.simulator.parcel import Parcel
from lockstep.simulator.plain_lane import PlainLanes
from lockstep.simulator.simulated_node import Home, SimulatedNode
from lockstep.wire.client import ClientReply
from lockstep.wire.codec import encode
from lockstep.wire.genesis import Genesis

STUCK_EVENTS: Final = 1 << 17
"""So many events at one instant: somebody's timer is always due."""
START_US: Final = 1_700_000_000_000_000
_COLLECT_EVERY: Final = 100_000
"""Allocations of containers."""
_DELIVERED, _FINAL, _STARTED, _ENDED, _DELIVERED_PLAIN = 1, 2, 3, 4, 5


@contextmanager
def rarely_collected() -> Iterator[None]:
    """A run allocates a lot, keeps much of it, and makes hardly any cycles: looking for them as often as Python does by
    itself takes a seventh of the time."""
    before = gc.get_threshold()
    gc.set_threshold(_COLLECT_EVERY, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


class Stuck(Exception):
    """Time does not go on."""


class World:
    """`genesis`'s validators, all run by this process."""

    def __init__(self, genesis: Genesis, keys: list[PrivateKey], feed_key: bytes, seed: int) -> None:
        self.genesis = genesis
        self.seed = seed
        self.now_us = START_US
        self._audit = Audit()
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        """(time, number, action, arguments); numbers differ, so actions are never compared."""
        self._number = 0
        self.keys = keys
        self._feed_key = feed_key
        self.network = Network(stream(seed, "network"), len(keys))
        self._connections = Connections(stream(seed, "connections"))
        self.plain: PlainLanes | None = None
        """Plain connections, if nodes have any."""
        self.disk_random = stream(seed, "disk")
        self.history = History(genesis, seed, [])
        self.on_reply: Callable[[SimulatedNode, int, ClientReply], None] | None = None
        self.on_note: Callable[[SimulatedNode, Note], None] = lambda node, note: None
        self.on_final: Callable[[SimulatedNode, FinalBlock], None] = lambda node, final: None
        self.on_stopped: Callable[[SimulatedNode, str, Exception | None], None] = lambda node, text, error: None
        self.on_delivery: Callable[[int, int, Parcel], None] | None = None
        self.on_life: Callable[[SimulatedNode, str], None] = lambda node, text: None
        self.split: dict[tuple[int, int], None] = {}
        """(instance of a twin, other instance): pairs that do not hear each other in this round."""
        self.nodes: list[SimulatedNode] = []
        self._by_index: dict[int, list[SimulatedNode]] = {}
        self.twins: list[SimulatedNode] = []
        self.observers: list[SimulatedNode] = []
        for index in range(len(keys)):
            self.nodes.append(self._make_node(index, index, keys[index]))
        self._strangers: dict[tuple[int, int], None] = {}
        """Pairs of instances that never connect, lower first."""

    def _make_node(self, index: int, instance: int, key: PrivateKey) -> SimulatedNode:
        home = Home(Disk(stream(self.seed, f"disk {instance}"), f"disk{instance}"))
        random = stream(self.seed, f"behaviour {instance}")
        node = SimulatedNode(
            self, self.genesis, index, instance, key, self._feed_key, home, random
        )  # fmt: skip
        self.history.nodes.append(node.history)
        self._by_index.setdefault(index, []).append(node)
        for other in self.everyone:
            self._lay_route(node, other)
            self._lay_route(other, node)
        return node

    def _lay_route(self, source: SimulatedNode, target: SimulatedNode) -> None:
        connection = self._connections.of(source.instance, target.instance)
        route = Route(source, target, connection, self.network.channel(source.index, target.index))
        source.routes.setdefault(target.index, []).append(route)

    def add_twin(self, index: int) -> SimulatedNode:
        """A second node with the identity of validator `index`, on a machine of its own. Before the world starts."""
        twin = self._make_node(index, len(self.everyone), self.keys[index])
        self.twins.append(twin)
        return twin

    def add_observer(self, links: Sequence[SimulatedNode] | None = None) -> SimulatedNode:
        """A node that doesn't vote, connected to `links`; to everybody if left out. Start it, or the world after."""
        index = FIRST_OBSERVER + len(self.observers)
        node = self._make_node(index, len(self.everyone), PrivateKey(digest(index.to_bytes(4, "little"))))
        if links is not None:
            others = [other for other in self.everyone if other not in links]
            self._strangers.update(((other.instance, node.instance), None) for other in others)
        self.observers.append(node)
        return node

    @property
    def everyone(self) -> list[SimulatedNode]:
        """Validators' nodes, twins, and nodes that don't vote."""
        return [*self.nodes, *self.twins, *self.observers]

    @property
    def audit(self) -> bytes:
        """Hash of everything that happened so far."""
        return self._audit.digest()

    def node_of(self, index: int) -> SimulatedNode:
        """A validator's node, or the one that doesn't vote, of this index."""
        return self._by_index[index][0]

    def connection_number(self, a: SimulatedNode, b: SimulatedNode) -> int:
        """Of the connection that is up between two nodes; 0: there is none."""
        connection = self._connections.of(a.instance, b.instance)
        return connection.number if connection.is_up else 0

    # -- time -----------------------------------------------------------------------------------------

    @property
    def events(self) -> int:
        """Taken from the heap so far."""
        return self._number - len(self._heap)

    def call(self, delay_us: int, action: Callable[..., None], *arguments: Any) -> None:
        """Do `action` later."""
        self._number += 1
        heappush(self._heap, (self.now_us + delay_us, self._number, action, arguments))

    def start(self, absent: Collection[int] = ()) -> None:
        """Start every node and connect them; `absent` ones are started later by whoever drives the world."""
        self.history.started_us = self.now_us
        for node in self.everyone:
            if node.index not in absent:
                node.start()

    def run(self, microseconds: int) -> None:
        """Let virtual time pass."""
        end_us = self.now_us + microseconds
        with rarely_collected():
            while self._run_some(end_us):
                pass
        self.now_us = end_us

    def _run_some(self, end_us: int) -> bool:
        """Take so many events that time must have moved; whether there may be more until `end_us`."""
        heap, began_us = self._heap, self.now_us
        for _ in range(STUCK_EVENTS):
            if not heap or heap[0][0] > end_us:
                return False
            self.now_us, _, action, arguments = heappop(heap)
            action(*arguments)
        if self.now_us == began_us:
            raise Stuck(f"{STUCK_EVENTS} events at {began_us}")
        return True

    def run_until(self, condition: Callable[[], bool], microseconds: int) -> bool:
        """Let time pass until `condition` holds; False when it does not within the time."""
        end_us = self.now_us + microseconds
        heap, moved_us, taken = self._heap, self.now_us, self.events
        while heap and heap[0][0] <= end_us:
            self.now_us, _, action, arguments = heappop(heap)
            action(*arguments)
            if condition():
                return True
            if self.now_us > moved_us:
                moved_us, taken = self.now_us, self.events
            elif self.events - taken >= STUCK_EVENTS:
                raise Stuck(f"{STUCK_EVENTS} events at {moved_us}")
        return condition()

    # -- messages -------------------------------------------------------------------------------------

    def transmit(self, routes: Sequence[Route], parcel: Parcel) -> None:
        """Put bytes on the wire, by each of these routes of one node."""
        network, split, size, now_us = self.network, self.split, len(parcel.raw), self.now_us
        for route in routes:
            number = route.connection.carries
            if not number or (split and (route.source.instance, route.target.instance) in split):
                continue
            if network.deaf and route.source.index in network.deaf:
                network.fire("deaf")
                continue
            arrivals = network.deliveries(route.channel, size, now_us)
            if not arrivals and network.streams:
                self._break(route.source, route.target, route.connection)
            for at_us in arrivals:
                self._number += 1
                heappush(self._heap, (at_us, self._number, self._deliver, (route, number, parcel)))

    def _deliver(self, route: Route, number: int, parcel: Parcel) -> None:
        connection = route.connection
        if connection.carries != number:
            return
        network, source, target = self.network, route.source, route.target
        if network.closed and not network.is_open(source.index, target.index):
            if network.streams:
                self._break(source, target, connection)
            return
        if network.deaf and target.index in network.deaf:
            network.fire("deaf")
            return
        self._audit.add(self.now_us, _DELIVERED, source.instance, target.instance, parcel.tag)
        if self.on_delivery is not None:
            self.on_delivery(source.instance, target.instance, parcel)
        target.receive(source.index, parcel)

    def delivered_plain(self, source: SimulatedNode, target: SimulatedNode, raw: bytes) -> None:
        """Bytes arrived on a plain connection."""
        self._audit.add(self.now_us, _DELIVERED_PLAIN, source.instance, target.instance, digest(raw)[:8])

    # -- connections ----------------------------------------------------------------------------------

    def connect_all(self, node: SimulatedNode) -> None:
        """A process has started: it dials everybody, and they dial it."""
        self._audit.add(self.now_us, _STARTED, node.instance, node.incarnation)
        self.on_life(node, f"starts at height {node.replica.final.height}")
        for other in self.everyone:
            pair = min(node.instance, other.instance), max(node.instance, other.instance)
            if other.index != node.index and pair not in self._strangers:
                self._dial(node, other)

    def _dial(self, a: SimulatedNode, b: SimulatedNode) -> None:
        """One attempt; when it fails, and both want it, another follows."""
        connection = self._connections.of(a.instance, b.instance)
        if connection.is_up or not (a.is_up and b.is_up):
            return
        network = self.network
        if network.streams and not (network.is_open(a.index, b.index) and network.is_open(b.index, a.index)):
            self.call(self._connections.next_dial_us(connection), self._dial, a, b)
            return
        connection.begin()
        network.begin_stream(a.index, b.index)
        a.connected(b.index)
        b.connected(a.index)

    def disconnect_all(self, node: SimulatedNode) -> None:
        """A process has ended: the others are told at once by its kernel."""
        self._audit.add(self.now_us, _ENDED, node.instance, node.incarnation)
        self.on_life(node, "ends")
        for other in self.everyone:
            connection = self._connections.of(node.instance, other.instance)
            if other is not node and connection.is_up:
                connection.end()
                other.lost(node.index)

    def drop(self, node: SimulatedNode, peer: int) -> None:
        """`node` closes its connection to a validator; it is dialled again."""
        for other in self._by_index[peer]:
            connection = self._connections.of(node.instance, other.instance)
            if connection.is_up:
                self.network.fire("dropped")
                self._hang_up(node, other, connection.number)

    def _break(self, a: SimulatedNode, b: SimulatedNode, connection: Connection) -> None:
        """A stream lost something: nothing later arrives, and both ends notice after a while."""
        connection.carries = 0
        self.network.fire("reset")
        self.call(self._connections.notice_us(), self._hang_up, a, b, connection.number)

    def _hang_up(self, a: SimulatedNode, b: SimulatedNode, number: int) -> None:
        connection = self._connections.of(a.instance, b.instance)
        if not connection.is_up or connection.number != number:
            return
        connection.end()
        a.lost(b.index)
        b.lost(a.index)
        self.call(self._connections.next_dial_us(connection), self._dial, a, b)

    # -- what nodes tell --------------------------------------------------------------------------------

    def crash_now(self, node: SimulatedNode) -> None:
        """A crash planned for the middle of a step."""
        node.crash(Survival.SUBSET if node.machine.is_synced else None)

    def stopped(self, node: SimulatedNode, error: Exception) -> None:
        """A process ended by itself."""
        self.on_life(node, f"stopped by itself: {error}")
        self.on_stopped(node, str(error), error)

    def halted(self, node: SimulatedNode, text: str) -> None:
        """A replica takes no further part."""
        node.history.stopped = text
        self.on_life(node, f"halted: {text}")
        self.on_stopped(node, text, None)

    def committed(self, node: SimulatedNode, final: FinalBlock) -> None:
        """A node made a block final."""
        self._audit.add(self.now_us, _FINAL, node.instance, final.height, final.state_root)
        self.on_final(node, final)

    def saw_block(self, stored: StoredBlock) -> None:
        """Keep every block that somebody executed."""
        digest = stored.block.digest
        if digest not in self.history.blocks:
            self.history.blocks[digest] = encode(stored.to_wire())

    def saw_evidence(self, node: SimulatedNode, signer: int, view: int, raw: bytes) -> None:
        """An equivocation was recorded."""
        self.history.evidence.append(SeenEvidence(node.index, self.now_us, signer, view, raw))

    def replied(self, node: SimulatedNode, client: int, message: ClientReply) -> None:
        """A node answers a client."""
        if self.on_reply is None:
            node.replies.append((client, message))
        else:
            self.on_reply(node, client, message)

    def noted(self, node: SimulatedNode, note: Note) -> None:
        """A line for the operator."""
        self.on_note(node, note)
