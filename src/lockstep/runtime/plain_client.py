"""Fetching parts of a state over plain connections: see `plain_server`.

Upon the first request for whole chunks to a peer: ask it for a token, and dial the address where it listens. Answers
come over TLS until the connection is there, and whenever it is not. What comes over it has nobody's word, and is handed
on as such (`PlainPart`); the node checks it, and has the connection left (`leave`) when it is wrong. A frame that is
no answer to a request, or too large, ends it here. One that ended is not tried again for `AGAIN_SECONDS`.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from lockstep.node.events import Event, PlainLost, PlainPart
from lockstep.runtime.address import parse_address
from lockstep.runtime.buffers import Buffers
from lockstep.runtime.connection import Traffic
from lockstep.runtime.plain_receiver import PlainReceiver
from lockstep.wire.message import PART_BYTES_MAX, PART_HEADER_BYTES, FetchState

AGAIN_SECONDS: Final = 60.0
EXPECTED_MAX: Final = 256


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
        self._loop = asyncio.get_running_loop()
        self._buffers = Buffers(PART_BYTES_MAX, PART_HEADER_BYTES)
        self._links: dict[int, _Link] = {}
        self._not_before: dict[int, float] = {}

    def requested(self, peer: int, request: FetchState) -> None:
        """A request for whole chunks goes to this peer."""
        link = self._links.get(peer)
        if link is None:
            if self._loop.time() < self._not_before.get(peer, 0.0) or not self._address(peer):
                return
            link = self._links[peer] = _Link()
            self._ask(peer, True)
        link.expected[request.request] = request
        for old in list(link.expected)[:-EXPECTED_MAX]:  # a copy: the receiving thread takes from it too
            link.expected.pop(old, None)

    def token(self, peer: int, token: bytes) -> None:
        """The peer's answer to `AskPlain`."""
        link = self._links.get(peer)
        if link is None or link.receiver is not None:
            return
        if token:
            address = parse_address(self._address(peer))
            link.receiver = PlainReceiver(
                address, token, link.expected, self._buffers,
                lambda part, leaves: self._tell(lambda: self._came(link, PlainPart(peer, part, leaves))),
                lambda: self._tell(lambda: self._ended(link, peer)),
            )  # fmt: skip
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

    def _close(self, peer: int) -> None:
        link = self._links.pop(peer)
        self._not_before[peer] = self._loop.time() + AGAIN_SECONDS
        if link.receiver is not None:
            link.receiver.close()

    def _came(self, link: "_Link", came: PlainPart) -> None:
        if self._links.get(came.peer) is link:
            self._traffic(came.peer).bytes_in += PART_HEADER_BYTES + len(came.part.data)
            self._on_event(came)

    def _ended(self, link: "_Link", peer: int) -> None:
        if self._links.get(peer) is link:
            self.leave(peer)
            if link.receiver is not None and link.receiver.was_open:
                self._on_event(PlainLost(peer))

    def _tell(self, callback: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the node has stopped
            self._loop.call_soon_threadsafe(callback)


class _Link:
    """A plain connection from the moment that it is asked for."""

    def __init__(self) -> None:
        self.expected: dict[int, FetchState] = {}
        """Requests that it may answer."""
        self.receiver: PlainReceiver | None = None
