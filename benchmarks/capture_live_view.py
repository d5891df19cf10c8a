"""Makes docs/live-view.svg: a picture of the live view of a real run, taken in its middle.

    python benchmarks/capture_live_view.py [OUTPUT]

Four validators, the seeded market at 20,000 commands/s, one validator killed and started again on the way.
"""

import asyncio
import copy
import io
import re
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console

from lockstep.cli.session import Options, Session, run_session
from lockstep.dashboard.render import render
from lockstep.dashboard.screen import Event, Screen
from lockstep.market.plan import Plan

_WIDTH = 110


class Camera:
    """A view that keeps the newest screen."""

    def __init__(self) -> None:
        self.screen = Screen("lockstep")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, screen: Screen) -> None:
        """Keep a copy."""
        self.screen = copy.deepcopy(screen)

    def event(self, event: Event) -> None:
        """On the screen already."""


def capture(output: Path) -> None:
    """Run, and write the picture of the screen as it was when everybody was live again after the kill."""
    camera = Camera()
    pictures: list[Screen] = []

    async def steer(session: Session) -> None:
        await session.measuring.wait()
        await asyncio.sleep(6)
        session.fleet.kill(2)
        session.event("validator-2 killed (SIGKILL)")
        await asyncio.sleep(1)
        await session.fleet.start(2)
        session.event("validator-2 started again")
        for _ in range(300):
            await asyncio.sleep(0.1)
            if all(row.state == "live" for row in camera.screen.validators):
                break
        await asyncio.sleep(3)
        pictures.append(camera.screen)
        session.stop()

    run_session(Options(), Plan(rate=20_000, seconds=120.0), camera, steer)
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(render(pictures[0]))
    picture = console.export_svg(title="lockstep devnet --rate 20000")
    output.write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL))  # no fonts from elsewhere


if __name__ == "__main__":
    capture(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/live-view.svg"))
