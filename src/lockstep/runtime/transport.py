"""Connections to all the other validators: one each, dialled by the lower index, dialled again for ever.

A message to a validator that is not connected, or whose queue is full, is dropped: every protocol re-sends what
matters, and nobody waits for a slow peer.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Final

from lockstep.base.errors import Refused
from lockstep.base.keys import PrivateKey
from lockstep.node.effects import Severity
from lockstep.node.events import Event, PeerConnected, PeerLost, PeerSaid
from lockstep.runtime.address import parse_address
from lockstep.runtime.connection import Traffic
from lockstep.runtime.listener import Listener
from lockstep.runtime.peer_connection import Greeting, PeerConnection
from lockstep.runtime.tls import peer_client_context, peer_server_context
from lockstep.wire.genesis import Genesis
from lockstep.wire.message import PeerMessage, encode_message

RETRY_SECONDS_MIN: Final = 0.05
RETRY_SECONDS_MAX: Final = 0.25
DIAL_SECONDS: Final = 3.0


class Transport:
    """Sends messages to validators by index, and turns what they do into events."""

    def __init__(
        self,
        genesis: Genesis,
        index: int,
        key: PrivateKey,
        listen: str,
        on_event: Callable[[Event], None],
        note: Callable[[Severity, str], None],
    ) -> None:
        """Binds the listening address at once; raises `OSError`."""
        certificates = tuple(v.certificate for v in genesis.validators)
        self._greeting = Greeting(genesis.chain_id, index, certificates)
        self._addresses = [parse_address(v.peer_address) for v in genesis.validators]
        self._names = [v.name for v in genesis.validators]
        self._on_event = on_event
        self._note = note
        self._dialling = peer_client_context(key, certificates)
        accepting = peer_server_context(key, certificates)
        self._listener = Listener(*parse_address(listen), accepting, self._accepted, self._failed)
        self._connections: dict[int, PeerConnection] = {}
        self._opening: dict[int, PeerConnection] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.traffic = {peer: Traffic() for peer in range(len(certificates)) if peer != index}
        """Over all connections, by validator."""

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._listener.port

    @property
    def connected(self) -> list[int]:
        """Validators with a connection, ascending."""
        return sorted(self._connections)

    def start(self) -> None:
        """Begin to accept and to dial."""
        self._listener.start()
        loop = asyncio.get_running_loop()
        for peer in self.traffic:
            if peer > self._greeting.index:
                self._tasks.append(loop.create_task(self._keep_dialling(peer)))

    async def close(self) -> None:
        """Close everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listener.close()
        for connection in [*self._connections.values(), *self._opening.values()]:
            connection.abort()

    # -- messages -------------------------------------------------------------------------------------

    def send(self, peer: int, message: PeerMessage) -> None:
        """Queue a message; `flush` sends."""
        self.send_encoded(peer, encode_message(message))

    def send_encoded(self, peer: int, body: bytes) -> None:
        """The same, for an encoded message."""
        connection = self._connections.get(peer)
        if connection is None:
            self.traffic[peer].frames_dropped += 1
        else:
            connection.send(body)

    def broadcast(self, message: PeerMessage) -> None:
        """Queue a message to everybody connected, encoded once."""
        body = encode_message(message)
        for peer in self.traffic:
            self.send_encoded(peer, body)

    def flush(self) -> None:
        """Write what is queued."""
        for connection in self._connections.values():
            connection.flush()

    def drop(self, peer: int, detail: str) -> None:
        """Close the connection to a validator that did something wrong."""
        self._note(Severity.WARNING, f"dropping {self._name(peer)}: {detail}")
        connection = self._connections.get(peer)
        if connection is not None:
            connection.abort()

    # -- what connections tell (PeerOwner) --------------------------------------------------------------

    def identified(self, connection: PeerConnection) -> None:
        """TLS has named the validator. It may have one connection that has not greeted yet."""
        older = self._opening.pop(connection.peer, None)
        if older is not None:
            older.abort()
        self._opening[connection.peer] = connection

    def established(self, connection: PeerConnection) -> None:
        """A greeted peer. A newer connection replaces an older one, whose death was not noticed."""
        peer = connection.peer
        del self._opening[peer]
        connection.traffic = self.traffic[peer]
        older = self._connections.pop(peer, None)
        if older is not None:
            older.abort()
            self._on_event(PeerLost(peer))
        self._connections[peer] = connection
        self._note(Severity.INFO, f"connected to {self._name(peer)}")
        self._on_event(PeerConnected(peer))

    def said(self, connection: PeerConnection, message: PeerMessage) -> None:
        """A message from a greeted peer."""
        self._on_event(PeerSaid(connection.peer, message))

    def lost(self, connection: PeerConnection, refused: Refused | None) -> None:
        """A connection is gone, greeted or not."""
        peer = connection.peer
        if self._opening.get(peer) is connection:
            del self._opening[peer]
        if refused is not None:
            who = self._name(peer) if peer >= 0 else "a stranger"
            self._note(Severity.WARNING, f"connection with {who} refused: {refused}")
        if peer >= 0 and self._connections.get(peer) is connection:
            del self._connections[peer]
            self._note(Severity.INFO, f"lost {self._name(peer)}")
            self._on_event(PeerLost(peer))

    def _failed(self, error: str) -> None:
        self._note(Severity.WARNING, f"a connection to the peer port failed before it said who it is: {error}")

    # -- dialling -------------------------------------------------------------------------------------

    def _accepted(self) -> PeerConnection:
        return PeerConnection(self, self._greeting, None)

    async def _keep_dialling(self, peer: int) -> None:
        """Dial, wait until the connection is gone, dial again. The delay grows only while dialling fails."""
        delay = RETRY_SECONDS_MIN
        while True:
            was_connected = await self._dial(peer)
            delay = RETRY_SECONDS_MIN if was_connected else min(RETRY_SECONDS_MAX, 2 * delay)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # nodes restarted together don't dial in step

    async def _dial(self, peer: int) -> bool:
        """One attempt, until its connection is gone. Whether there was one, with greetings."""
        host, port = self._addresses[peer]
        connection = PeerConnection(self, self._greeting, peer)
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection, host, port, ssl=self._dialling, server_hostname=host
                )
        except OSError:  # refused, unreachable, timed out, or its TLS was not right
            return False
        await connection.gone.wait()
        return connection.is_established

    def _name(self, peer: int) -> str:
        return f"validator {peer} ({self._names[peer]})"
