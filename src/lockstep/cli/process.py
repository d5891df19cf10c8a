"""A child process: started in its own group, read line by line, ended for sure."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

_LINE_BYTES_MAX: Final = 4 * 1024 * 1024
_STDERR_KEPT: Final = 20
_PATIENCE_SECONDS: Final = 10.0


class Process:
    """A running child. Its own session, so that Ctrl-C in the terminal reaches only us; and it dies with us."""

    def __init__(self, child: asyncio.subprocess.Process, on_line: Callable[[bytes], None]) -> None:
        self._child = child
        self._on_line = on_line
        self.errors: deque[str] = deque(maxlen=_STDERR_KEPT)
        """The last lines of its standard error."""
        self._tasks = [asyncio.create_task(self._read_output()), asyncio.create_task(self._read_errors())]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def status(self) -> int | None:
        """Its exit status, None while it runs; negative: the signal that killed it."""
        return self._child.returncode

    async def wait(self) -> int:
        """Wait for its end, and for the end of its output."""
        status = await self._child.wait()
        await asyncio.gather(*self._tasks)
        return status

    def tell(self, line: str) -> None:
        """Write a line to its standard input; if it is gone, nobody minds."""
        if self._child.stdin is not None and self.status is None:
            with contextlib.suppress(ConnectionError):
                self._child.stdin.write(line.encode() + b"\n")

    def kill(self) -> None:
        """SIGKILL, to its whole group."""
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM: ask it to end."""
        self._signal(signal.SIGTERM)

    async def stop(self) -> int:
        """Ask it to end; if it doesn't listen, SIGKILL. Returns its exit status."""
        self.terminate()
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await self.wait()
        except TimeoutError:
            self.kill()
            return await self.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def _read_output(self) -> None:
        assert self._child.stdout is not None
        while line := await self._child.stdout.readline():
            self._on_line(line)

    async def _read_errors(self) -> None:
        assert self._child.stderr is not None
        while line := await self._child.stderr.readline():
            self.errors.append(line.decode(errors="replace").rstrip())


async def start(task: Sequence[str], on_line: Callable[[bytes], None]) -> Process:
    """Start a task of `cli.bare` with this Python; `on_line` is given each line of its standard output."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "lockstep.cli.bare",
        str(os.getpid()),
        *task,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        limit=_LINE_BYTES_MAX,
    )
    return Process(child, on_line)
