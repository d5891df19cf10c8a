"""Readers of events, and requests that must come after something.

Upon `AskEvents`: answer when there is something after the place that is named, or when the reader's wait is over. The
reader asks again from where it stands: nothing is kept for it here, a slow one costs nothing, and one that lost its
connection goes on by position. The newest blocks are answered from memory, older ones from the disk.
Upon `After`: carry the request out once this node is final at the height and has heard what the clock says; at once as
a rule. When that takes too long: `Behind` (a bundle: refused as `behind`), and the client asks elsewhere, or again.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lockstep.base.digest import ZERO_DIGEST
from lockstep.base.errors import Reason, Refused
from lockstep.node.context import Context
from lockstep.node.effects import Reply, ServeEvents
from lockstep.node.event_batch import FinalEvents
from lockstep.node.said import Said
from lockstep.node.tree import Entry
from lockstep.wire.bundle import Bundle
from lockstep.wire.certificate import Finalization
from lockstep.wire.client import ClientReply, ClientRequest, Submit, SubmitReply, decode_request
from lockstep.wire.stream import LOCAL_PER_BATCH_MAX, After, AskEvents, Behind, Clock, EventBatch

RECENT_BLOCKS_MAX: Final = 64
RECENT_BYTES_MAX: Final = 16 * 1024 * 1024
READERS_MAX: Final = 1_024
HELD_MAX: Final = 256
"""Each is looked at again whenever a peer was heard."""
PER_CLIENT_MAX: Final = 16
HELD_BYTES_MAX: Final = 4 * 1024 * 1024
HELD_US: Final = 2_000_000
STATE_EVERY_US: Final = 250_000


@dataclass(frozen=True, slots=True)
class _Reader:
    client: int
    request: AskEvents
    due_us: int


@dataclass(frozen=True, slots=True)
class _Held:
    client: int
    request: After
    inner: ClientRequest
    due_us: int


class Streams:
    """Who waits for what."""

    def __init__(
        self, ctx: Context, said: Said, state: Callable[[], str], ask: Callable[[int, ClientRequest, Clock], None]
    ) -> None:
        """`state` tells the node's state in a word; `ask` carries out a request that is due."""
        self._ctx = ctx
        self._said = said
        self._state = state
        self._ask = ask
        self._recent: deque[FinalEvents] = deque()
        self._recent_bytes = 0
        self._readers: list[_Reader] = []
        self._readers_due_us = 0
        """When the first reader's wait is over."""
        self._held: list[_Held] = []
        self._held_due_us = 0
        self._saw = (0, 0, 0)
        """What there was when all who wait were last looked at: height, sequence of what was said, count of what was
        heard."""
        self._held_bytes = 0
        self._word = ""
        self._state_due_us = 0

    def final(self, entry: Entry, certificate: Finalization | None) -> None:
        """A block is final; `certificate` if it has its own."""
        execution, stored = entry.execution, entry.stored
        assert execution is not None and stored is not None
        clock, settled = self._said.final(entry.header.height, stored.bundles)
        own = certificate if certificate is not None and certificate.block == entry.header.digest else None
        self._recent.append(FinalEvents(stored, execution.events, execution.event_root, clock, settled, own))
        self._recent_bytes += execution.events.nbytes
        while len(self._recent) > RECENT_BLOCKS_MAX or (self._recent_bytes > RECENT_BYTES_MAX and self._recent):
            self._recent_bytes -= self._recent.popleft().events.nbytes

    def left(self, client: int) -> None:
        """The connection is gone."""
        self._readers = [reader for reader in self._readers if reader.client != client]
        self._held = [held for held in self._held if held.client != client]
        self._held_bytes = sum(len(held.request.request) for held in self._held)

    # -- reading --------------------------------------------------------------------------------------

    def read(self, client: int, request: AskEvents) -> None:
        """Somebody wants to know what happens."""
        if self._has_news(request) or not request.wait_ms:
            self._serve(client, request)
        elif len(self._readers) >= READERS_MAX or sum(r.client == client for r in self._readers) >= PER_CLIENT_MAX:
            self._reply(client, self._head(request, "busy: too many readers wait"))
        else:
            due = self._ctx.now_us + 1_000 * request.wait_ms
            self._readers_due_us = min(self._readers_due_us, due) if self._readers else due
            self._readers.append(_Reader(client, request, due))

    def _has_news(self, request: AskEvents) -> bool:
        place = self._said.epoch, self._said.sequence
        return request.height <= self._ctx.tree.root.height or (request.epoch, request.sequence) != place

    def _head(self, request: AskEvents, reason: str = "") -> EventBatch:
        said = self._said
        after = request.sequence if request.epoch == said.epoch else 0
        local = said.since(after, LOCAL_PER_BATCH_MAX) if request.epoch else ()
        return EventBatch(
            request.token, reason, said.node, said.epoch, said.oldest, said.sequence, self._ctx.tree.root.height,
            self._ctx.now_ms, self._word, (), local,
        )  # fmt: skip

    def _serve(self, client: int, request: AskEvents) -> None:
        recent = tuple(self._recent) if request.height <= self._ctx.tree.root.height else ()
        self._ctx.out.append(ServeEvents(client, request, self._head(request), recent))

    # -- after something ------------------------------------------------------------------------------

    def after(self, client: int, request: After) -> None:
        """Carry something out, but not before."""
        try:
            inner = decode_request(request.request)
        except Refused as refused:
            self._reply(client, SubmitReply(ZERO_DIGEST, refused.reason.value, refused.detail))
            return
        held = _Held(client, request, inner, self._ctx.now_us + HELD_US)
        size = len(request.request)
        is_full = self._held_bytes + size > HELD_BYTES_MAX or len(self._held) >= HELD_MAX
        if isinstance(inner, After):
            self._reply(client, SubmitReply(ZERO_DIGEST, Reason.MALFORMED.value, "After within After"))
        elif self._is_reached(request):
            self._ask(client, inner, request.clock)
        elif is_full or sum(h.client == client for h in self._held) >= PER_CLIENT_MAX:
            self._behind(held)
        else:
            self._held_due_us = min(self._held_due_us, held.due_us) if self._held else held.due_us
            self._held.append(held)
            self._held_bytes += size

    def _is_reached(self, request: After) -> bool:
        return self._ctx.tree.root.height >= request.height and self._said.has_heard(request.clock)

    def _behind(self, held: _Held) -> None:
        height = self._ctx.tree.root.height
        if isinstance(held.inner, Submit):
            detail = f"this node is at height {height}, or has not heard what you have seen; try again, or elsewhere"
            self._reply(held.client, SubmitReply(_digest_of(held.inner.raw), Reason.BEHIND.value, detail))
        else:
            self._reply(held.client, Behind(held.request.token, height, self._said.clock()))

    # -- time -----------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Answer those for whom there is something, or whose wait is over."""
        now = self._ctx.now_us
        if now >= self._state_due_us:
            self._state_due_us = now + STATE_EVERY_US
            self._word = self._state()
            self._said.state(self._word)
        if not self._readers and not self._held:
            return
        height, said, heard = there = self._ctx.tree.root.height, self._said.sequence, self._said.times_heard
        is_news = (height, said) != self._saw[:2]
        if self._readers and (is_news or now >= self._readers_due_us):
            self._wake(now)
        if self._held and (is_news or heard != self._saw[2] or now >= self._held_due_us):
            self._release(now)
        self._saw = there

    def _wake(self, now: int) -> None:
        waiting, self._readers = self._readers, []
        for reader in waiting:
            if reader.due_us <= now or self._has_news(reader.request):
                self._serve(reader.client, reader.request)
            else:
                self._readers.append(reader)
        self._readers_due_us = min((reader.due_us for reader in self._readers), default=0)

    def _release(self, now: int) -> None:
        waiting, self._held = self._held, []
        for held in waiting:
            if self._is_reached(held.request):
                self._ask(held.client, held.inner, held.request.clock)
            elif held.due_us <= now:
                self._behind(held)
            else:
                self._held.append(held)
        self._held_bytes = sum(len(held.request.request) for held in self._held)
        self._held_due_us = min((held.due_us for held in self._held), default=0)

    def _reply(self, client: int, message: ClientReply) -> None:
        self._ctx.out.append(Reply(client, message))


def _digest_of(raw: bytes) -> bytes:
    try:
        return Bundle(raw).digest
    except Refused:
        return ZERO_DIGEST
