"""A TCP proxy in front of every validator's peer port: the network between them, as bad as it is told to be.

Each validator dials the others at the proxy's ports, which the genesis names; the proxy passes on to where they really
listen. It finds out which validator dialled (`who`), so every pair has its own weather, in each direction. What
happens to bytes: they are late (`delay`), they trickle (`bytes_per_second`), they vanish while the connection stays up
(`swallow`), or a bit of them flips (`flips`). What happens to connections: they are reset and refused (`cut`), or
arrive at the other side several times (`copies`).

Streams stay streams: nothing is reordered, and what was swallowed is never followed by something that was not, because
the connection is reset when the weather clears.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Final

HOST: Final = "127.0.0.1"
_CHUNK_BYTES: Final = 64 * 1024
_CHUNKS_WAITING_MAX: Final = 64
_COPY_SECONDS: Final = 2.0
_AT_ONCE: Final = struct.pack("ii", 1, 0)
STRANGER: Final = -1
"""Who dials and is no validator."""


@dataclass(slots=True)
class Weather:
    """What happens to what one validator sends to another."""

    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    bytes_per_second: float = 0.0
    """0: no limit."""
    is_cut: bool = False
    is_swallowed: bool = False
    flips: int = 0
    """In so many of the next chunks one bit is flipped."""
    copies: int = 0
    """So many more connections are made when it dials next, with the same first bytes."""


@dataclass(slots=True, eq=False)
class _Connection:
    dialler: int
    target: int
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    has_swallowed: bool = False

    def reset(self) -> None:
        for writer in self.writers:
            sock = writer.get_extra_info("socket")
            if sock is not None:
                with contextlib.suppress(OSError, ValueError):  # it has ended already
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            writer.transport.abort()


class Proxy:
    """`len(ports)` ports, one for each validator."""

    def __init__(self, random: Random, who: Callable[[int, int], int]) -> None:
        """`who(port, proxy port)` names the validator whose connection comes from that port."""
        self._random = random
        self._who = who
        self._targets: Sequence[tuple[str, int]] = ()
        self._servers: list[asyncio.Server] = []
        self._connections: dict[_Connection, None] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._weather: dict[tuple[int, int], Weather] = {}
        self.fired: dict[str, int] = {}
        """Kind of fault → how often it touched something."""

    async def bind(self, count: int) -> list[int]:
        """Listen on free ports; returns them."""
        for target in range(count):
            server = await asyncio.start_server(partial(self._accepted, target), HOST, 0)
            self._servers.append(server)
        return [int(server.sockets[0].getsockname()[1]) for server in self._servers]

    def aim(self, targets: Sequence[tuple[str, int]]) -> None:
        """Where each validator really listens."""
        self._targets = targets

    async def close(self) -> None:
        """Reset everything."""
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- weather ----------------------------------------------------------------------------------------

    def weather(self, source: int, target: int) -> Weather:
        """What happens to what `source` sends to `target`. Change it, then call `changed`."""
        return self._weather.setdefault((source, target), Weather())

    def changed(self, one: int, other: int) -> None:
        """Connections of this pair that the weather forbids end now."""
        pair = {one, other}
        for connection in list(self._connections):
            if {connection.dialler, connection.target} == pair:
                ways = [self.weather(one, other), self.weather(other, one)]
                is_clear = not any(way.is_swallowed for way in ways)
                if any(way.is_cut for way in ways) or (connection.has_swallowed and is_clear):
                    self._fire("reset")
                    connection.reset()

    def clear(self) -> None:
        """Fine weather everywhere."""
        pairs = list(self._weather)
        self._weather.clear()
        for one, other in pairs:
            self.changed(one, other)

    def connected(self) -> Iterator[tuple[int, int]]:
        """(dialler, target) of every connection."""
        return ((c.dialler, c.target) for c in self._connections)

    def _fire(self, kind: str) -> None:
        self.fired[kind] = self.fired.get(kind, 0) + 1

    # -- connections ------------------------------------------------------------------------------------

    def _accepted(self, target: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer, own = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
        dialler = self._who(peer[1], own[1]) if peer and own else STRANGER  # it may be gone already
        connection = _Connection(dialler, target, [writer])
        self._connections[connection] = None
        self._begin(self._serve(connection, reader, writer)).add_done_callback(lambda _: self._ended(connection))

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task

    def _ended(self, connection: _Connection) -> None:
        connection.reset()
        del self._connections[connection]

    async def _serve(self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):  # either side may be gone at any moment
            await self._join(connection, reader, writer)

    async def _join(self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = self.weather(connection.dialler, connection.target)
        back = self.weather(connection.target, connection.dialler)
        if there.is_cut or back.is_cut:
            self._fire("refused")
            return
        out_reader, out_writer = await asyncio.open_connection(*self._targets[connection.target])
        connection.writers.append(out_writer)
        first = await reader.read(_CHUNK_BYTES)
        copies, there.copies = there.copies, 0
        for _ in range(copies):
            self._fire("copy")
            self._begin(self._copy(connection.target, first))
        ways = [
            asyncio.create_task(self._carry(connection, reader, out_writer, connection.dialler, first)),
            asyncio.create_task(self._carry(connection, out_reader, writer, connection.target, b"")),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _copy(self, target: int, first: bytes) -> None:
        """The same beginning once more. Nobody will go on with it."""
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(*self._targets[target])
            try:
                writer.write(first)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_COPY_SECONDS):
                        while await reader.read(_CHUNK_BYTES):
                            pass
            finally:
                writer.transport.abort()

    # -- bytes ------------------------------------------------------------------------------------------

    async def _carry(
        self,
        connection: _Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        source: int,
        data: bytes,
    ) -> None:
        """One direction, until its end. Delays overlap: a chunk doesn't wait for those before it, only behind them."""
        target = connection.target if source == connection.dialler else connection.dialler
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS_WAITING_MAX)
        writing = asyncio.create_task(self._write(waiting, writer))
        due = 0.0
        try:
            data = data or await reader.read(_CHUNK_BYTES)
            while data:
                weather = self.weather(source, target)
                if weather.is_swallowed:
                    self._fire("swallowed")
                    connection.has_swallowed = True
                else:
                    due = self._due(weather, due, len(data))
                    await waiting.put((due, self._damaged(weather, data)))
                data = await reader.read(_CHUNK_BYTES)
            await waiting.put((due, b""))
            await writing
        finally:
            writing.cancel()

    def _due(self, weather: Weather, before: float, size: int) -> float:
        now = asyncio.get_running_loop().time()
        due = now + weather.delay_seconds + weather.jitter_seconds * self._random.random()
        if weather.bytes_per_second:
            due = max(due, before) + size / weather.bytes_per_second
        if due > now:
            self._fire("late")
        return max(due, before)

    def _damaged(self, weather: Weather, data: bytes) -> bytes:
        if not weather.flips:
            return data
        weather.flips -= 1
        self._fire("flipped")
        place = self._random.randrange(8 * len(data))
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << place % 8
        return bytes(damaged)

    async def _write(self, waiting: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await waiting.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if not data:
                return
            writer.write(data)
            await writer.drain()
