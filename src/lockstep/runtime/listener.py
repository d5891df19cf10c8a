"""Accepting connections: a TLS handshake has a time limit, and only so many may be under way.

When too many are, the oldest is given up: an honest handshake takes milliseconds, so the oldest is the one that a
stranger holds open.

A port may take plain connections too (`plain_server`): they begin with another byte than TLS does.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

HANDSHAKE_SECONDS: Final = 3.0
HANDSHAKES_MAX: Final = 64
_BACKLOG: Final = 256
_TLS_HANDSHAKE: Final = b"\x16"
"""First byte of TLS (RFC 8446, section 5.1)."""


class Listener:
    """A listening socket and the handshakes under way on it."""

    def __init__(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext,
        factory: Callable[[], asyncio.BufferedProtocol],
        failed: Callable[[str], None],
        plain: Callable[[socket.socket], Awaitable[None]] | None = None,
    ) -> None:
        """Binds at once; raises `OSError`. Port 0 takes a free one (see `port`). `plain` takes over a connection that
        does not begin as TLS does; raises `OSError` for one that is not right."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self._context = context
        self._factory = factory
        self._failed = failed
        self._plain = plain
        self._handshakes: dict[asyncio.Task[None], None] = {}
        self._accepting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to accept."""
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    async def close(self) -> None:
        """Stop accepting, and give up what is under way."""
        tasks = [*self._handshakes, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._socket.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(self._socket)
            except OSError:  # out of file descriptors, or the caller left already
                await asyncio.sleep(0.05)
                continue
            if len(self._handshakes) >= HANDSHAKES_MAX:
                next(iter(self._handshakes)).cancel()
            task = loop.create_task(self._handshake(accepted))
            self._handshakes[task] = None
            task.add_done_callback(self._handshakes.pop)

    async def _handshake(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            if self._plain is not None:
                async with asyncio.timeout(HANDSHAKE_SECONDS):
                    if not await _is_tls(accepted):
                        await self._plain(accepted)
                        return
            await loop.connect_accepted_socket(
                self._factory, accepted, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
        except OSError as error:  # ssl.SSLError and time-outs are OSErrors
            self._failed(getattr(error, "reason", None) or str(error) or type(error).__name__)
        except asyncio.CancelledError:
            self._failed("too many handshakes under way, or the node is stopping")
            accepted.close()
            raise
        else:
            return
        with contextlib.suppress(OSError):
            accepted.close()


async def _is_tls(accepted: socket.socket) -> bool:
    """Whether the other side begins with TLS, or says nothing at all; what it has sent stays to be read."""
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    while True:
        try:
            return accepted.recv(1, socket.MSG_PEEK) in (_TLS_HANDSHAKE, b"")
        except BlockingIOError:
            readable.clear()
            loop.add_reader(accepted, readable.set)
            try:
                await readable.wait()
            finally:
                loop.remove_reader(accepted)
