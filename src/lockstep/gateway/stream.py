"""Reading several nodes' events as one stream, over connections that come and go.

Each node is asked for what comes after the place where its reader stands, and answers when there is something: so what
is lost with a connection is asked for again, and a reader that is slow slows nobody. Each block must follow the one
before by hash, and have the rows that its event root names; what nodes say is merged by `sync.merge`.

With trust (`StreamTrust`), a block waits for the next finalization that its node shows, and counts when a quorum signed
that. A node that shows anything else is named (`Refuted`), and not read any more; the others are. Then all rows are
fetched and checked, whichever are wanted.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from lockstep.base.digest import digest
from lockstep.base.errors import LockstepError, Reason, Refused
from lockstep.gateway.client import Client, connect
from lockstep.gateway.session import Session
from lockstep.gateway.stream_trust import LIES, StreamTrust
from lockstep.sync.light_trust import TrustRoot
from lockstep.sync.merge import BlockDelivered, FinalBlock, Joined, Late, LocalDelivered, Merger, Output, Told
from lockstep.venue.event import EVENT
from lockstep.wire.block import Header, decode_header
from lockstep.wire.certificate import Finalization
from lockstep.wire.light import HEADERS_PER_REPLY_MAX
from lockstep.wire.stream import BlockEvents, Clock, EventBatch, Point

WAIT_MS: Final = 1_000
ANSWER_SECONDS: Final = 6.0
"""A node that does not answer for so long, beyond the wait that was asked for, is taken for frozen."""
PATIENCE_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 0.2
FULL_SECONDS: Final = 0.02
QUEUE_MAX: Final = 64
BUNDLE_PLACE: Final = np.dtype(
    [("digest", "V32"), ("account", "<u4"), ("sequence", "<u8"), ("first", "<u4"), ("rows", "<u4")]
)


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """Where a node is, and the certificate that it must show (None: whoever answers)."""

    name: str
    address: str
    certificate: bytes | None = None


@dataclass(frozen=True, slots=True)
class Connected:
    """A node is read (again)."""

    node: int
    name: str


@dataclass(frozen=True, slots=True)
class Lost:
    """A node is not read any more, for now."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Refuted:
    """A node showed what no quorum signed: it is not read any more."""

    name: str
    reason: str


class NobodyLeft(LockstepError):
    """Every node showed what no quorum signed."""


@dataclass(frozen=True, slots=True, eq=False)
class EventBlock:
    """A final block, put together."""

    header: Header
    event_root: bytes
    rows: "np.ndarray[Any, Any]"
    """EVENT rows: all, or those of the accounts asked for."""
    indices: "np.ndarray[Any, Any]"
    """Which rows of the block these are."""
    bundles: "np.ndarray[Any, Any]"
    """BUNDLE_PLACE rows."""
    finalization: Finalization | None
    """Its own, if the node showed one."""
    is_signed: bool | None = None
    """Whether a quorum signed these events; or, False, only the block, by a later one. None: nothing was verified."""


@dataclass(slots=True)
class _Parts:
    """A node's next block, as far as it came, and the header before it."""

    parent: bytes | None = None
    parts: list[BlockEvents] = field(default_factory=list)
    unproven: list[FinalBlock] = field(default_factory=list)
    """Whole blocks after which no finalization came yet."""


class EventStream:
    """Outputs of the merger, and connections coming and going, one after the other."""

    def __init__(
        self, nodes: Sequence[NodeAddress], height: int | None = None, clock: Clock = (),
        accounts: tuple[int, ...] = (), patience_seconds: float = PATIENCE_SECONDS, trust: TrustRoot | None = None,
    ) -> None:  # fmt: skip
        """From `height` on (None: from where the nodes are now). `clock`: of a stream that is gone on with. `trust`:
        where trust begins; None: nodes are believed as far as they agree."""
        self._addresses = list(nodes)
        self._height = height
        self._clock = clock
        self._accounts = accounts
        self._patience = patience_seconds
        self._queue: asyncio.Queue[Output | Connected | Lost | Refuted | LockstepError] = asyncio.Queue(QUEUE_MAX)
        self._in_order = asyncio.Lock()
        self.merger: Merger | None = None
        self.seen = Session(0, clock)
        """What the caller was given so far: to go on from, or to ask a node for something that comes after it."""
        self.names: dict[int, str] = {}
        self._parts: dict[int, _Parts] = {}
        self._connected: dict[int, Client] = {}
        self._trust = None if trust is None else StreamTrust(trust, [node.address for node in nodes])
        self._refuted: dict[str, None] = {}
        self._blocked_since: dict[int, float] = {}

    async def outputs(self) -> AsyncIterator[Output | Connected | Lost | Refuted]:
        """Everything, until the caller stops. Raises `Refused` when two nodes go by one number, and `NobodyLeft`."""
        tasks = [asyncio.create_task(self._read(address)) for address in self._addresses]
        tasks.append(asyncio.create_task(self._watch()))
        try:
            while True:
                output = await self._queue.get()
                match output:
                    case LockstepError():
                        raise output
                    case BlockDelivered():
                        self.seen.saw(output.block.height)
                    case LocalDelivered() | Late():
                        self.seen.saw(0, (Point(output.node, output.epoch, output.event.sequence),))
                    case Joined():
                        self.seen.saw(0, (Point(output.node, output.epoch, output.sequence),))
                    case _:
                        pass
                yield output
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- one node -------------------------------------------------------------------------------------

    async def _read(self, address: NodeAddress) -> None:
        """Keep reading one node over its restarts."""
        was_lost = False
        while True:
            try:
                client = await connect(address.address, address.certificate)
                try:
                    was_lost = False
                    await self._follow(client, address)
                finally:
                    client.abort()
            except (OSError, LockstepError, TimeoutError) as error:
                if self._trust is not None and isinstance(error, Refused) and error.reason in LIES:
                    await self._refute(address.name, error.detail)
                    return
                if not was_lost:
                    await self._queue.put(Lost(address.name, str(error) or "it does not answer"))
                was_lost = True
            await asyncio.sleep(RETRY_SECONDS)

    async def _refute(self, name: str, reason: str) -> None:
        """This node is done with, and nobody waits for it."""
        self._refuted[name] = None
        await self._queue.put(Refuted(name, reason))
        node = next((number for number, known in self.names.items() if known == name), None)
        if node is not None and self.merger is not None:
            async with self._in_order:
                await self._put(self.merger.give_up(node))
        if len(self._refuted) == len(self._addresses):
            await self._queue.put(NobodyLeft("every node showed what no quorum signed, and none is read any more"))

    async def _follow(self, client: Client, address: NodeAddress) -> None:
        first = await self._ask(client, (1 << 62, 0, 0), 0, 0)
        node = first.node
        await self._join(node, first.height, address)
        assert self.merger is not None
        state = self._parts[node] = _Parts()
        self._connected[node] = client
        await self._queue.put(Connected(node, address.name))
        try:
            while True:
                if self.merger.is_full(node):
                    await asyncio.sleep(FULL_SECONDS)
                    continue
                height, epoch, sequence = self.merger.place(node)
                parts, place = state.parts, (height + len(state.unproven), epoch, sequence)
                batch = await self._ask(client, place, parts[-1].end if parts else 0, 0 if parts else WAIT_MS)
                if batch.reason and batch.height >= place[0]:
                    raise Refused(Reason.NOT_READY, batch.reason)
                told = await self._told(batch, address)
                async with self._in_order:
                    await self._put(self.merger.told(told))
        finally:
            self._connected.pop(node, None)
            self._blocked_since.pop(node, None)

    async def _join(self, node: int, height: int, address: NodeAddress) -> None:
        if self.merger is None:
            self.merger = Merger([], height + 1 if self._height is None else self._height)
            self.seen.saw(self.merger.height)
        if self.names.setdefault(node, address.name) != address.name:
            error = Refused(Reason.DUPLICATE, f"{address.name} and {self.names[node]} are the same node, {node}")
            await self._queue.put(error)
            raise error
        self.merger.add(node, self._clock)

    async def _ask(self, client: Client, place: tuple[int, int, int], row: int, wait_ms: int) -> EventBatch:
        async with asyncio.timeout(ANSWER_SECONDS + wait_ms / 1_000):
            return await client.events(place, row, self._accounts if self._trust is None else (), wait_ms)

    async def _told(self, batch: EventBatch, address: NodeAddress) -> Told:
        """Check an answer, and put blocks that came in parts together; raises `Refused`."""
        state = self._parts[batch.node]
        blocks: list[FinalBlock] = []
        for part in batch.blocks:
            expected = state.parts[-1].end if state.parts else 0
            if part.first != expected or (state.parts and part.header != state.parts[0].header):
                raise Refused(Reason.BAD_PROOF, "the parts of a block do not follow each other")
            state.parts.append(part)
            if part.end == part.total:
                state.unproven.append(_whole(state))
                blocks += await self._proven(state, batch.node, address)
        return Told(batch.node, batch.epoch, batch.oldest, batch.sequence, batch.height, tuple(blocks), batch.local)

    async def _proven(self, state: _Parts, node: int, address: NodeAddress) -> list[FinalBlock]:
        """The blocks that wait, if they are proven now (or nothing is to be proven)."""
        blocks = state.unproven
        newest = _body(blocks[-1])
        if self._trust is not None and newest.finalization is None:
            if len(blocks) >= HEADERS_PER_REPLY_MAX:
                raise Refused(Reason.BAD_CERTIFICATE, f"{len(blocks)} blocks without a finalization")
            return []
        state.unproven = []
        if self._trust is None or newest.finalization is None:
            return blocks
        client = self._connected[node]
        await self._trust.prove(client, address.address, [_body(block).header for block in blocks], newest.finalization)
        for at, block in enumerate(blocks):
            is_signed = _body(block) is newest or await self._is_signed(_body(block), node)
            blocks[at] = replace(block, body=self._shown(_body(block), is_signed))
        return blocks

    async def _is_signed(self, block: EventBlock, node: int) -> bool:
        """Whether another node has a finalization of this block: it must have the same events then."""
        assert self._trust is not None
        root = await self._trust.signed_root([c for n, c in self._connected.items() if n != node], block.header)
        if root is not None and root != block.event_root:
            raise Refused(Reason.BAD_PROOF, f"a quorum signed other events of block {block.header.height}")
        return root is not None

    def _shown(self, block: EventBlock, is_signed: bool) -> EventBlock:
        """The part of a block that the caller wants."""
        if not self._accounts:
            return replace(block, is_signed=is_signed)
        wanted = np.isin(block.rows["account"], self._accounts) | np.isin(block.rows["other_account"], self._accounts)
        bundles = block.bundles[np.isin(block.bundles["account"], self._accounts)]
        rows, indices = block.rows[wanted], block.indices[wanted]
        return replace(block, rows=rows, indices=indices, bundles=bundles, is_signed=is_signed)

    # -- waiting --------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Nobody is waited for longer than the patience: not who is away, nor who denies what another says of it."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(0.1, self._patience / 4))
            if self.merger is None:
                continue
            blocking = self.merger.blocking()
            self._blocked_since = {node: self._blocked_since.get(node, loop.time()) for node in blocking}
            for node, since in list(self._blocked_since.items()):
                if loop.time() - since > self._patience:
                    del self._blocked_since[node]
                    async with self._in_order:
                        await self._put(self.merger.give_up(node, is_answering=node in self._connected))

    async def _put(self, outputs: list[Output]) -> None:
        for output in outputs:
            await self._queue.put(output)


def _whole(state: _Parts) -> FinalBlock:
    """A block out of its parts; raises `Refused` when it is not what it says."""
    parts, state.parts = state.parts, []
    first = parts[0]
    header = decode_header(first.header)
    if state.parent is not None and header.parent != state.parent:
        raise Refused(Reason.BAD_PROOF, f"block {header.height} does not follow the one before")
    state.parent = header.digest
    rows = b"".join(part.rows for part in parts)
    if first.is_whole:
        if digest(rows) != first.event_root:
            raise Refused(Reason.BAD_PROOF, f"block {header.height} has other rows than its event root names")
        indices = np.arange(first.total, dtype=np.uint32)
    else:
        indices = np.frombuffer(b"".join(part.indices for part in parts), "<u4")
    final = first.finalization
    if final is not None and (final.block, final.event_root) != (header.digest, first.event_root):
        raise Refused(Reason.BAD_CERTIFICATE, f"the finalization shown with block {header.height} is of another")
    bundles = np.frombuffer(first.bundles, BUNDLE_PLACE)
    body = EventBlock(header, first.event_root, np.frombuffer(rows, EVENT), indices, bundles, final)
    return FinalBlock(header.height, header.digest + first.event_root, first.clock, first.is_settled, body)


def _body(block: FinalBlock) -> EventBlock:
    assert isinstance(block.body, EventBlock)
    return block.body
