"""The simulator's speed: four replicas with the real engine, one core, no faults.

Busy: 48 clients, each with a bundle on its way nearly all the time, on a LAN. Light: a bundle a second in all, and the
default timing of a network. An event is what the world takes from its heap: a message that arrives, a timer, a finished
sync or execution, something that a client does. CPU time of the one thread is counted, for the machine is shared.
"""

import time
from dataclasses import replace
from typing import Any, Final

from lockstep.simulator.machine import Machine
from lockstep.simulator.plan import SECOND, Plan, draw_plan
from lockstep.simulator.run import Run

_BUSY_SECONDS: Final = 10
_LIGHT_SECONDS: Final = 60
_WARM_SECONDS: Final = 2


def simulator_speed() -> dict[str, Any]:
    """Events per second when busy; real time over CPU time when light."""
    quiet = replace(
        draw_plan(1, "lan", 4, 10), stakes=(1, 1, 1, 1), faults=(), faulty=(), left_out=(), behaviours={},
        bytes_per_second=0, streams=True, machines=(Machine(1 << 20, (300, 600)),) * 4, checkpoint_interval=512,
    )  # fmt: skip
    busy = _measure(replace(quiet, traders=48, pause_us=(1_000, 10_000)), _BUSY_SECONDS)
    light = _measure(
        replace(quiet, delta_ms=250, idle_block_ms=200, traders=4, pause_us=(4_000_000, 4_000_001)), _LIGHT_SECONDS
    )
    detail = {
        "times_real_time": light["times_real_time"],
        "busy": busy,
        "light": light,
        "signatures": "remembered within the process: each is checked once, not by every replica",
    }
    return {"value": busy["events_per_second"], "unit": "events/s", "detail": detail}


def _measure(plan: Plan, seconds: int) -> dict[str, float]:
    run = Run(plan)
    world = run.world
    world.start()
    run.traders.begin()
    world.run(_WARM_SECONDS * SECOND)
    events, began = world.events, time.thread_time()
    world.run(seconds * SECOND)
    spent = time.thread_time() - began
    return {
        "events": world.events - events,
        "events_per_second": round((world.events - events) / spent),
        "times_real_time": round(seconds / spent, 1),
        "blocks": world.nodes[0].replica.final.height,
        "bundles_answered": len(world.history.acknowledged),
    }
