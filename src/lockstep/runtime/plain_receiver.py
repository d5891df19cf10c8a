"""The receiving end of a plain connection, a thread of its own: a part is received in one go into memory that was used
before, and hashed while it is in the processor's cache. Neither holds up the loop."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Final

from lockstep.base.errors import Refused
from lockstep.runtime.buffers import Buffers
from lockstep.runtime.connection import set_options
from lockstep.runtime.plain_server import PREAMBLE
from lockstep.sync.state_hash import Array, hash_part
from lockstep.wire.message import PART_BYTES_MAX, PART_HEADER_BYTES, FetchState, StatePart, decode_part, is_part

DIAL_SECONDS: Final = 2.0
_LENGTH: Final = struct.Struct("<I")


class PlainReceiver:
    """One plain connection, and the thread that reads it."""

    def __init__(
        self, address: tuple[str, int], token: bytes, expected: dict[int, FetchState], buffers: Buffers,
        came: Callable[[StatePart, Array | None], None], ended: Callable[[], None],
    ) -> None:  # fmt: skip
        """`came` and `ended` are called on the thread; `expected` are the requests that may be answered, each once."""
        self._address = address
        self._token = token
        self._expected = expected
        self._buffers = buffers
        self._came = came
        self._ended = ended
        self._connection: socket.socket | None = None
        self._is_closed = False
        self.was_open = False
        """The peer may have answered requests with it."""
        threading.Thread(target=self._run, name="plain", daemon=True).start()

    def close(self) -> None:
        """End it. From any thread."""
        self._is_closed = True
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        try:
            with contextlib.suppress(OSError, Refused):  # it can't be had, is gone, or brought something else
                self._read()
        finally:
            self._ended()

    def _read(self) -> None:
        with socket.create_connection(self._address, DIAL_SECONDS) as connection:
            self._connection = connection
            connection.settimeout(None)
            set_options(connection)
            connection.sendall(PREAMBLE + self._token)
            self.was_open = True
            while not self._is_closed and (part := self._receive(connection)) is not None:
                request = self._expected.pop(part.request, None)  # the loop's thread forgets old ones meanwhile
                if request is None:
                    return
                self._came(part, hash_part(request, part.data))

    def _receive(self, connection: socket.socket) -> StatePart | None:
        """The next part; None at the end, or instead of anything else than a part."""
        head = connection.recv(_LENGTH.size, socket.MSG_WAITALL)
        if len(head) < _LENGTH.size:
            return None
        length: int = _LENGTH.unpack(head)[0]
        if not PART_HEADER_BYTES <= length <= PART_BYTES_MAX:
            return None
        memory = self._buffers.take(length)
        if connection.recv_into(memory, length, socket.MSG_WAITALL) < length or not is_part(memory):
            return None
        return decode_part(memory)
