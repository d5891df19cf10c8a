"""The certified checkpoint of a running node, looked at over its client port: nodes and chunks, each checked against
the state root. And a state that is here, seen the same way."""

import asyncio
from typing import Any, Final, Protocol

import numpy as np

from lockstep.base.digest import digest
from lockstep.base.errors import Reason, Refused
from lockstep.gateway.client import Client, connect
from lockstep.ledger.difference import HashTree, StateView
from lockstep.ledger.manifest import Manifest, parse_manifest
from lockstep.ledger.partial import chunks_of
from lockstep.ledger.subtree import leaf_values, top_level
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.sync.state_nodes import Nodes, learn, spans_below
from lockstep.sync.state_request import children_level
from lockstep.wire.block import decode_header
from lockstep.wire.client import ClientReply
from lockstep.wire.message import STATE_NODES_MAX, CheckpointOffer, FetchCheckpoint, FetchState, StatePart

ANSWER_SECONDS: Final = 10.0


class Side(Protocol):
    """One of two states that are compared."""

    name: str
    root: bytes
    manifest: Manifest

    async def below(self, table: int, level: int, indices: list[int]) -> list[bytes]:
        """The values at `children_level(level)` below these nodes, in order."""

    async def chunks(self, table: int, numbers: list[int]) -> list[bytes]:
        """The used bytes of these chunks."""


class HeldState:
    """A state in memory or in a folder."""

    def __init__(self, name: str, root: bytes, view: StateView) -> None:
        self.name = name
        self.root = root
        self.manifest = view.manifest
        self._view = view
        self._trees: dict[int, HashTree] = {}

    def _tree(self, table: int) -> HashTree:
        if table not in self._trees:
            self._trees[table] = self._view.tree(table)
        return self._trees[table]

    async def below(self, table: int, level: int, indices: list[int]) -> list[bytes]:
        """See `Side`."""
        tree, wanted = self._tree(table), children_level(level)
        spans = spans_below(level, indices, tree.chunks)
        return [tree.node(wanted, place) for begin, end in spans for place in range(begin, end)]

    async def chunks(self, table: int, numbers: list[int]) -> list[bytes]:
        """See `Side`."""
        return [self._tree(table).chunk(number) for number in numbers]


class LiveState:
    """A node's checkpoint. Made by `open_live`."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self._address = address
        self._client: Client | None = None
        self._offers: asyncio.Queue[CheckpointOffer] = asyncio.Queue(16)
        self._parts: asyncio.Queue[StatePart] = asyncio.Queue(16)
        self._known: dict[int, Nodes] = {}
        self._number = 0
        self.root = b""
        self.height = -1
        self.manifest = Manifest("", ())
        self.offer: CheckpointOffer | None = None

    async def connect(self) -> Client:
        """The connection, made if need be."""
        if self._client is None:
            self._client = await connect(self._address, None, self._received)
        return self._client

    async def close(self) -> None:
        """Leave."""
        if self._client is not None:
            await self._client.disconnect()

    def _received(self, message: ClientReply) -> None:
        queue: asyncio.Queue[Any] | None = None
        if isinstance(message, CheckpointOffer):
            queue = self._offers
        elif isinstance(message, StatePart):
            queue = self._parts
        if queue is not None and not queue.full():
            queue.put_nowait(message)

    async def aim(self, height: int) -> int:
        """Look at the checkpoint of this height, or at the node's newest; returns which. Raises `Refused`."""
        client = await self.connect()
        client.request(FetchCheckpoint(height))
        try:
            offer = await asyncio.wait_for(self._offers.get(), ANSWER_SECONDS)
        except TimeoutError as error:
            raise Refused(Reason.NOT_READY, f"{self.name} shows no checkpoint: it may not have one yet") from error
        header = decode_header(offer.header)
        if offer.certificate.block != header.digest or offer.certificate.state_root != digest(offer.manifest):
            raise Refused(Reason.BAD_CERTIFICATE, f"{self.name} shows a checkpoint that its certificate is not about")
        self.offer, self.height = offer, header.height
        self.root, self.manifest = offer.certificate.state_root, parse_manifest(offer.manifest)
        self._known.clear()
        return self.height

    def _nodes(self, table: int) -> Nodes:
        entry = self.manifest.tables[table]
        return self._known.setdefault(table, {(top_level(chunks_of(entry)), 0): entry.hash})

    async def _ask(self, table: int, level: int, indices: list[int], *, chunks: bool) -> bytes:
        client = await self.connect()
        self._number += 1
        raw = b"".join(index.to_bytes(4, "little") for index in indices)
        client.request(FetchState(self._number, self.height, table, level, raw, chunks))
        while True:
            try:
                part = await asyncio.wait_for(self._parts.get(), ANSWER_SECONDS)
            except TimeoutError as error:
                raise Refused(Reason.NOT_READY, f"{self.name} does not answer") from error
            if part.request == self._number:
                break
        if not part.data:
            raise Refused(Reason.NOT_READY, f"{self.name} has a newer checkpoint by now: run the command again")
        return bytes(part.data)

    async def below(self, table: int, level: int, indices: list[int]) -> list[bytes]:
        """See `Side`. Raises `Refused` when the node lies, or has gone on."""
        known, chunks = self._nodes(table), chunks_of(self.manifest.tables[table])
        for at in range(0, len(indices), STATE_NODES_MAX):
            some = indices[at : at + STATE_NODES_MAX]
            data = await self._ask(table, level, some, chunks=False)
            if not learn(known, data, level, some, chunks):
                raise Refused(Reason.BAD_PROOF, f"{self.name}: what it shows of table {table} is not under its root")
        wanted = children_level(level)
        return [
            known[wanted, place]
            for begin, end in spans_below(level, indices, chunks)
            for place in range(begin, end)
        ]  # fmt: skip

    async def chunks(self, table: int, numbers: list[int]) -> list[bytes]:
        """See `Side`. Raises `Refused` when the node lies, or has gone on."""
        entry, known = self.manifest.tables[table], self._nodes(table)
        found: list[bytes] = []
        for at in range(0, len(numbers), STATE_NODES_MAX):
            some = numbers[at : at + STATE_NODES_MAX]
            data = await self._ask(table, 0, some, chunks=True)
            sizes = [min(CHUNK_BYTES, entry.used_bytes - number * CHUNK_BYTES) for number in some]
            if len(data) != sum(sizes):
                raise Refused(Reason.BAD_PROOF, f"{self.name} sends {len(data)} bytes for {len(some)} chunks")
            places = np.cumsum([0, *sizes])
            pieces = [data[places[i] : places[i + 1]] for i in range(len(some))]
            if chunks_of(entry) == 1:
                is_true = digest(pieces[0]) == entry.hash
            else:
                rows = np.frombuffer(b"".join([p.ljust(CHUNK_BYTES, b"\0") for p in pieces]), np.uint8)
                leaves = leaf_values(rows.reshape(-1, CHUNK_BYTES), np.array(some, np.int64), entry.used_bytes)
                is_true = all(leaves[i].tobytes() == known[0, number] for i, number in enumerate(some))
            if not is_true:
                raise Refused(Reason.BAD_PROOF, f"{self.name}: chunks of table {entry.name} are not under its root")
            found += pieces
        return found
