"""Plain connections between simulated nodes (decision 0021): whole chunks of a state come on them, and anybody on the
way may change what is on them.

Upon the first request for whole chunks to a peer: a plain connection opens after at most two round trips (now and then
  sooner than any could, so that more comes this way: simulated states are small). The token is taken for granted.
Upon an answer with whole chunks: it goes this way while the connection is open, in order.
A man in the middle spoils an answer, cuts the connection, or takes what is on it and says nothing.
Upon an answer to nothing that was asked, or a cut: the fetching node is told that it is gone, as by the runtime.
Once it is gone, or was left: not again for a while. It goes with the connection beside it, whose number it has.

What is drawn here is drawn from a stream of its own: a run without plain connections is what it was.
"""

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final

from lockstep.base.marks import reached
from lockstep.node.events import PlainLost, PlainPart
from lockstep.simulator.chance import chance
from lockstep.simulator.network import PERMILLE, Network
from lockstep.sync.state_hash import hash_part
from lockstep.wire.message import FetchState, StatePart, encode_message

if TYPE_CHECKING:
    from lockstep.simulator.simulated_node import SimulatedNode
    from lockstep.simulator.world import World

_NOTICE_US: Final = (1_000, 300_000)


@dataclass(slots=True)
class Lane:
    """A plain connection from when it is asked for; with the number of the connection beside it."""

    number: int
    is_open: bool = False
    gone_us: int = -1
    """Since when it is gone, for who fetches; -1: it is not."""
    is_held: bool = False
    """The man in the middle takes everything on it."""
    expected: dict[int, FetchState] = field(default_factory=dict)
    """Requests that may be answered on it, each once."""
    old: tuple[StatePart, ...] = ()
    """What came on it before, to be sent again by whoever is on the way."""


class PlainLanes:
    """All of a world's, and the man in the middle of each."""

    def __init__(self, world: "World", random: Random, again_us: int) -> None:
        """After `again_us` one that is gone may be had again."""
        self._world = world
        self._random = random
        self._again_us = again_us
        near = world.network
        self._network = Network(
            random, near.nodes, near.table, near.delay_us_min, near.delay_us_max, streams=True,
            bytes_per_second=near.bytes_per_second, slow_us=near.slow_us,
        )  # fmt: skip
        self.spoil_permille = 0
        """Of all answers, so many of a thousand; likewise below."""
        self.cut_permille = 0
        self.hold_permille = 0
        self._lanes: dict[tuple[int, int], Lane] = {}
        """By instances of who fetches and who serves."""

    def lane(self, fetching: int, serving: int) -> Lane | None:
        """Between two instances, the newest."""
        return self._lanes.get((fetching, serving))

    # -- who fetches ----------------------------------------------------------------------------------

    def requested(self, node: "SimulatedNode", peer: int, request: FetchState) -> None:
        """A node asks a peer for whole chunks."""
        world = self._world
        server = world.node_of(peer)
        number, pair = world.connection_number(node, server), (node.instance, server.instance)
        lane = self._lanes.get(pair)
        if not number:
            return
        if lane is None or lane.number != number or 0 <= lane.gone_us <= world.now_us - self._again_us:
            lane = self._lanes[pair] = Lane(number)
            world.call(self._travel_us(node, server) * self._random.randint(1, 4), self._open, node, server, lane)
        if lane.gone_us < 0:
            lane.expected[request.request] = request

    def left(self, node: "SimulatedNode", peer: int) -> None:
        """A node leaves the connection: what it asks for from now on comes the other way."""
        lane = self._lanes.get((node.instance, self._world.node_of(peer).instance))
        if lane is not None and lane.gone_us < 0:
            lane.gone_us = self._world.now_us

    def _open(self, node: "SimulatedNode", server: "SimulatedNode", lane: Lane) -> None:
        if self._is_there(node, server, lane):
            reached("plain: a connection is open")
            lane.is_open = True

    # -- who serves -----------------------------------------------------------------------------------

    def carry(self, server: "SimulatedNode", peer: int, part: StatePart) -> bool:
        """Send an answer with whole chunks this way; False when it must go the other way."""
        node = self._world.node_of(peer)
        lane = self._lanes.get((node.instance, server.instance))
        if lane is None or not lane.is_open or lane.number != self._world.connection_number(node, server):
            return False
        if lane.gone_us >= 0:  # the server doesn't know that yet, where the request was made before
            return part.request in lane.expected
        self._meddle(node, server, lane)
        now_us, channel = self._world.now_us, self._network.channel(server.index, node.index)
        for at_us in self._network.deliveries(channel, len(part.data), now_us):
            self._world.call(at_us - now_us, self._arrive, node, server, lane, part)
        return True

    def _arrive(self, node: "SimulatedNode", server: "SimulatedNode", lane: Lane, part: StatePart) -> None:
        if not self._is_there(node, server, lane) or lane.is_held:
            return
        if not self._world.network.is_open(server.index, node.index):
            self._cut(node, server, lane)
            return
        if chance(self._random, self.spoil_permille, PERMILLE):
            self._world.network.fire("plain_spoil")
            part = self._spoilt(part, lane.old)
        lane.old = (*lane.old[-3:], part)
        self._world.delivered_plain(server, node, encode_message(part))
        request = lane.expected.pop(part.request, None)
        if request is None:
            self._gone(node, server, lane)
        else:
            reached("plain: a part came")
            node.take(PlainPart(server.index, part, hash_part(request, part.data)))

    # -- who is on the way ----------------------------------------------------------------------------

    def _meddle(self, node: "SimulatedNode", server: "SimulatedNode", lane: Lane) -> None:
        if lane.is_held:
            return
        if chance(self._random, self.cut_permille, PERMILLE):
            self._world.network.fire("plain_cut")
            self._cut(node, server, lane)
        elif chance(self._random, self.hold_permille, PERMILLE):
            self._world.network.fire("plain_hold")
            lane.is_held = True

    def _spoilt(self, part: StatePart, old: tuple[StatePart, ...]) -> StatePart:
        random, data = self._random, bytearray(part.data)
        match random.randrange(6):
            case 0 if old:
                return random.choice(old)
            case 1 if old:
                return StatePart(part.request, random.choice(old).data)
            case 2:
                return StatePart(part.request ^ 1 << random.randrange(8), part.data)
            case 3:
                return StatePart(part.request, part.data[: random.randrange(len(data) + 1)])
            case 4:
                return StatePart(part.request, bytes(data) + random.randbytes(random.randint(1, 2_048)))
            case _ if data:
                data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        return StatePart(part.request, bytes(data))

    # -- ends -----------------------------------------------------------------------------------------

    def _cut(self, node: "SimulatedNode", server: "SimulatedNode", lane: Lane) -> None:
        """Nothing more comes on it; after a while that is noticed."""
        lane.is_held = True
        self._world.call(self._random.randint(*_NOTICE_US), self._gone, node, server, lane)

    def _gone(self, node: "SimulatedNode", server: "SimulatedNode", lane: Lane) -> None:
        if self._is_there(node, server, lane):
            reached("plain: a connection is gone")
            lane.gone_us = self._world.now_us
            node.take(PlainLost(server.index))

    def _is_there(self, node: "SimulatedNode", server: "SimulatedNode", lane: Lane) -> bool:
        is_newest = self._lanes.get((node.instance, server.instance)) is lane
        return is_newest and lane.gone_us < 0 and lane.number == self._world.connection_number(node, server)

    def _travel_us(self, node: "SimulatedNode", server: "SimulatedNode") -> int:
        near = self._network
        if near.table is not None:
            return near.table.one_way_us(server.index, node.index, self._random)
        return self._random.randint(near.delay_us_min, near.delay_us_max)
