"""The client port: requests in, replies out, and limits on what a client can cost.

A client that sends faster than its rate is read from more slowly. One that doesn't read its replies, sends something
that is no request, or finds too many others connected, is told why (`Goodbye`) and closed.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lockstep.base.errors import Reason, Refused
from lockstep.base.keys import PrivateKey
from lockstep.base.limits import CLIENT_FRAME_BYTES_MAX
from lockstep.node.events import ClientAsked, ClientLeft, Event
from lockstep.runtime.address import parse_address
from lockstep.runtime.connection import Connection, Limits
from lockstep.runtime.listener import Listener
from lockstep.runtime.tls import client_server_context
from lockstep.wire.client import ClientReply, Goodbye, decode_request, encode_client

IDLE_SECONDS: Final = 600.0
_SWEEP_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What all clients together, and each, may cost."""

    connections_max: int = 256
    queue_bytes_max: int = 16 * 1024 * 1024
    requests_per_second: float = 20_000
    bytes_per_second: float = 64 * 1024 * 1024


class ClientConnection(Connection):
    """One client, by the number that the replica knows it by."""

    def __init__(self, server: "ClientServer", limits: Limits) -> None:
        super().__init__(limits)
        self._server = server
        self.number = -1
        self.active_at = self.loop.time()

    def opened(self) -> None:
        """TLS is done."""
        self._server.opened(self)

    def received(self, body: bytes | memoryview) -> None:
        """A request; raises `Refused` when it is none."""
        self.active_at = self.loop.time()
        self._server.asked(self, bytes(body))

    def refused(self, refused: Refused) -> None:
        """Say why, and close."""
        self.goodbye(refused.reason, refused.detail)

    def goodbye(self, reason: Reason, detail: str) -> None:
        """Say why, and close. The last word is queued even when the queue is full."""
        self._outgoing_bytes = 0
        self.send(encode_client(Goodbye(reason.value, detail)))
        self.close()

    def closed(self) -> None:
        """The connection is gone."""
        self._server.left(self)


class ClientServer:
    """All clients of a node."""

    def __init__(
        self,
        key: PrivateKey,
        listen: str,
        on_event: Callable[[Event], None],
        failed: Callable[[str], None],
        limits: ClientLimits | None = None,
    ) -> None:
        """Binds the listening address at once; raises `OSError`."""
        self._limits = limits or ClientLimits()
        self._each = Limits(
            CLIENT_FRAME_BYTES_MAX,
            self._limits.queue_bytes_max,
            self._limits.bytes_per_second,
            self._limits.requests_per_second,
        )
        self._on_event = on_event
        self._listener = Listener(*parse_address(listen), client_server_context(key), self._new, failed)
        self._clients: dict[int, ClientConnection] = {}
        self._pending: dict[int, ClientConnection] = {}
        self._next = 1
        self._sweeping: asyncio.TimerHandle | None = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._listener.port

    def start(self) -> None:
        """Begin to accept."""
        self._listener.start()
        self._sweep()

    async def close(self) -> None:
        """Say goodbye to everybody."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self._listener.close()
        for client in list(self._clients.values()):
            client.goodbye(Reason.NOT_READY, "the node is stopping")

    def reply(self, client: int, message: ClientReply) -> None:
        """Queue a reply; `flush` sends. A client that doesn't read is dropped."""
        connection = self._clients.get(client)
        if connection is None:
            return
        self._pending[client] = connection
        connection.active_at = connection.loop.time()
        if isinstance(message, Goodbye):
            connection.goodbye(Reason(message.reason), message.detail)
        elif not connection.send(encode_client(message)):
            connection.goodbye(Reason.BUSY, "you do not read your replies")

    def flush(self) -> None:
        """Write what is queued."""
        for connection in self._pending.values():
            connection.flush()
        self._pending.clear()

    def opened(self, connection: ClientConnection) -> None:
        """A new client, if there is room."""
        if len(self._clients) >= self._limits.connections_max:
            connection.goodbye(Reason.BUSY, f"{self._limits.connections_max} clients are connected already")
            return
        connection.number = self._next
        self._next += 1
        self._clients[connection.number] = connection

    def asked(self, connection: ClientConnection, body: bytes) -> None:
        """A request; raises `Refused` when it is none."""
        self._on_event(ClientAsked(connection.number, decode_request(body)))

    def left(self, connection: ClientConnection) -> None:
        """A client is gone."""
        if self._clients.pop(connection.number, None) is not None:
            self._on_event(ClientLeft(connection.number))

    def _new(self) -> ClientConnection:
        return ClientConnection(self, self._each)

    def _sweep(self) -> None:
        """Close those who neither ask nor are told anything."""
        loop = asyncio.get_running_loop()
        for client in list(self._clients.values()):
            if loop.time() - client.active_at > IDLE_SECONDS:
                client.goodbye(Reason.EXPIRED, f"nothing was asked for {IDLE_SECONDS:g} s")
        self._sweeping = loop.call_later(_SWEEP_SECONDS, self._sweep)
