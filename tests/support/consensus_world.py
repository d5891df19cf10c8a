"""A small deterministic world for ordering engines: virtual time, seeded delays and faults, and an oracle.

The oracle re-derives what must hold from what it sees on the wire and in the applications: final blocks agree in
block and roots at every height, no honest validator signs two votes that contradict each other, and no vote leaves
before it is on its signer's disk.
"""

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lockstep.base.keys import PrivateKey
from lockstep.consensus import interface as on
from lockstep.consensus.simplex import SimplexConfig
from lockstep.wire.block import Header
from lockstep.wire.evidence import conflict
from lockstep.wire.message import Certificates, FetchCertificates
from lockstep.wire.vote import Finalize, Notarize, Nullify, Vote
from tests.support.consensus_keys import fake_keys, validators_of
from tests.support.consensus_node import Node

MS = 1000


@dataclass
class Faults:
    """Probabilities per message, and ranges in microseconds."""

    delay_us: tuple[int, int] = (500, 5_000)
    loss: float = 0.0
    duplicate: float = 0.0
    sync_us: tuple[int, int] = (100, 2_000)
    check_us: tuple[int, int] = (50, 1_000)
    execute_us: tuple[int, int] = (50, 2_000)


@dataclass
class Oracle:
    """What must never happen."""

    byzantine: Sequence[int]
    finals: dict[int, tuple[bytes, tuple[bytes, bytes]]] = field(default_factory=dict)
    votes: dict[tuple[int, int], list[Vote]] = field(default_factory=dict)

    def final(self, index: int, header: Header, roots: tuple[bytes, bytes]) -> None:
        """A node's application took a block as final."""
        if index not in self.byzantine:
            known = self.finals.setdefault(header.height, (header.digest, roots))
            assert known == (header.digest, roots), f"two final blocks at height {header.height}"

    def sent(self, node: Node, vote: Vote) -> None:
        """A node sent a vote."""
        if node.index in self.byzantine or vote.signer != node.index:
            return
        assert vote in node.durable, "a vote left before it was durable"
        before = self.votes.setdefault((vote.signer, vote.view), [])
        assert not any(conflict(vote, other) for other in before), f"validator {vote.signer} contradicts itself"
        if vote not in before:
            before.append(vote)


class World:
    """`run_until` makes time pass; faults may be changed in between."""

    def __init__(
        self, count: int, seed: int, *, faults: Faults | None = None, delta_ms: int = 25,
        byzantine: dict[int, type[Node]] | None = None, wrong_roots: dict[int, bytes] | None = None,
        keys: list[PrivateKey] | None = None, stakes: Sequence[int] | None = None, empty_depth: int = 64,
    ) -> None:  # fmt: skip
        self.random = random.Random(seed)
        self.keys = keys or fake_keys(count)
        self.validators = validators_of(self.keys, stakes)
        self.config = SimplexConfig(delta_ms=delta_ms)
        self.faults = faults or Faults()
        self.wrong_roots = wrong_roots or {}
        self.empty_depth = empty_depth
        """How many empty blocks may stand above the speculative depth."""
        self.now = 0
        self.oracle = Oracle(sorted(byzantine or {}))
        self.blocks: dict[bytes, Header] = {}
        self.groups: list[list[int]] = []
        self.sent = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self.nodes = [(byzantine or {}).get(i, Node)(self, i) for i in range(count)]

    @property
    def honest(self) -> list[Node]:
        """The nodes that keep the rules."""
        return [node for node in self.nodes if node.index not in self.oracle.byzantine]

    def start(self) -> None:
        """Start every node, and their reports of progress."""
        for node in self.nodes:
            node.start()
            self.at(self.now + node.index * MS, lambda node=node: self._ping(node))

    def at(self, time_us: int, action: Callable[[], None]) -> None:
        """Schedule."""
        self._count += 1
        heapq.heappush(self._queue, (time_us, self._count, action))

    def run_until(self, time_us: int, stop: Callable[[], bool] | None = None) -> bool:
        """Let time pass; whether `stop` came true before the end."""
        while self._queue and self._queue[0][0] <= time_us:
            self.now, _, action = heapq.heappop(self._queue)
            action()
            if stop is not None and stop():
                return True
        self.now = time_us
        return False

    # -- the network ----------------------------------------------------------------------------------

    def connected(self, one: int, other: int) -> bool:
        """Whether a partition lets them talk."""
        return not self.groups or any(one in group and other in group for group in self.groups)

    def deliver(self, sender: int, peer: int, action: Callable[[Node], None]) -> None:
        """Something travels from one node to another, perhaps not once."""
        chance, faults = self.random, self.faults
        copies = (chance.random() >= faults.loss) + (chance.random() < faults.duplicate)
        for _ in range(copies):
            self.sent += 1
            self.at(self.now + chance.randint(*faults.delay_us), lambda: self._arrive(sender, peer, action))

    def _arrive(self, sender: int, peer: int, action: Callable[[Node], None]) -> None:
        node = self.nodes[peer]
        if node.up and self.connected(sender, peer):
            action(node)

    def broadcast(self, sender: int, message: on.Outgoing) -> None:
        for peer in range(len(self.nodes)):
            if peer != sender:
                self.send(sender, peer, message)

    def send(self, sender: int, peer: int, message: on.Outgoing) -> None:
        events: list[on.Event]
        match message:
            case Notarize() | Nullify() | Finalize():
                self.oracle.sent(self.nodes[sender], message)
                events = [on.VoteArrived(sender, message)]
            case FetchCertificates():
                events = [on.CertificatesRequested(sender, message.from_view, message.to_view)]
            case Certificates():
                events = [on.CertificateArrived(sender, certificate) for certificate in message.certificates]
            case _:
                events = [on.CertificateArrived(sender, message)]

        def take(node: Node) -> None:
            for event in events:
                node.step(event)

        self.deliver(sender, peer, take)

    def propose(self, sender: int, proposal: on.Propose, peers: Sequence[int] | None = None) -> None:
        header = proposal.header
        self.blocks[header.digest] = header
        vote = Notarize(header.view, header.digest, header.proposer, proposal.signature)
        self.oracle.sent(self.nodes[sender], vote)

        def take(node: Node) -> None:
            node.offer(header)
            node.step(on.ProposalArrived(sender, header, proposal.signature))

        for peer in range(len(self.nodes)) if peers is None else peers:
            if peer != sender:
                self.deliver(sender, peer, take)

    def fetch(self, node: Node, block: bytes) -> None:
        """Ask a random peer for a block until somebody has it."""
        peer = self.nodes[self.random.randrange(len(self.nodes))]
        has = peer.up and self.connected(node.index, peer.index) and block in self.blocks
        if has and peer.index not in self.oracle.byzantine:
            node.later(2 * self.random.randint(*self.faults.delay_us), lambda: node.offer(self.blocks[block]))
        else:
            node.later(10 * MS, lambda: self.fetch(node, block))

    def _ping(self, node: Node) -> None:
        if node.up:
            progress = on.PeerProgress(node.index, node.engine.view, node.final.height)
            for peer in range(len(self.nodes)):
                if peer != node.index:
                    self.deliver(node.index, peer, lambda other: other.step(progress))
        self.at(self.now + 100 * MS, lambda: self._ping(node))

    def sync_us(self) -> int:
        return self.random.randint(*self.faults.sync_us)

    def check_us(self) -> int:
        return self.random.randint(*self.faults.check_us)

    def execute_us(self) -> int:
        return self.random.randint(*self.faults.execute_us)
