"""States of made-up tables, the peers that serve them (honest or not), and a fetcher, all in virtual time."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from blake3 import blake3

from lockstep.base.digest import digest
from lockstep.base.errors import Refused
from lockstep.base.keys import PrivateKey
from lockstep.ledger.manifest import Manifest, TableEntry
from lockstep.ledger.subtree import leaf_values
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.simulator.simulated_store import KeptChunks, StagedRows
from lockstep.sync.checkpoint_server import CheckpointServer, PinnedState
from lockstep.sync.local_state import LocalState
from lockstep.sync.state_hash import hash_part, nodes_above
from lockstep.sync.state_offer import Target
from lockstep.sync.state_request import PAGE_LEVEL
from lockstep.sync.state_sync import StateSync
from lockstep.wire.block import Header
from lockstep.wire.certificate import finalization
from lockstep.wire.message import (
    CheckpointOffer,
    FetchCheckpoint,
    FetchState,
    StatePart,
    decode_message,
    encode_message,
)
from lockstep.wire.validators import ValidatorSet
from lockstep.wire.vote import sign_finalize

CHAIN = digest(b"state peers")
KEYS = [PrivateKey(bytes([i + 1]) * 32) for i in range(4)]
VALIDATORS = ValidatorSet(CHAIN, tuple(key.public for key in KEYS), (1,) * 4)
SET = VALIDATORS.hash
ROW = 16


def make_offer(height: int, tables: list[bytes]) -> CheckpointOffer:
    """A checkpoint of tables with these bytes, certified by all four validators."""
    import msgspec

    entries = tuple(
        TableEntry(f"table{i}", "value:<i8[2]@0", ROW, len(data) // ROW, blake3(data).hexdigest())
        for i, data in enumerate(tables)
    )
    manifest = msgspec.json.encode(Manifest("lockstep-state-1", entries))
    header = Header(CHAIN, height, height, height - 1, 1_700_000_000_000, 0, 0, 0, bytes(32), bytes(32), SET, SET)
    votes = [
        sign_finalize(key, CHAIN, i, height, height, header.digest, digest(manifest), bytes(32))
        for i, key in enumerate(KEYS)
    ]
    return CheckpointOffer(header.encode(), finalization(votes, 4), manifest)


@dataclass
class MadeState:
    """A pinned state in memory."""

    offer: CheckpointOffer
    height: int
    tables: list[bytes]

    def read(self, table: int, first: int, count: int) -> bytes:
        data = self.tables[table][first * CHUNK_BYTES : (first + count) * CHUNK_BYTES]
        return data.ljust(count * CHUNK_BYTES, b"\0")

    def leaves(self, table: int, first: int, count: int) -> np.ndarray:
        data = np.frombuffer(self.read(table, first, count), np.uint8).reshape(-1, CHUNK_BYTES)
        return leaf_values(data, np.arange(first, first + count), len(self.tables[table]))

    def page_values(self, table: int, pages: int) -> np.ndarray:
        chunks = -(-len(self.tables[table]) // CHUNK_BYTES)
        return nodes_above(self.leaves(table, 0, chunks), PAGE_LEVEL)

    def close(self) -> None:
        pass


class MadeSource:
    """A peer's store, whose newest checkpoint may change."""

    def __init__(self, height: int, tables: list[bytes]) -> None:
        self.renew(height, tables)

    def renew(self, height: int, tables: list[bytes]) -> None:
        self.state = MadeState(make_offer(height, tables), height, tables)

    def newest_height(self) -> int | None:
        return self.state.height

    def pin(self) -> PinnedState | None:
        return self.state


Mischief = Callable[[int, FetchCheckpoint | FetchState, object], object]
"""(time µs, request, honest answer) → what is sent instead: an answer, (delay µs, answer), or None for silence."""


@dataclass
class Peer:
    """Answers after `delay_us`; one request after the other."""

    server: CheckpointServer
    delay_us: int = 1_000
    mischief: Mischief | None = None
    on_the_way: Mischief | None = None
    """What becomes of its parts on the plain connection with it; None: there is none."""
    free_us: int = 0
    requests: int = 0


@dataclass
class Fetcher:
    """Drives a `StateSync` against peers. `chunks` is the staging area and the older state, by table."""

    peers: list[Peer]
    own_height: int = 0
    chunks: dict[int, dict[int, bytes]] = field(default_factory=dict)
    ranges: dict[int, tuple[int, int]] | None = None
    now_us: int = 0
    store_us: int = 500
    read_us: int = 200
    blamed: list[tuple[int, str]] = field(default_factory=list)
    bytes_in: int = 0
    bytes_out: int = 0

    def __post_init__(self) -> None:
        self.sync = StateSync(VALIDATORS, self.own_height, self.ranges)
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self.connected = list(range(len(self.peers)))

    def call(self, delay_us: int, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (self.now_us + delay_us, self._count, action))

    def run(self, until_us: int = 120_000_000, stop: Callable[[], bool] = lambda: False) -> bool:
        """Whether it completed; `stop` ends it early."""
        self._tick()
        while self._heap and not self.sync.is_complete and self.now_us < until_us and not stop():
            self.now_us, _, action = heapq.heappop(self._heap)
            action()
            self._carry()
        if (walk := self.sync.walk) is not None:
            known = walk.done_chunks + walk.same_chunks
            assert known <= walk.state_chunks and (known == walk.state_chunks or not walk.is_done or self.ranges)
        return self.sync.is_complete

    def tables(self, used: list[int]) -> list[bytes]:
        """What is here, as tables of so many bytes."""
        return [
            b"".join(self.chunks.get(t, {}).get(i, bytes(CHUNK_BYTES)) for i in range(-(-size // CHUNK_BYTES)))[:size]
            for t, size in enumerate(used)
        ]

    def _tick(self) -> None:
        self.sync.tick(self.connected, self.now_us)
        self._carry()
        self.call(max(1_000, self.sync.deadline() - self.now_us), self._tick)

    def _carry(self) -> None:
        sync = self.sync
        if sync.needs_local:
            sync.needs_local = False
            target = sync.target
            assert target is not None
            sync.begin_walk(target, self._state().tables(target.manifest), self.now_us)
        reads, sync.reads = sync.reads, []
        for table, ranges in reads:
            self.call(self.read_us, lambda target=sync.target, t=table, r=ranges: self._read(target, t, r))  # type: ignore[misc]
        for arrived in sync.arrived:
            rows = self.chunks.setdefault(arrived.table, {})
            for number, row in zip(arrived.numbers.tolist(), arrived.data, strict=True):
                rows[number] = row.tobytes()
            self.call(self.store_us, lambda size=arrived.data.nbytes: sync.stored(size, self.now_us))  # type: ignore[misc]
        sync.arrived.clear()
        for peer, request in sync.asks:
            if peer in self.connected:
                self._send(peer, request)
        sync.asks.clear()
        self.blamed += sync.blamed
        sync.blamed.clear()
        for peer in sync.doubted:
            self.peers[peer].on_the_way = None
        sync.doubted.clear()

    def _state(self) -> LocalState:
        rows = {t: {n: np.frombuffer(row, np.uint8) for n, row in here.items()} for t, here in self.chunks.items()}
        return LocalState(None, KeptChunks(None, {}), StagedRows({t: here for t, here in rows.items() if here}))

    def _read(self, target: Target, table: int, ranges: list[int]) -> None:
        leaves = self._state().leaves(target.manifest, table, ranges)
        self.sync.leaves_read(target, table, ranges, leaves, self.now_us)

    def _send(self, peer: int, request: FetchCheckpoint | FetchState) -> None:
        to = self.peers[peer]
        to.requests += 1
        raw = encode_message(request)
        self.bytes_out += len(raw)
        decoded = decode_message(raw)
        answer: object
        try:
            if isinstance(decoded, FetchCheckpoint):
                answer = to.server.offer(decoded.height, self.now_us)
            else:
                assert isinstance(decoded, FetchState)
                answer = to.server.part(decoded, self.now_us)
        except Refused as refused:
            raise AssertionError(f"an honest request was refused: {refused}") from refused
        delay_us = to.delay_us
        if to.mischief is not None:
            answer = to.mischief(self.now_us, request, answer)
            if isinstance(answer, tuple):
                delay_us, answer = answer
        is_plain = isinstance(request, FetchState) and request.chunks and not request.marks
        is_plain = is_plain and to.on_the_way is not None
        if is_plain and answer is not None:
            assert to.on_the_way is not None
            answer = to.on_the_way(self.now_us, request, answer)
        if answer is None:
            return
        to.free_us = max(to.free_us, self.now_us) + delay_us
        plain = request if is_plain and isinstance(request, FetchState) else None
        self.call(to.free_us - self.now_us, lambda: self._receive(peer, answer, plain))

    def _receive(self, peer: int, answer: object, plain: FetchState | None) -> None:
        if peer not in self.connected:
            return
        if isinstance(answer, CheckpointOffer):
            self.sync.offered(peer, answer, self.now_us)
        else:
            assert isinstance(answer, StatePart)
            self.bytes_in += len(answer.data)
            leaves = None if plain is None else hash_part(plain, answer.data)
            self.sync.answered(peer, answer, self.now_us, plain is None, leaves)


def random_tables(seed: int, sizes: list[int]) -> list[bytes]:
    """Tables of so many bytes."""
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, size, dtype=np.uint8).tobytes() for size in sizes]


def as_chunks(tables: list[bytes]) -> dict[int, dict[int, bytes]]:
    """Tables as a store has them."""
    return {
        t: {
            i: data[i * CHUNK_BYTES : (i + 1) * CHUNK_BYTES].ljust(CHUNK_BYTES, b"\0")
            for i in range(-(-len(data) // CHUNK_BYTES))
        }
        for t, data in enumerate(tables)
    }  # fmt: skip
