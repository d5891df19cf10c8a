"""Keeping connections up: a validator dials those of higher index, for ever; a node that doesn't vote dials some."""

import asyncio
import random
import ssl
from collections.abc import Coroutine
from typing import Any, Final, Protocol

from lockstep.runtime.address import parse_address
from lockstep.runtime.peer_connection import PeerConnection
from lockstep.runtime.seeker import Place, Seeker

RETRY_SECONDS_MIN: Final = 0.05
RETRY_SECONDS_MAX: Final = 0.25
DIAL_SECONDS: Final = 3.0
SEEK_SECONDS: Final = 0.1


class Maker(Protocol):
    """Makes the connection object of an attempt."""

    def __call__(self, expected: int | None) -> PeerConnection: ...


class Dialling:
    """Attempts and their tasks."""

    def __init__(self, context: ssl.SSLContext, make: Maker) -> None:
        self._context = context
        self._make = make
        self._tasks: dict[asyncio.Task[None], None] = {}

    async def close(self) -> None:
        """Dial nobody any more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def keep_dialling(self, address: str, validator: int) -> None:
        """From now on, keep a connection to this validator."""
        self._begin(self._keep(*parse_address(address), validator))

    def keep_seeking(self, seeker: Seeker) -> None:
        """From now on, dial whom `seeker` says."""
        self._begin(self._seek(seeker))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def _keep(self, host: str, port: int, validator: int) -> None:
        """Dial, wait until the connection is gone, dial again. The delay grows only while dialling fails."""
        delay = RETRY_SECONDS_MIN
        while True:
            was_connected = await self._dial(host, port, self._make(validator))
            delay = RETRY_SECONDS_MIN if was_connected else min(RETRY_SECONDS_MAX, 2 * delay)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # nodes restarted together don't dial in step

    async def _seek(self, seeker: Seeker) -> None:
        loop = asyncio.get_running_loop()
        while True:
            place = seeker.next(*seeker.busy(), loop.time())
            if place is None:
                await asyncio.sleep(SEEK_SECONDS)
            else:
                self._begin(self._try(seeker, place))

    async def _try(self, seeker: Seeker, place: Place) -> None:
        connection = self._make(place.validator)
        was_good = False
        try:
            was_good = await self._dial(place.host, place.port, connection) and not connection.is_dropped
        finally:
            seeker.ended(place, was_good, asyncio.get_running_loop().time())

    async def _dial(self, host: str, port: int, connection: PeerConnection) -> bool:
        """One attempt, until its connection is gone. Whether there was one, with greetings."""
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection, host, port, ssl=self._context, server_hostname=host
                )
        except OSError:  # refused, unreachable, timed out, or its TLS was not right
            return False
        await connection.gone.wait()
        return connection.is_established
