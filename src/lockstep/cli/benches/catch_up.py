"""A validator comes back after missing 10,000 blocks, while the others work under full load.

Its home is emptied, so that it has everything to catch up with. Time counts from the start of its process until it is
live within a few blocks of the head; then another validator is killed, and a further final block proves that it votes.
"""

import asyncio
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from lockstep.base.errors import LockstepError
from lockstep.cli.benches.long_log import write_long_log
from lockstep.cli.benches.sessions import measure, say
from lockstep.cli.session import Options, Session, open_network
from lockstep.market.plan import Plan

MISSED: Final = 10_000
_BACK: Final = 3
_KILLED: Final = 2
_NEAR_BLOCKS: Final = 8
_GIVE_UP_SECONDS: Final = 120.0


def catch_up(missed: int = MISSED) -> dict[str, Any]:
    """How many times faster than the network makes blocks."""
    measured: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="lockstep-catch-up-") as folder:
        home = Path(folder) / "network"
        plan = Plan(rate=0)
        homes = open_network(home, Options(), plan)
        write_long_log(homes, plan.cast(), missed)

        async def steer(session: Session) -> None:
            await session.measuring.wait()
            session.fleet.kill(_BACK)
            for part in (homes[_BACK].log, homes[_BACK].checkpoints, homes[_BACK].history):
                shutil.rmtree(part)
            await asyncio.sleep(2)
            measured.update(await _return(session))
            lines = (homes[_BACK].path / "node.log").read_text().splitlines()
            measured["notes"] = [line for line in lines if " state " in line]
            session.fleet.kill(_KILLED)
            height, began = session.screen.final_height, time.monotonic()
            while session.screen.final_height < height + 3:
                _patience(began, "nothing becomes final without the killed one: the other does not vote")
                await asyncio.sleep(0.02)
            measured["votes_after_seconds"] = round(time.monotonic() - began, 2)
            session.stop()

        say("network starts on the long log")
        result = measure(rate=0, seconds=10 * _GIVE_UP_SECONDS, warm_up=2.0, steer=steer, home=home)
    measured["heights_compared"] = result["heights_compared"]
    return {"value": measured.pop("ratio"), "unit": "of the network's block rate", "detail": measured}


async def _return(session: Session) -> dict[str, Any]:
    """Start it; what it took until it is at the head."""
    first, began = session.screen.final_height, time.monotonic()
    await session.fleet.start(_BACK)
    while True:
        row, head = session.screen.validators[_BACK], session.screen.final_height
        if row.state == "live" and row.final_height >= head - _NEAR_BLOCKS:
            break
        _patience(began, f"validator {_BACK} is {row.state} at {row.final_height} of {head}")
        await asyncio.sleep(0.02)
    seconds = time.monotonic() - began
    network = (head - first) / seconds
    return {
        "seconds": round(seconds, 2), "caught_up_blocks": head, "network_blocks_per_second": round(network, 1),
        "blocks_per_second": round(head / seconds, 1), "ratio": round(head / seconds / max(network, 1e-9), 1),
    }  # fmt: skip


def _patience(began: float, what: str) -> None:
    if time.monotonic() - began > _GIVE_UP_SECONDS:
        raise LockstepError(what)
