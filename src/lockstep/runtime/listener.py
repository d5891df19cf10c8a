"""Accepting connections: a TLS handshake has a time limit, and only so many may be under way.

When too many are, the oldest is given up: an honest handshake takes milliseconds, so the oldest is the one that a
stranger holds open.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Final

HANDSHAKE_SECONDS: Final = 3.0
HANDSHAKES_MAX: Final = 64
_BACKLOG: Final = 256


class Listener:
    """A listening socket and the handshakes under way on it."""

    def __init__(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext,
        factory: Callable[[], asyncio.BufferedProtocol],
        failed: Callable[[str], None],
    ) -> None:
        """Binds at once; raises `OSError`. Port 0 takes a free one (see `port`)."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self._context = context
        self._factory = factory
        self._failed = failed
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
            await loop.connect_accepted_socket(
                self._factory, accepted, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
        except OSError as error:  # ssl.SSLError and time-outs are OSErrors
            self._failed(getattr(error, "reason", None) or str(error) or type(error).__name__)
        except asyncio.CancelledError:
            self._failed("too many handshakes under way, or the node is stopping")
            raise
        else:
            return
        with contextlib.suppress(OSError):
            accepted.close()
