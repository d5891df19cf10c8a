"""A very small HTTP server for metrics and the status document: GET, one request a connection, everything bounded.

    /metrics   Prometheus' text format
    /status    the status as JSON
    /health    200 when the node is live, else 503; the status as JSON

There is no TLS and nobody is asked who they are: it listens where the operator says, on loopback unless told otherwise,
and only reads.
"""

import asyncio
import contextlib
import socket
from typing import Final

from lockstep.runtime.address import parse_address
from lockstep.runtime.metrics import Metrics

REQUEST_BYTES_MAX: Final = 8 * 1024
REQUEST_SECONDS: Final = 5.0
CONNECTIONS_MAX: Final = 16
_JSON: Final = "application/json"
_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
_REASONS: Final = {
    200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable",
}  # fmt: skip


class MetricsServer:
    """Serves one node's metrics."""

    def __init__(self, listen: str, metrics: Metrics) -> None:
        """Binds at once; raises `OSError`. Port 0 takes a free one (see `port`)."""
        host, port = parse_address(listen)
        self._socket = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.port: int = self._socket.getsockname()[1]
        self._metrics = metrics
        self._server: asyncio.Server | None = None
        self._connections = 0

    async def start(self) -> None:
        """Begin to accept."""
        self._server = await asyncio.start_server(self._serve, sock=self._socket, limit=REQUEST_BYTES_MAX)

    async def close(self) -> None:
        """Stop."""
        if self._server is not None:
            self._server.close()
        self._socket.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= CONNECTIONS_MAX:
                async with asyncio.timeout(REQUEST_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self.answer(head))
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asks so need not be answered
        finally:
            self._connections -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def answer(self, head: bytes) -> bytes:
        """The response to a request's head."""
        parts = head.split(b"\r\n", 1)[0].split(b" ")
        if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
            return _response(400, _TEXT, b"this is HTTP/1.1\n")
        if parts[0] not in (b"GET", b"HEAD"):
            return _response(405, _TEXT, b"only GET\n")
        match parts[1].split(b"?", 1)[0]:
            case b"/metrics":
                status, kind, body = 200, _TEXT, self._metrics.text()
            case b"/status":
                status, kind, body = 200, _JSON, self._metrics.status()[1]
            case b"/health":
                is_live, body = self._metrics.status()
                status, kind = 200 if is_live else 503, _JSON
            case _:
                status, kind, body = 404, _TEXT, b"there are /metrics, /status and /health\n"
        whole = _response(status, kind, body)
        return whole if parts[0] == b"GET" else whole[: len(whole) - len(body)]


def _response(status: int, kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Cache-Control: no-store\r\nConnection: close\r\n\r\n".encode() + body
