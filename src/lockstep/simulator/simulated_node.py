"""One node in a simulated world: the unmodified replica and executor, a simulated log, and nothing else."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from lockstep.base.keys import PrivateKey
from lockstep.node import effects as effect_
from lockstep.node.events import ClientAsked, Event, Executed, PeerConnected, PeerLost, PeerSaid, Tick
from lockstep.node.executor import Executor
from lockstep.node.record import StoredBlock, decode_record, encode_record
from lockstep.node.recovery import Restored
from lockstep.node.replica import Identity, Replica
from lockstep.node.restore import directory_of, observed_of
from lockstep.venue.venue import Venue
from lockstep.wire.block import genesis_header
from lockstep.wire.certificate import Finalization
from lockstep.wire.client import ClientReply, ClientRequest
from lockstep.wire.genesis import Genesis
from lockstep.wire.message import BLOCKS_PER_CHAIN_MAX, Chain, ChainBlock, PeerMessage

if TYPE_CHECKING:
    from lockstep.simulator.world import World

SYNC_US = 300
EXECUTE_US = 500


class SimulatedNode:
    """A replica with its simulated disk. `crash` loses what was not synced; `start` begins from the disk."""

    def __init__(self, world: World, genesis: Genesis, index: int, key: PrivateKey, feed_key: bytes) -> None:
        self._world = world
        self._genesis = genesis
        self.index = index
        self._identity = Identity(index, key, feed_key)
        self.log: list[bytes] = []
        self.synced = 0
        self.is_up = False
        self.incarnation = 0
        self.finals: dict[int, tuple[bytes, bytes]] = {}
        """Height → (block digest, state root) of every block that this node ever committed."""
        self.replies: list[tuple[int, ClientReply]] = []
        self.notes: list[effect_.Note] = []
        self.commands_final = 0

    # -- life -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, or begin again, from what the disk holds."""
        self.incarnation += 1
        self.is_up = True
        header = genesis_header(self._genesis.chain_id, self._genesis.time_ms)
        venue = Venue(self._genesis)
        self.executor = Executor(venue, header.digest, 0)
        self._roots: dict[bytes, bytes] = {}
        records = [decode_record(raw) for raw in self.log]
        self._directory = directory_of(venue)
        restored = Restored(header, venue.ledger.root, self._directory, observed_of(venue), records)
        self.replica = Replica(self._genesis, self._identity, restored, self._world.now_us)
        self._timer = 0
        self._persisting: deque[tuple[int, tuple[effect_.Effect, ...]]] = deque()
        self._carry_out(self.replica.start(self._world.now_us))
        for node in self._world.nodes:
            if node.is_up and node is not self:
                self.take(PeerConnected(node.index))
                node.take(PeerConnected(self.index))

    def crash(self) -> None:
        """kill -9 and power loss: what was written but not synced may or may not be there, as a prefix."""
        self.is_up = False
        self.incarnation += 1
        keep = self._world.disk_random.randint(self.synced, len(self.log))
        del self.log[keep:]
        for node in self._world.nodes:
            if node.is_up:
                node.take(PeerLost(self.index))

    def next_sequence(self, account: int) -> int:
        """The account's next sequence, as of this node's final state."""
        return self._directory.next_sequence(account)

    # -- events ---------------------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        """Step the replica and carry out what it wants."""
        if self.is_up:
            self._carry_out(self.replica.step(event, self._world.now_us))

    def peer_said(self, peer: int, message: PeerMessage) -> None:
        """A message arrived."""
        self.take(PeerSaid(peer, message))

    def ask(self, client: int, request: ClientRequest) -> None:
        """A client asks."""
        self.take(ClientAsked(client, request))

    def _later(self, delay_us: int, event: Event) -> None:
        incarnation = self.incarnation
        self._world.after(delay_us, lambda: self.take(event) if self.incarnation == incarnation else None)

    def _arm(self) -> None:
        due = self.replica.deadline()
        if due is None:
            return
        self._timer += 1
        number, incarnation = self._timer, self.incarnation
        delay_us = max(0, due - self._world.now_us)

        def fire() -> None:
            if self.incarnation == incarnation and self._timer == number:
                self.take(Tick())

        self._world.after(delay_us, fire)

    # -- effects --------------------------------------------------------------------------------------

    def _carry_out(self, effects: list[effect_.Effect]) -> None:
        for effect in effects:
            self._carry(effect)
        self._arm()

    def _carry(self, effect: effect_.Effect) -> None:
        match effect:
            case effect_.Send():
                self._world.transmit(self.index, effect.peer, effect.message)
            case effect_.Broadcast():
                for node in self._world.nodes:
                    if node is not self:
                        self._world.transmit(self.index, node.index, effect.message)
            case effect_.Persist():
                self._persist(effect)
            case effect_.Resume():
                self._later(0, effect.event)
            case effect_.Execute():
                execution = self.executor.execute(effect.stored, effect.observations)
                self._roots[effect.stored.block.digest] = execution.state_root
                self._later(EXECUTE_US, Executed(effect.stored.block.digest, execution))
            case effect_.Commit():
                self.executor.commit(effect.block)
                self.finals[effect.height] = (effect.block, self._roots.pop(effect.block))
                self.commands_final += sum(1 for _ in effect.fates)
                self._world.record(f"{self.index} final {effect.height} {effect.block.hex()}")
            case effect_.Reply():
                self.replies.append((effect.client, effect.message))
            case effect_.ServeChain():
                self._serve_chain(effect)
            case effect_.Note():
                self.notes.append(effect)
            case _:
                pass

    def _persist(self, effect: effect_.Persist) -> None:
        self.log.extend(encode_record(record) for record in effect.records)
        if effect.then:
            end, incarnation = len(self.log), self.incarnation
            self._world.after(SYNC_US, lambda: self._synced(end, incarnation, effect.then))

    def _synced(self, end: int, incarnation: int, then: tuple[effect_.Effect, ...]) -> None:
        if self.incarnation == incarnation:
            self.synced = max(self.synced, end)
            self._carry_out(list(then))

    def _serve_chain(self, effect: effect_.ServeChain) -> None:
        final = {digest: height for height, (digest, _) in self.finals.items()}
        blocks: dict[int, ChainBlock] = {}
        certificates: dict[int, Finalization] = {}
        for record in map(decode_record, self.log):
            if isinstance(record, StoredBlock) and record.block.digest in final:
                blocks[record.block.header.height] = record.to_wire()
            elif isinstance(record, Finalization):
                certificates[record.height] = record
        last = min(effect.final_height, effect.from_height + BLOCKS_PER_CHAIN_MAX - 1)
        heights = range(effect.from_height, last + 1)
        certified = [h for h in heights if h in certificates]
        chain = Chain(tuple(blocks[h] for h in heights), certificates[certified[-1]] if certified else None)
        self._world.transmit(self.index, effect.peer, chain)
