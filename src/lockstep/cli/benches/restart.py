"""How long a killed validator with a long log takes until it votes again.

Of four validators one is dead for good, so that no block can become final without the vote of the one that is
killed and restarted: its first new final block is the proof that it voted. Time counts from starting its process.
"""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from lockstep.cli.benches.long_log import write_long_log
from lockstep.cli.benches.sessions import measure, say
from lockstep.cli.session import Options, Session, open_network
from lockstep.market.plan import Plan

BLOCKS: Final = 100_000
_RATE: Final = 1_000
_DEAD: Final = 3
_RESTARTED: Final = 2
_GIVE_UP_SECONDS: Final = 60.0


def restart(blocks: int = BLOCKS) -> dict[str, Any]:
    """Seconds from the start of the process to its vote on a new block."""
    measured: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="lockstep-restart-") as folder:
        home = Path(folder) / "network"
        plan = Plan(rate=_RATE)
        homes = open_network(home, Options(), plan)
        measured.update(write_long_log(homes, plan.cast(), blocks))

        async def steer(session: Session) -> None:
            await session.measuring.wait()
            await asyncio.sleep(3)
            session.fleet.kill(_DEAD)
            await asyncio.sleep(3)
            session.fleet.kill(_RESTARTED)
            await asyncio.sleep(1)
            measured["seconds"] = await _restart(session)
            measured["final_height"] = session.screen.final_height
            session.stop()

        say("network starts on the long log")
        result = measure(rate=_RATE, seconds=10 * _GIVE_UP_SECONDS, warm_up=1.0, steer=steer, home=home)
    measured["heights_compared"] = result["heights_compared"]
    return {"value": measured.pop("seconds"), "unit": "s", "detail": measured}


async def _restart(session: Session) -> float:
    """Start the killed validator; returns the seconds until a new block is final at it."""
    member = session.fleet.members[_RESTARTED]
    began = time.monotonic()
    await session.fleet.start(_RESTARTED)
    while member.phase != "live":
        if time.monotonic() - began > _GIVE_UP_SECONDS or not member.is_running:
            raise AssertionError(f"{member.name} does not vote again: {member.phase} {member.detail}")
        await asyncio.sleep(0.005)
    return round(time.monotonic() - began, 2)
