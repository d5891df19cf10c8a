"""Fetching parts of a state over plain connections: see `plain_server`.

Upon the first request for whole chunks to a peer: ask it for a token, and dial the address where it listens. Answers
come over TLS until the connection is there, and whenever it is not. What comes over it has nobody's word, and is handed
on as such (`PlainPart`); the node checks it, and has the connection left (`leave`) when it is wrong. A frame that is
no answer to a request, or too large, ends it here. One that ended is not tried again for `AGAIN_SECONDS`.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from lockstep.base.errors import Reason, Refused
from lockstep.node.events import Event, PlainLost, PlainPart
from lockstep.runtime.address import parse_address
from lockstep.runtime.buffers import Buffers
from lockstep.runtime.connection import Connection, Limits, Traffic
from lockstep.runtime.plain_server import PREAMBLE
from lockstep.wire.message import PART_BYTES_MAX, StatePart, decode_part, is_part

AGAIN_SECONDS: Final = 60.0
DIAL_SECONDS: Final = 2.0
EXPECTED_MAX: Final = 256
_SCRATCH_BYTES: Final = 4096
PLAIN_LIMITS: Final = Limits(
    frame_bytes_max=PART_BYTES_MAX,
    queue_bytes_max=0,
    bytes_per_second=1024 * 1024 * 1024,
    frames_per_second=50_000,
)


class PlainClient:
    """The plain connections that this node dialled. For the loop's thread."""

    def __init__(
        self, ask: Callable[[int, bool], None], address: Callable[[int], str], traffic: Callable[[int], Traffic],
        on_event: Callable[[Event], None],
    ) -> None:  # fmt: skip
        """`ask` sends a peer an `AskPlain`; `address` is where it can be dialled, or empty."""
        self._ask = ask
        self._address = address
        self._traffic = traffic
        self._on_event = on_event
        self._buffers = Buffers(PART_BYTES_MAX)
        self._links: dict[int, _Link] = {}
        self._not_before: dict[int, float] = {}

    def requested(self, peer: int, request: int) -> None:
        """A request for whole chunks goes to this peer."""
        link = self._links.get(peer)
        if link is None:
            if asyncio.get_running_loop().time() < self._not_before.get(peer, 0.0) or not self._address(peer):
                return
            link = self._links[peer] = _Link()
            self._ask(peer, True)
        link.expected[request] = None
        while len(link.expected) > EXPECTED_MAX:
            del link.expected[next(iter(link.expected))]

    def token(self, peer: int, token: bytes) -> None:
        """The peer's answer to `AskPlain`."""
        link = self._links.get(peer)
        if link is None or link.task is not None:
            return
        if token:
            link.task = asyncio.get_running_loop().create_task(self._dial(peer, link, token))
        else:
            self._close(peer)

    def leave(self, peer: int) -> None:
        """Close the connection to this peer, if there is one, and don't open another for a while. The peer is told, for
        what is asked of it from now on is to come the other way."""
        if peer in self._links:
            self._close(peer)
            self._ask(peer, False)

    def lost(self, peer: int) -> None:
        """The peer itself is gone: when it is back, it is another connection."""
        if peer in self._links:
            self._close(peer)
        self._not_before.pop(peer, None)

    def close(self) -> None:
        """Close all."""
        for peer in list(self._links):
            self._close(peer)

    def ended(self, peer: int, receiver: "PlainReceiver") -> None:
        """A connection is gone by itself."""
        link = self._links.get(peer)
        if link is not None and link.receiver is receiver:
            self.leave(peer)
            self._on_event(PlainLost(peer))

    def _close(self, peer: int) -> None:
        link = self._links.pop(peer)
        self._not_before[peer] = asyncio.get_running_loop().time() + AGAIN_SECONDS
        if link.task is not None:
            link.task.cancel()
        if link.receiver is not None:
            link.receiver.abort()

    async def _dial(self, peer: int, link: "_Link", token: bytes) -> None:
        host, port = parse_address(self._address(peer))
        receiver = PlainReceiver(self, peer, link.expected, self._buffers, self._traffic(peer), token)
        link.receiver = receiver
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                await receiver.loop.create_connection(lambda: receiver, host, port)
        except OSError:  # refused, unreachable, timed out
            self.leave(peer)

    def came(self, peer: int, part: StatePart) -> None:
        """A part came."""
        self._on_event(PlainPart(peer, part))


class _Link:
    """A plain connection from the moment that it is asked for."""

    def __init__(self) -> None:
        self.expected: dict[int, None] = {}
        """Requests that it may answer."""
        self.task: asyncio.Task[None] | None = None
        self.receiver: PlainReceiver | None = None


class PlainReceiver(Connection):
    """The receiving end of a plain connection."""

    scratch_bytes = _SCRATCH_BYTES  # so that nearly all of a part is received where it stays

    def __init__(
        self, owner: PlainClient, peer: int, expected: dict[int, None], buffers: Buffers, traffic: Traffic, token: bytes
    ) -> None:
        super().__init__(PLAIN_LIMITS, traffic)
        self._owner = owner
        self._peer = peer
        self._expected = expected
        self._buffers = buffers
        self._token = token

    def opened(self) -> None:
        """Show the token."""
        assert self.transport is not None
        self.transport.write(PREAMBLE + self._token)

    def memory(self, size: int) -> memoryview:
        """Memory that was used before."""
        return self._buffers.take(size)

    def received(self, body: bytes | memoryview) -> None:
        """A frame: one part."""
        if not is_part(body):
            raise Refused(Reason.MALFORMED, "a plain connection carries parts of a state")
        part = decode_part(body)
        if part.request not in self._expected:
            raise Refused(Reason.MALFORMED, "a part that was not asked for")
        del self._expected[part.request]
        self._owner.came(self._peer, part)

    def closed(self) -> None:
        """It is gone."""
        self._owner.ended(self._peer, self)
