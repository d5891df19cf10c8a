"""One validator of four dies for good: what is left of throughput, and what becomes of finality.

Throughput is compared at full load; delays at 1,000 commands/s, because at full load the delay is the window of
commands on their way divided by the throughput, which says nothing new. Each pair comes from one run.
"""

import asyncio
from typing import Any, Final

from lockstep.cli.benches.sessions import Steer, measure, say
from lockstep.cli.session import Session

_WINDOW_SECONDS: Final = 12.0
_SETTLE_SECONDS: Final = 3.0
_VICTIM: Final = 3


def _kill_for_good(window: float) -> Steer:
    async def steer(session: Session) -> None:
        await session.measuring.wait()
        await asyncio.sleep(window)
        session.window("dying")
        session.fleet.kill(_VICTIM)
        await asyncio.sleep(_SETTLE_SECONDS)
        session.window("dead")
        await asyncio.sleep(window)
        session.stop()

    return steer


def _healthy_and_dead(rate: int, window: float) -> tuple[dict[str, Any], dict[str, Any]]:
    result = measure(rate=rate, seconds=10 * window, steer=_kill_for_good(window))
    windows = {entry["name"]: entry for entry in result["windows"]}
    return windows["run"], windows["dead"]


def dead_validator(window: float = _WINDOW_SECONDS) -> dict[str, Any]:
    """Throughput with a dead validator as a share of the healthy one; p50 ratio in the detail."""
    say("at full load")
    healthy, dead = _healthy_and_dead(0, window)
    say("at 1,000 commands/s")
    healthy_calm, dead_calm = _healthy_and_dead(1_000, window)
    return {
        "value": round(dead["commands_per_second"] / healthy["commands_per_second"], 3),
        "unit": "of healthy",
        "detail": {
            "p50_ratio": round(dead_calm["finality_ms"]["p50"] / healthy_calm["finality_ms"]["p50"], 3),
            "commands_per_second": [healthy["commands_per_second"], dead["commands_per_second"]],
            "finality_ms_at_1000_per_second": [healthy_calm["finality_ms"], dead_calm["finality_ms"]],
            "finality_ms_at_full_load": [healthy["finality_ms"], dead["finality_ms"]],
        },
    }
