"""A connection that comes back: for programs that follow a node over its restarts."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from lockstep.gateway.client import Client, Handler, connect
from lockstep.wire.client import ClientRequest

RETRY_SECONDS_MIN: Final = 0.05
RETRY_SECONDS_MAX: Final = 1.0


class Link:
    """Keeps one connection to one node up as far as it can."""

    def __init__(
        self,
        address: str,
        certificate: bytes,
        on_message: Handler,
        on_up: Callable[[Client], None] | None = None,
        on_down: Callable[[str], None] | None = None,
    ) -> None:
        """`on_up` is called with each new connection (subscribe there), `on_down` with the reason why one ended."""
        self._address = address
        self._certificate = certificate
        self._on_message = on_message
        self._on_up = on_up
        self._on_down = on_down
        self._task: asyncio.Task[None] | None = None
        self.client: Client | None = None
        """The connection, while it is up."""

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def send(self, request: ClientRequest) -> bool:
        """Send without waiting; False when there is no connection, or its queue is full."""
        return self.client is not None and self.client.request(request)

    async def close(self) -> None:
        """Close for good."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self.client is not None:
            await self.client.disconnect()
            self.client = None

    async def _run(self) -> None:
        delay = RETRY_SECONDS_MIN
        while True:
            try:
                client = await connect(self._address, self._certificate, self._on_message)
            except OSError:
                await asyncio.sleep(delay)
                delay = min(RETRY_SECONDS_MAX, 2 * delay)
                continue
            delay = RETRY_SECONDS_MIN
            self.client = client
            if self._on_up is not None:
                self._on_up(client)
            await client.gone.wait()
            self.client = None
            if self._on_down is not None:
                self._on_down("" if client.goodbye is None else client.goodbye.detail)
            await asyncio.sleep(delay)
