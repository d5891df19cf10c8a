"""Real node processes and their homes: started, killed, stopped, and given less room than they want."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from lockstep.base.keys import PrivateKey
from lockstep.chaos.sockets import holder
from lockstep.runtime.home import CONFIG_FILE, Home, read_key
from lockstep.runtime.network import FEED_KEY_FILE, free_ports, init_network
from lockstep.wire.genesis import Account, Instrument, Parameters

PATIENCE_SECONDS: Final = 30.0
OUTPUT_FILE: Final = "output"
"""In a home: what its processes wrote to standard output and error."""


def make_homes(
    directory: Path,
    instruments: Sequence[Instrument],
    accounts: Sequence[Account],
    parameters: Parameters,
    proxy_ports: Sequence[int],
) -> tuple[list[Home], PrivateKey]:
    """Homes whose genesis names the proxy's ports for peers, and the key of their price feed. Each node listens on
    ports of its own. The last three accounts are the bridge, the fees and the insurance."""
    validators = len(proxy_ports)
    bridge = len(accounts) - 3
    own = free_ports(2 * validators)
    ports = [port for pair in zip(proxy_ports, own[:validators], strict=True) for port in pair]
    homes = init_network(
        directory, validators, instruments, accounts, bridge_account=bridge, fee_account=bridge + 1,
        insurance_account=bridge + 2, name="chaos", parameters=parameters, ports=ports,
    )  # fmt: skip
    return [_moved(home, port) for home, port in zip(homes, own[validators:], strict=True)], read_key(
        directory / FEED_KEY_FILE
    )


def _moved(home: Home, port: int) -> Home:
    config = msgspec.structs.replace(home.config, peer_listen=f"127.0.0.1:{port}")
    (home.path / CONFIG_FILE).write_bytes(msgspec.json.encode(config))
    return Home(home.path, home.genesis, home.key, home.index, config)


class Fleet:
    """One process at most for each home."""

    def __init__(self, homes: Sequence[Home]) -> None:
        self.homes = list(homes)
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * len(homes)
        self._paused: dict[int, None] = {}
        self.starts = [0] * len(homes)

    # -- life -------------------------------------------------------------------------------------------

    def start(self, index: int, clock_ms: int = 0, prefix: Sequence[str] = ()) -> None:
        """Start a node that doesn't run. `prefix`: a program that runs it."""
        assert not self.is_running(index)
        home = self.homes[index].path
        command = [
            *prefix, sys.executable, "-m", "lockstep.chaos.child", str(home), str(os.getpid()), str(clock_ms)
        ]  # fmt: skip
        with self.output_path(index).open("ab") as output:
            self._processes[index] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self.starts[index] += 1

    def is_running(self, index: int) -> bool:
        """Whether its process is there, paused or not."""
        process = self._processes[index]
        return process is not None and process.poll() is None

    def is_paused(self, index: int) -> bool:
        """Whether it was stopped by `pause`."""
        return index in self._paused

    def status(self, index: int) -> int | None:
        """Exit status of its last process; None while it runs or before the first; negative: the signal."""
        process = self._processes[index]
        return None if process is None else process.poll()

    def kill(self, indices: Iterable[int]) -> None:
        """SIGKILL, all of them before any is waited for."""
        dying = [index for index in indices if self.is_running(index)]
        for index in dying:
            self._signal(index, signal.SIGKILL)
        for index in dying:
            self._wait(index, PATIENCE_SECONDS)

    def pause(self, index: int) -> None:
        """SIGSTOP: it keeps its connections and says nothing."""
        if self.is_running(index):
            self._signal(index, signal.SIGSTOP)
            self._paused[index] = None

    def resume(self, index: int) -> None:
        """SIGCONT."""
        if self._paused.pop(index, 0) is None and self.is_running(index):
            self._signal(index, signal.SIGCONT)

    def limit_files(self, index: int, size: int | None) -> None:
        """From now on no write may take a file of this process beyond `size` bytes (None: any size): EFBIG, which is
        as final for the writer as a full disk, and needs no rights."""
        process = self._processes[index]
        if process is not None and self.is_running(index):
            hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))

    async def ended(self, index: int, seconds: float) -> int | None:
        """Wait for its end; the exit status, or None when it still runs."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self.is_running(index) and loop.time() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return self.status(index)

    async def stop(self) -> list[int | None]:
        """SIGTERM to everybody; exit statuses, None for one that doesn't listen and is killed."""
        for index in range(len(self.homes)):
            self.resume(index)
            if self.is_running(index):
                self._signal(index, signal.SIGTERM)
        statuses = [await self.ended(index, PATIENCE_SECONDS) for index in range(len(self.homes))]
        self.close()
        return statuses

    def close(self) -> None:
        """Leave no process behind."""
        self.kill(range(len(self.homes)))

    # -- looking ----------------------------------------------------------------------------------------

    def output_path(self, index: int) -> Path:
        """Where its output goes."""
        return self.homes[index].path / OUTPUT_FILE

    def output(self, index: int) -> str:
        """All that its processes wrote."""
        return self.output_path(index).read_text(errors="replace")

    def who(self, port: int, remote_port: int) -> int:
        """Which validator has the connection from `port` to `remote_port`; -1: none."""
        pids = {p.pid: i for i, p in enumerate(self._processes) if p is not None and p.poll() is None}
        found = holder(pids, port, remote_port)
        return -1 if found is None else pids[found]

    def _signal(self, index: int, number: signal.Signals) -> None:
        process = self._processes[index]
        assert process is not None
        process.send_signal(number)

    def _wait(self, index: int, seconds: float) -> None:
        process = self._processes[index]
        assert process is not None
        process.wait(seconds)
        self._paused.pop(index, None)
