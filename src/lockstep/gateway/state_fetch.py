"""Fetching parts of a certified state from several nodes over their client ports: `sync.state_sync`, driven.

The nodes' answers are believed no more than peers' are: the offer by its certificate, each chunk on arrival by the hash
above it. Whoever lies is left; who stalls is asked less. Chunks are stored once, and found again after a crash.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial as bind
from pathlib import Path
from typing import Final

from lockstep.base.errors import LockstepError, Reason, Refused
from lockstep.gateway.client import Client, connect
from lockstep.gateway.stream import NodeAddress
from lockstep.ledger.manifest import Manifest
from lockstep.ledger.outline import beside
from lockstep.ledger.partial import FETCHING, Part, PartFile, Rows, chunks_of, part_of
from lockstep.ledger.subtree import top_level
from lockstep.sync.local_table import LocalTable, table_of
from lockstep.sync.state_nodes import Nodes, learn, node_value
from lockstep.sync.state_offer import Target
from lockstep.sync.state_request import children_level
from lockstep.sync.state_sync import StateSync
from lockstep.wire.client import ClientReply
from lockstep.wire.message import CheckpointOffer, FetchState, StatePart
from lockstep.wire.validators import ValidatorSet

ANSWER_SECONDS: Final = 3.0
NOTHING_SECONDS: Final = 30.0
"""Without any progress for so long, the fetch ends; it can be gone on with."""
RECONNECT_SECONDS: Final = 1.0
_PATH_REQUESTS: Final = 1 << 40
"""Requests for the nodes beside a part are numbered from here, apart from the effort's own."""


@dataclass(slots=True)
class FetchProgress:
    """How far it is."""

    height: int
    done: int
    known: int
    per_second: float
    """Bytes."""
    nodes: tuple[tuple[str, int, str], ...]
    """(name, score, what it did wrong) of each node."""


class StateFetch:
    """One fetch into one folder."""

    def __init__(
        self, validators: ValidatorSet, nodes: list[NodeAddress], wanted: list[Rows], folder: Path,
        told: Callable[[FetchProgress], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._validators = validators
        self._nodes = nodes
        self._wanted = wanted
        self._folder = folder
        self._told = told
        self._clients: dict[int, Client] = {}
        self._sync = StateSync(validators, -1)
        self._files: dict[int, PartFile] = {}
        self._paths: dict[int, asyncio.Future[bytes]] = {}
        self._changed = asyncio.Event()
        self.bytes_fetched = 0

    async def run(self) -> tuple[Target, list[tuple[PartFile, bytes]]]:
        """Fetch everything; (whose state it is, the parts' files with the nodes beside them). Raises `LockstepError`,
        `OSError`; what was fetched stays."""
        tasks = [asyncio.create_task(self._keep_connected(peer)) for peer in range(len(self._nodes))]
        try:
            first = await self._first_offer()
            ranges = self._ranges(first.manifest)
            self._sync = StateSync(self._validators, -1, ranges)
            await self._fetch()
            target = self._sync.target
            assert target is not None
            files = [self._files[number] for number in sorted(self._files)]
            return target, [(file, await self._beside(target, file.part)) for file in files]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for client in self._clients.values():
                client.abort()

    def _parts(self, manifest: Manifest) -> list[Part]:
        return [part_of(manifest.table(rows.table)[1], rows) for rows in self._wanted]

    def _ranges(self, manifest: Manifest) -> dict[int, tuple[int, int]]:
        parts = self._parts(manifest)
        return {manifest.table(part.table)[0]: (part.first, part.end) for part in parts}

    # -- connections ----------------------------------------------------------------------------------

    async def _keep_connected(self, peer: int) -> None:
        node = self._nodes[peer]
        while not self._is_barred(peer):
            with contextlib.suppress(OSError, LockstepError):
                client = await connect(node.address, node.certificate, bind(self._received, peer))
                self._clients[peer] = client
                self._changed.set()
                await client.gone.wait()
                del self._clients[peer]
                self._changed.set()
            await asyncio.sleep(RECONNECT_SECONDS)

    def _is_barred(self, peer: int) -> bool:
        return bool(self._sync.peers.of(peer).barred)

    def _received(self, peer: int, message: ClientReply) -> None:
        now_us = _now_us()
        match message:
            case CheckpointOffer():
                self._sync.offered(peer, message, now_us)
            case StatePart() if message.request >= _PATH_REQUESTS:
                future = self._paths.get(message.request)
                if future is not None and not future.done():
                    future.set_result(bytes(message.data))
            case StatePart():
                self._sync.answered(peer, message, now_us)
            case _:
                return
        self._changed.set()

    async def _first_offer(self) -> Target:
        """A good offer from anybody: it tells the tables."""
        end = time.monotonic() + NOTHING_SECONDS
        while self._sync.target is None:
            self._send()
            if time.monotonic() > end or len(self._lies()) == len(self._nodes):
                raise Refused(Reason.NOT_READY, f"no node shows a certified checkpoint{self._why()}")
            await self._wait(0.2)
            self._sync.tick(list(self._clients), _now_us())
        return self._sync.target

    def _lies(self) -> list[str]:
        known = ((node.name, self._sync.peers.of(peer).barred) for peer, node in enumerate(self._nodes))
        return [f"{name}: {barred}" for name, barred in known if barred]

    def _why(self) -> str:
        away = [node.name for peer, node in enumerate(self._nodes) if peer not in self._clients]
        words = [*self._lies(), *([f"not reached: {', '.join(away)}"] if away else [])]
        return f" ({'; '.join(words)})" if words else ""

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)
        self._changed.clear()

    # -- the effort -----------------------------------------------------------------------------------

    async def _fetch(self) -> None:
        sync, moved_at, done = self._sync, time.monotonic(), -1
        while not sync.is_complete:
            sync.tick(list(self._clients), _now_us())
            self._begin()
            self._store()
            self._send()
            self._report()
            if sync.bytes_fetched != done:
                done, moved_at = sync.bytes_fetched, time.monotonic()
            if time.monotonic() - moved_at > NOTHING_SECONDS:
                raise Refused(Reason.NOT_READY, f"nobody has given anything for {NOTHING_SECONDS:g} s{self._why()}")
            if not sync.is_complete:
                await self._wait(max(0.001, min(0.2, (sync.deadline() - _now_us()) / 1e6)))
        self.bytes_fetched = sync.bytes_fetched
        self._report()

    def _begin(self) -> None:
        """Read what is here of the (new) target."""
        target = self._sync.target
        if not self._sync.needs_local or target is None:
            return
        self._sync.needs_local = False
        self._files.clear()
        local: list[LocalTable | None] = []
        parts = {target.manifest.table(part.table)[0]: part for part in self._parts(target.manifest)}
        for number, entry in enumerate(target.manifest.tables):
            chunks = chunks_of(entry)
            if number in parts:
                file = self._files[number] = PartFile(self._folder / FETCHING, parts[number])
                leaves, _ = file.leaves(entry.used_bytes, chunks)
                first = file.first_chunk(entry.used_bytes) if chunks == 1 else b""
                local.append(table_of(leaves, first))
            else:
                local.append(None)  # nothing of it is wanted
        self._sync.begin_walk(target, local, _now_us())

    def _store(self) -> None:
        arrived, self._sync.arrived = self._sync.arrived, []
        for chunks in arrived:
            self._files[chunks.table].write(chunks.numbers, chunks.data)
            self._sync.stored(chunks.data.nbytes, _now_us())

    def _send(self) -> None:
        asks, self._sync.asks = self._sync.asks, []
        for peer, request in asks:
            if peer in self._clients:
                self._clients[peer].request(request)
        blamed, self._sync.blamed = self._sync.blamed, []
        for peer, _ in blamed:
            if peer in self._clients:
                self._clients[peer].abort()

    def _report(self) -> None:
        sync, walk = self._sync, self._sync.walk
        height = -1 if sync.target is None else sync.target.header.height
        done, known = (0, 0) if walk is None else (walk.done_chunks, walk.known_chunks)
        self._told(FetchProgress(height, done * 1024, known * 1024, sync.rate(_now_us()), self.nodes))

    @property
    def nodes(self) -> tuple[tuple[str, int, str], ...]:
        """(name, score, what it did wrong) of each node."""
        known = [(node.name, self._sync.peers.of(peer)) for peer, node in enumerate(self._nodes)]
        return tuple((name, peer.score, peer.barred) for name, peer in known)

    # -- the nodes beside a part ----------------------------------------------------------------------

    async def _beside(self, target: Target, part: Part) -> bytes:
        """The nodes that lead from a part to the table's hash, asked for along its two edges and checked on the way."""
        table, entry = target.manifest.table(part.table)
        chunks = chunks_of(entry)
        needed = beside(chunks, part.first, part.end)
        if not needed:
            return b""
        level = top_level(chunks)
        known: Nodes = {(level, 0): entry.hash}
        while level > 0:
            indices = sorted({part.first >> level, (part.end - 1) >> level})
            await self._learn(target, table, level, indices, known, chunks)
            level = children_level(level)
        return b"".join(node_value(known, *node, chunks) for node in needed)

    async def _learn(
        self, target: Target, table: int, level: int, indices: list[int], known: Nodes, chunks: int
    ) -> None:  # fmt: skip
        """Ask what stands below these nodes, until a node tells the truth about it."""
        for peer in [*self._clients, *self._clients]:
            if self._is_barred(peer) or peer not in self._clients:
                continue
            number = _PATH_REQUESTS + len(self._paths)
            future = self._paths[number] = asyncio.get_running_loop().create_future()
            raw = b"".join(index.to_bytes(4, "little") for index in indices)
            self._clients[peer].request(FetchState(number, target.header.height, table, level, raw, False))
            with contextlib.suppress(TimeoutError):
                if learn(known, await asyncio.wait_for(future, ANSWER_SECONDS), level, indices, chunks):
                    return
        raise Refused(Reason.NOT_READY, "the nodes have another checkpoint by now: run the command again to go on")


def _now_us() -> int:
    return time.monotonic_ns() // 1_000
