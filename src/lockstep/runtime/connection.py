"""A connection that carries frames: u32 little-endian length, then so many bytes.

Incoming: a frame beyond the limit ends the connection. Only so many frames are handled in one turn of the event
loop, and only so many bytes and frames a second: what is beyond waits unread in the kernel, where it slows its sender
and nobody else.

A large frame is received straight into memory of its own, which `received` gets to keep; of smaller ones it gets bytes.

Outgoing: frames are queued, then joined and written by one `flush`, so that small frames share a TLS record and a
system call; large parts are written as they are. When the other side doesn't read, the queue fills to its limit, and
further frames are not taken.
"""

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import Final, cast

import numpy as np

from lockstep.base.errors import Reason, Refused
from lockstep.runtime.rate import Rate

_LENGTH: Final = struct.Struct("<I")
FRAMES_PER_TURN: Final = 32
LARGE_BYTES: Final = 128 * 1024
_READ_BYTES: Final = 64 * 1024
WRITE_BUFFER_BYTES: Final = 1024 * 1024
"""What the transport may hold before it asks us to pause. Beyond that, frames stay in our queue."""
DEAD_PEER_SECONDS: Final = 5
LINGER_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may cost."""

    frame_bytes_max: int
    queue_bytes_max: int
    bytes_per_second: float
    frames_per_second: float


@dataclass(slots=True)
class Traffic:
    """What passed, since the process started."""

    bytes_in: int = 0
    frames_in: int = 0
    bytes_out: int = 0
    frames_out: int = 0
    frames_dropped: int = 0
    """Outgoing frames that found the queue full."""


class Connection(asyncio.BufferedProtocol):
    """Framing, limits and backpressure. Subclasses say what frames mean: `opened`, `received`, `refused`, `closed`."""

    def __init__(self, limits: Limits, traffic: Traffic | None = None) -> None:
        self.traffic = traffic or Traffic()
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.is_closing = False
        self._incoming = bytearray()
        self._scratch = memoryview(bytearray(_READ_BYTES))
        self._large: memoryview | None = None
        """A large frame of which `_large_filled` bytes have come."""
        self._large_filled = 0
        self._is_waiting = False
        self._outgoing: list[bytes | memoryview] = []
        self._outgoing_bytes = 0
        self._is_full = False
        self.limit(limits)

    def limit(self, limits: Limits) -> None:
        """From now on, so much."""
        self.limits = limits
        self._byte_rate = Rate(limits.bytes_per_second, limits.bytes_per_second + limits.frame_bytes_max)
        self._frame_rate = Rate(limits.frames_per_second, limits.frames_per_second)

    # -- for subclasses -------------------------------------------------------------------------------

    def opened(self) -> None:
        """The connection is up (TLS included)."""

    def received(self, body: bytes | memoryview) -> None:
        """A frame came; may raise `Refused`."""
        raise NotImplementedError

    def refused(self, refused: Refused) -> None:
        """The other side sent something wrong."""
        self.abort()

    def closed(self) -> None:
        """The connection is gone. Called once, if `opened` was."""

    # -- writing --------------------------------------------------------------------------------------

    def send(self, *body: bytes | memoryview) -> bool:
        """Queue a frame, given in parts; False when it was dropped, because the queue is full or the connection is
        going."""
        length = sum(map(len, body))
        size = _LENGTH.size + length
        if self.is_closing or self.transport is None or self._outgoing_bytes + size > self.limits.queue_bytes_max:
            self.traffic.frames_dropped += 1
            return False
        self._outgoing += (_LENGTH.pack(length), *body)
        self._outgoing_bytes += size
        self.traffic.frames_out += 1
        return True

    def flush(self) -> None:
        """Write what is queued, unless the other side is not keeping up."""
        if not self._outgoing or self._is_full or self.transport is None or self.is_closing:
            return
        self.traffic.bytes_out += self._outgoing_bytes
        parts, self._outgoing, self._outgoing_bytes = self._outgoing, [], 0
        first = 0
        for place, part in enumerate(parts):
            if len(part) >= LARGE_BYTES:
                self.transport.write(b"".join(parts[first:place]))
                self.transport.write(part)
                first = place + 1
        if first < len(parts):
            self.transport.write(b"".join(parts[first:]))

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._is_full = True

    def resume_writing(self) -> None:
        """It has room again."""
        self._is_full = False
        self.flush()

    def close(self) -> None:
        """Write what is queued, then close; when the other side doesn't read it, don't wait long."""
        self._is_full = False
        self.flush()
        self.is_closing = True
        if self.transport is not None:
            self.transport.close()
            self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def abort(self) -> None:
        """Close at once."""
        self.is_closing = True
        if self.transport is not None:
            self.transport.abort()

    # -- reading --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """From asyncio, after the TLS handshake."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's TLS transport does not say so itself
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        set_options(transport.get_extra_info("socket"))
        self.opened()

    def connection_lost(self, exc: Exception | None) -> None:
        """From asyncio."""
        self.is_closing = True
        self._outgoing.clear()
        self._incoming.clear()
        self.closed()

    def get_buffer(self, sizehint: int) -> memoryview:
        """From asyncio: where to put what comes."""
        return (self._large is not None and self._large[self._large_filled :]) or self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        """From asyncio."""
        self.traffic.bytes_in += nbytes
        if self._large is not None and self._large_filled < len(self._large):
            self._large_filled += nbytes
        else:
            self._incoming += self._scratch[:nbytes]
        if not self._is_waiting:
            self._turn(self._byte_rate.take(nbytes, self.loop.time()))

    def _turn(self, delay: float) -> None:
        """Handle some frames; read on at once, after other callbacks, or after a delay, as limits say."""
        frames = 0
        try:
            while frames < FRAMES_PER_TURN and not self.is_closing:
                body = self._next_frame()
                if body is None:
                    break
                frames += 1
                self.received(body)
        except Refused as refused:
            self.refused(refused)
            return
        self.traffic.frames_in += frames
        delay = max(delay, self._frame_rate.take(frames, self.loop.time()))
        if (frames == FRAMES_PER_TURN or delay > 0) and not self.is_closing and self.transport is not None:
            self._is_waiting = True
            self.transport.pause_reading()
            self.loop.call_later(delay, self._go_on)

    def _go_on(self) -> None:
        self._is_waiting = False
        if self.is_closing or self.transport is None:
            return
        self.transport.resume_reading()
        self._turn(0.0)

    def _next_frame(self) -> bytes | memoryview | None:
        incoming, large = self._incoming, self._large
        if large is not None:
            if self._large_filled < len(large):
                return None
            self._large = None
            return large
        if len(incoming) < _LENGTH.size:
            return None
        length: int = _LENGTH.unpack_from(incoming)[0]
        if length > self.limits.frame_bytes_max:
            raise Refused(Reason.OVERSIZE, f"a frame of {length} bytes; {self.limits.frame_bytes_max} are allowed")
        end = _LENGTH.size + length
        if len(incoming) < end:
            if length >= LARGE_BYTES:
                self._begin_large(length)
            return None
        body = bytes(memoryview(incoming)[_LENGTH.size : end])
        del incoming[:end]
        return body

    def _begin_large(self, length: int) -> None:
        """From now on, what comes goes into this frame's own memory. (NumPy's is not cleared first: memory that a peer
        announces, but doesn't fill, costs nothing.)"""
        self._large_filled = len(self._incoming) - _LENGTH.size
        self._large = np.empty(length, np.uint8).data
        self._large[: self._large_filled] = self._incoming[_LENGTH.size :]
        self._incoming.clear()


def set_options(sock: socket.socket | None) -> None:
    """No delay for small frames; and notice within seconds when the other machine is gone without a word."""
    if sock is None:
        return
    with contextlib.suppress(OSError):  # options are a help, not a condition
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_SECONDS * 1_000)
