"""How a driver is steered: lines on its standard input. `window NAME` begins another measured window, `stop` ends."""

import asyncio
import os
from collections.abc import Callable

_READ_BYTES = 4096


class Steering:
    """Reads standard input. Its end is a stop too: whoever steered is gone."""

    def __init__(self, on_window: Callable[[str], None], descriptor: int = 0) -> None:
        """Must be made inside a running event loop."""
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._on_window = on_window
        self._rest = b""
        self.stopped = asyncio.Event()
        self._loop.add_reader(descriptor, self._readable)

    def _readable(self) -> None:
        data = os.read(self._descriptor, _READ_BYTES)
        if not data:
            self._loop.remove_reader(self._descriptor)
            self.stopped.set()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self.obey(line.decode(errors="replace"))

    def obey(self, line: str) -> None:
        """Carry out one line; what isn't understood is ignored."""
        word, _, name = line.partition(" ")
        if word == "stop":
            self.stopped.set()
        elif word == "window":
            self._on_window(name)
