"""The validators of a network on this machine, each a process."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lockstep.cli import process
from lockstep.cli.process import Process
from lockstep.dashboard.screen import ValidatorRow
from lockstep.market.report import Validator

_KIB_PER_MIB = 1024


@dataclass(slots=True)
class Member:
    """One validator's process."""

    name: str
    home: Path
    process: Process | None = None
    phase: str = "down"
    detail: str = ""
    restarts: int = -1
    peak_rss_mib: int = 0

    def told(self, line: bytes) -> None:
        """A line of its standard output: how far its start is."""
        with contextlib.suppress(msgspec.DecodeError):
            said = msgspec.json.decode(line, type=dict[str, object])
            self.phase = str(said.get("phase", self.phase))
            self.detail = str(said.get("reason", ""))

    @property
    def is_running(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.status is None

    def measure(self) -> None:
        """Note the highest resident memory that its process has had."""
        if self.process is not None and self.is_running:
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                    if line.startswith("VmHWM:"):
                        self.peak_rss_mib = max(self.peak_rss_mib, int(line.split()[1]) // _KIB_PER_MIB)

    def row(self, seen: Validator | None) -> ValidatorRow:
        """What to show: what the node says if it can be asked, else what its process does."""
        if not self.is_running:
            return ValidatorRow(self.name, "down", self.detail, restarts=max(self.restarts, 0))
        if seen is None or not seen.connected or seen.state == "down":
            state = self.phase if self.phase not in ("live", "down") else "starting"
            return ValidatorRow(self.name, state, restarts=self.restarts)
        return row_of(seen, self.restarts)


def row_of(seen: Validator, restarts: int = 0) -> ValidatorRow:
    """What to show of a validator that can be asked."""
    return ValidatorRow(
        seen.name, seen.state, seen.reason if seen.state != "live" else "", seen.view, seen.height,
        seen.final_height, seen.lag_blocks, seen.lag_ms, seen.state_root, seen.pool_bundles, seen.peers,
        seen.rss_mib, restarts,
    )  # fmt: skip


class Fleet:
    """All of them."""

    def __init__(self, homes: list[Path]) -> None:
        self.members = [Member(home.name, home) for home in homes]

    async def start(self, index: int) -> None:
        """Start a validator (again)."""
        member = self.members[index]
        member.phase, member.detail = "starting", ""
        member.restarts += 1
        member.process = await process.start(["node", str(member.home)], member.told)

    async def start_all(self) -> None:
        """Start every validator."""
        for index in range(len(self.members)):
            await self.start(index)

    def kill(self, index: int) -> None:
        """`kill -9` a validator."""
        member = self.members[index]
        member.measure()
        if member.process is not None:
            member.process.kill()
        member.phase, member.detail = "down", "killed"

    async def stop_all(self) -> None:
        """End all of them in order. Never leaves a process behind."""
        for member in self.members:
            member.measure()
        running = [m.process for m in self.members if m.process is not None and m.process.status is None]
        for one in running:
            one.terminate()
        for one in running:
            await one.stop()

    def kill_all(self) -> None:
        """End all of them at once."""
        for member in self.members:
            if member.process is not None:
                member.process.kill()

    def failed(self) -> list[Member]:
        """Those whose process ended by itself, with an error."""
        return [
            m for m in self.members if m.process is not None and m.process.status is not None and m.process.status > 0
        ]
