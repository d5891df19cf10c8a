"""Serving parts of a state over plain TCP, beside the connection on which they are asked for.

The state is no secret (anybody may read every row of it), and whoever fetches it checks each part against a certified
hash: TLS would protect nothing here, and costs more than all the rest. So a peer may ask, over TLS, for a token, and
open a plain connection to the same port with it: `PREAMBLE`, then the token. From then on whole chunks that it asks for
(over TLS, as ever) are sent on that connection, in the frames and the encoding that they have anyway; the kernel takes
them from the checkpoint's files. Nothing is read from it.

A token is good once, for one peer, for `TOKEN_SECONDS`. Only so many peers have such a connection at a time, each one,
and only so many parts wait on it; who doesn't read for `STALLED_SECONDS`, or asks for nothing for `IDLE_SECONDS`, loses
it. What finds no room goes over TLS.
"""

import asyncio
import contextlib
import os
import queue
import secrets
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Final

from lockstep.base.limits import FIRST_OBSERVER
from lockstep.runtime.connection import set_options
from lockstep.runtime.flat_tables import Span
from lockstep.wire.message import PLAIN_TOKEN_BYTES, StatePart, encode_part

PREAMBLE: Final = b"LOCKSTEP PARTS 1"
TOKEN_SECONDS: Final = 5.0
SENDERS_MAX: Final = 8
OBSERVERS_MAX: Final = 4
"""Of them, for nodes that don't vote."""
PARTS_WAITING_MAX: Final = 24
STALLED_SECONDS: Final = 2
IDLE_SECONDS: Final = 20.0
_LENGTH: Final = struct.Struct("<I")


class PlainServer:
    """Who may have a plain connection, and has one. For the loop's thread, but for `sender`."""

    def __init__(self, sent: Callable[[int, int], None]) -> None:
        """`sent` is told the peer and how many bytes went out, on the loop's thread."""
        self._sent = sent
        self._loop = asyncio.get_running_loop()
        self._tokens: dict[bytes, tuple[int, float]] = {}
        self._senders: dict[int, PlainSender] = {}

    def sender(self, peer: int) -> "PlainSender | None":
        """Where parts for a peer go, if it has a plain connection. From any thread."""
        return self._senders.get(peer)

    def token(self, peer: int) -> bytes:
        """A new token for a peer, instead of what it had; empty: not now."""
        now = self._loop.time()
        self._tokens = {t: (p, until) for t, (p, until) in self._tokens.items() if p != peer and until > now}
        others = {p for p in (*self._senders, *(p for p, _ in self._tokens.values())) if p != peer}
        guests = sum(1 for p in others if p >= FIRST_OBSERVER)
        if len(others) >= SENDERS_MAX or (peer >= FIRST_OBSERVER and guests >= OBSERVERS_MAX):
            return b""
        token = secrets.token_bytes(PLAIN_TOKEN_BYTES)
        self._tokens[token] = peer, now + TOKEN_SECONDS
        return token

    async def accept(self, accepted: socket.socket) -> None:
        """Take over a connection that is not TLS; raises `OSError` when it is not right. It is the caller's to close
        then, and to limit the time that this takes."""
        came = b""
        while len(came) < len(PREAMBLE) + PLAIN_TOKEN_BYTES:
            more = await self._loop.sock_recv(accepted, len(PREAMBLE) + PLAIN_TOKEN_BYTES - len(came))
            if not more:
                raise ConnectionError("a plain connection that ended before its token")
            came += more
        peer, until = self._tokens.pop(came[len(PREAMBLE) :], (-1, 0.0))
        if not came.startswith(PREAMBLE) or peer < 0 or self._loop.time() > until:
            raise ConnectionError("a plain connection without a token that is good now")
        self.lost(peer)
        self._senders[peer] = PlainSender(
            accepted,
            lambda size: self._tell(lambda: self._sent(peer, size)),
            lambda sender: self._tell(lambda: self._ended(peer, sender)),
        )

    def lost(self, peer: int) -> None:
        """The peer itself is gone."""
        sender = self._senders.pop(peer, None)
        if sender is not None:
            sender.close()

    def close(self) -> None:
        """Close all."""
        for peer in list(self._senders):
            self.lost(peer)

    def _ended(self, peer: int, sender: "PlainSender") -> None:
        if self._senders.get(peer) is sender:
            del self._senders[peer]

    def _tell(self, callback: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the node has stopped
            self._loop.call_soon_threadsafe(callback)


class PlainSender:
    """One plain connection, and the thread that writes to it."""

    def __init__(
        self, connection: socket.socket, sent: Callable[[int], None], ended: Callable[["PlainSender"], None]
    ) -> None:
        """`sent` and `ended` are called on the thread."""
        self._connection = connection
        self._sent = sent
        self._ended = ended
        self._queue: queue.Queue[tuple[int, int, Sequence[bytes | Span]] | None] = queue.Queue(PARTS_WAITING_MAX)
        self._is_closed = False
        connection.setblocking(True)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", STALLED_SECONDS, 0))
        set_options(connection)
        self._thread = threading.Thread(target=self._run, name="plain", daemon=True)
        self._thread.start()

    def send(self, request: int, size: int, pieces: Sequence[bytes | Span]) -> bool:
        """Queue the answer to a request: the first `size` bytes of all pieces together. False when it finds no room, or
        the connection is gone. From any thread."""
        if self._is_closed:
            return False
        try:
            self._queue.put_nowait((request, size, pieces))
        except queue.Full:
            return False
        return True

    def close(self) -> None:
        """End it, whatever is waiting."""
        self._is_closed = True
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(queue.Full):  # then the thread is writing, and finds out
            self._queue.put_nowait(None)

    def _run(self) -> None:
        with contextlib.suppress(OSError, queue.Empty):  # it is gone or doesn't read; or nothing was asked for long
            while (answer := self._queue.get(timeout=IDLE_SECONDS)) is not None:
                self._write(*answer)
        self._is_closed = True
        self._connection.close()
        self._ended(self)

    def _write(self, request: int, size: int, pieces: Sequence[bytes | Span]) -> None:
        header, _ = encode_part(StatePart(request, b""))
        self._connection.send(_LENGTH.pack(len(header) + size) + header, socket.MSG_MORE)
        left = size
        for piece in pieces:
            if isinstance(piece, Span):
                self._write_span(piece, min(left, piece.size))
                left -= piece.size
            else:
                self._connection.sendall(piece[:left])
                left -= len(piece)
        self._sent(size)

    def _write_span(self, span: Span, left: int) -> None:
        offset = span.offset
        while left:
            count = os.sendfile(self._connection.fileno(), span.file.handle, offset, left)
            if not count:
                raise OSError("a file of the checkpoint is shorter than it was")
            offset, left = offset + count, left - count
