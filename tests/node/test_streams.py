"""Readers of simulated nodes, and requests that come after something, over crashes and lost messages."""

from dataclasses import dataclass, field

import numpy as np

from lockstep.node.streams import HELD_US, PER_CLIENT_MAX
from lockstep.simulator.behaviour import Actor, Honest
from lockstep.simulator.world import World
from lockstep.sync.merge import (
    BlockDelivered,
    Denied,
    Divergence,
    FinalBlock,
    Gap,
    Late,
    LocalDelivered,
    Merger,
    Output,
)
from lockstep.sync.merge import Told as Answer
from lockstep.wire.block import decode_header
from lockstep.wire.client import AskAccount, AskFate, Fate, Submit, SubmitReply, encode_client
from lockstep.wire.command import COMMAND, Kind
from lockstep.wire.message import BundleBody, PeerMessage
from lockstep.wire.stream import After, AskEvents, Behind, EventBatch, LocalKind, Point
from tests.support.small_network import Trader, keep_reporting, small_world

SECOND = 1_000_000
READER = 500
EVERY_US = 25_000


class NoBundlesFrom(Honest):
    """What clients hand in at node 0 does not reach this node by itself: it fetches what blocks name."""

    lost = 0

    def incoming(self, node: Actor, peer: int, message: PeerMessage) -> PeerMessage | None:
        is_lost = peer == 0 and isinstance(message, BundleBody)
        self.lost += is_lost
        return None if is_lost else message


@dataclass
class Reader:
    """Asks nodes again and again, and merges."""

    world: World
    nodes: list[int]
    merger: Merger
    out: list[Output] = field(default_factory=list)
    seen: dict[int, int] = field(default_factory=dict)
    token: int = 0

    def again(self) -> None:
        for node in self.nodes:
            simulated = self.world.nodes[node]
            for client, reply in simulated.replies[self.seen.get(node, 0) :]:
                if client == READER and isinstance(reply, EventBatch):
                    self.out += self.merger.told(told(reply))
            self.seen[node] = len(simulated.replies)
            if simulated.is_up:
                self.token += 1
                height, epoch, sequence = self.merger.place(node)
                simulated.ask(READER, AskEvents(self.token, height, 0, epoch, sequence, (), 0))
        self.world.call(EVERY_US, self.again)


def told(batch: EventBatch) -> Answer:
    blocks = []
    for block in batch.blocks:
        assert block.first == 0 and block.end == block.total
        header = decode_header(block.header)
        digests = tuple(bytes(place[:32]) for place in _cut(block.bundles, 52))
        fingerprint = header.digest + block.event_root
        blocks.append(FinalBlock(header.height, fingerprint, block.clock, block.is_settled, digests))
    return Answer(batch.node, batch.epoch, batch.oldest, batch.sequence, batch.height, tuple(blocks), batch.local)


def _cut(raw: bytes, size: int) -> list[bytes]:
    return [raw[at : at + size] for at in range(0, len(raw), size)]


def transfer() -> np.ndarray:
    commands = np.zeros(1, COMMAND)
    commands["kind"], commands["size"], commands["target"] = Kind.TRANSFER, 1, 7
    return commands


def check(reader: Reader, first: int) -> None:
    """Blocks without a hole, each bundle taken before it is final, nothing twice, no contradiction."""
    assert not any(isinstance(out, Divergence | Denied) for out in reader.out)
    blocks = [(at, out.block) for at, out in enumerate(reader.out) if isinstance(out, BlockDelivered)]
    assert [block.height for _, block in blocks] == list(range(first, first + len(blocks)))
    final = {digest: at for at, block in blocks for digest in block.body}  # type: ignore[attr-defined]
    local = [(at, out) for at, out in enumerate(reader.out) if isinstance(out, LocalDelivered)]
    assert len({(out.node, out.epoch, out.event.sequence) for _, out in local}) == len(local)
    taken = [(at, out.event.digest) for at, out in local if out.event.kind == LocalKind.TAKEN]
    assert taken and all(at < final[digest] for at, digest in taken if digest in final)


def test_a_merged_stream_of_simulated_nodes_is_exact_over_a_crash_and_lost_bundles() -> None:
    world = small_world(checkpoint_interval_blocks=10)
    world.start()
    keep_reporting(world)
    world.run(SECOND)
    first = world.nodes[0].replica.final.height + 1
    reader = Reader(world, [0, 1, 2], Merger([0, 1, 2], first))
    reader.again()
    world.run(100_000)
    traders = [Trader(world, account, node=account % 2) for account in range(4)]
    losing = NoBundlesFrom()
    world.nodes[2].behaviour = losing
    for number in range(24):
        if number == 10:
            world.nodes[1].crash()
        if number == 14:
            world.nodes[1].start()
        for trader in traders:
            if world.nodes[trader.node].is_up:
                trader.submit(transfer())
        world.run(60_000)
    world.run(3 * SECOND)
    assert losing.lost > 10
    gaps = [out for out in reader.out if isinstance(out, Gap)]
    assert [(gap.node, gap.last) for gap in gaps] == [(1, 0)]
    assert not any(isinstance(out, Late) for out in reader.out)
    assert reader.merger.height > first + 20
    check(reader, first)


def replies(world: World, node: int, client: int, kind: type) -> list[object]:
    return [message for who, message in world.nodes[node].replies if who == client and isinstance(message, kind)]


def test_a_request_after_something_waits_for_it_or_is_told_that_the_node_is_behind() -> None:
    world = small_world()
    world.start()
    world.run(SECOND)
    trader = Trader(world, 3, node=0)
    bundle = trader.submit(transfer())
    world.run(1)
    (taken,) = trader.replies(SubmitReply)
    assert isinstance(taken, SubmitReply) and (taken.node, taken.reason) == (0, "")
    point = Point(0, taken.epoch, taken.sequence)
    other = world.nodes[2]
    other.ask(77, After(1, 0, (point,), encode_client(AskFate(bundle.digest))))
    world.run(200_000)
    (fate,) = replies(world, 2, 77, Fate)
    assert isinstance(fate, Fate) and fate.status in ("pending", "final"), "read your writes"
    height = other.replica.final.height
    other.ask(78, After(2, height + 3, (), encode_client(AskAccount(3))))
    world.run(SECOND)
    assert len(other.replies) and replies(world, 2, 78, object), "it came so far"
    other.ask(79, After(3, height + 10_000, (), encode_client(AskAccount(3))))
    late = trader.bundle(transfer())
    other.ask(79, After(4, 0, (Point(1, 1 << 60, 1),), encode_client(Submit(late.raw))))
    world.run(HELD_US + SECOND)
    (behind,) = replies(world, 2, 79, Behind)
    (refused,) = replies(world, 2, 79, SubmitReply)
    assert isinstance(behind, Behind) and behind.token == 3 and behind.height > height
    assert isinstance(refused, SubmitReply) and (refused.reason, refused.digest) == ("behind", late.digest)
    other.ask(80, Submit(late.raw))
    world.run(SECOND)
    assert not replies(world, 2, 80, SubmitReply)[0].reason, "it had no lasting fate"  # type: ignore[attr-defined]


def test_requests_within_requests_and_more_than_a_client_may_hold_are_refused() -> None:
    world = small_world()
    world.start()
    world.run(SECOND)
    node = world.nodes[0]
    inner = encode_client(After(1, 0, (), encode_client(AskAccount(1))))
    node.ask(5, After(2, 0, (), inner))
    node.ask(5, After(2, 0, (), b"\xff\xff"))
    world.run(1)
    assert [r.reason for r in replies(world, 0, 5, SubmitReply)] == ["malformed", "malformed"]  # type: ignore[attr-defined]
    for token in range(PER_CLIENT_MAX + 3):
        node.ask(6, After(token, 1 << 40, (), encode_client(AskAccount(1))))
    world.run(1)
    assert [b.token for b in replies(world, 0, 6, Behind)] == [16, 17, 18]  # type: ignore[attr-defined]
    for token in range(PER_CLIENT_MAX + 1):
        said = node.replica._clients.said
        node.ask(7, AskEvents(token, 1 << 40, 0, said.epoch, said.sequence + 1_000, (), 0))
        node.ask(8, AskEvents(token, 1 << 40, 0, said.epoch, said.sequence, (), 10_000))
    world.run(1)
    assert len(replies(world, 0, 7, EventBatch)) == PER_CLIENT_MAX + 1
    assert [b.reason for b in replies(world, 0, 8, EventBatch)] == ["busy: too many readers wait"]  # type: ignore[attr-defined]
