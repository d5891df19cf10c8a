"""The simulator's speed: four replicas with the real engine, one core, no faults.

Busy: 48 clients, each with a bundle on its way nearly all the time, on a LAN. Light: a bundle a second in all, and the
default timing of a network. An event is what the world takes from its heap: a message that arrives, a timer, a finished
sync or execution, something that a client does. CPU time of the one thread is counted, for the machine is shared.
"""

import sys
import time
from dataclasses import replace
from types import FrameType
from typing import Any, Final

from lockstep.simulator.machine import Machine
from lockstep.simulator.plan import SECOND, Plan, draw_plan
from lockstep.simulator.run import Run

_BUSY_SECONDS: Final = 10
_LIGHT_SECONDS: Final = 60
_WARM_SECONDS: Final = 2
_WORK_SECONDS: Final = 4


def simulator_speed() -> dict[str, Any]:
    """Events per second when busy; real time over CPU time when light."""
    quiet = replace(
        draw_plan(1, "lan", 4, 10), stakes=(1, 1, 1, 1), faults=(), faulty=(), left_out=(), behaviours={},
        bytes_per_second=0, streams=True, machines=(Machine(1 << 20, (300, 600)),) * 4, checkpoint_interval=512,
    )  # fmt: skip
    busy = _measure(replace(quiet, traders=48, pause_us=(1_000, 10_000)), _BUSY_SECONDS)
    quiet_light = replace(quiet, delta_ms=250, idle_block_ms=200, traders=4, pause_us=(4_000_000, 4_000_001))
    light = _measure(quiet_light, _LIGHT_SECONDS)
    bytecodes, calls = _work(quiet_light)
    detail = {
        "light_bytecodes_per_event": bytecodes,
        "light_python_calls_per_event": calls,
        "times_real_time": light["times_real_time"],
        "busy": busy,
        "light": light,
        "signatures": "remembered within the process: each is checked once, not by every replica",
    }
    return {"value": busy["events_per_second"], "unit": "events/s", "detail": detail}


def _started(plan: Plan) -> Run:
    run = Run(plan)
    run.world.start()
    run.traders.begin()
    run.world.run(_WARM_SECONDS * SECOND)
    return run


def _work(plan: Plan) -> tuple[float, float]:
    """Bytecodes and Python calls an event: the same at every run, whatever the machine does meanwhile."""
    world = _started(plan).world
    bytecodes = calls = 0

    def within(frame: FrameType, event: str, _: object) -> Any:
        nonlocal bytecodes
        bytecodes += event == "opcode"
        return within

    def called(frame: FrameType, event: str, _: object) -> Any:
        nonlocal calls
        calls += 1
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return within

    before, events = sys.gettrace(), world.events
    sys.settrace(called)
    try:
        world.run(_WORK_SECONDS * SECOND)
    finally:
        sys.settrace(before)
    events = world.events - events
    return round(bytecodes / events, 1), round(calls / events, 1)


def _measure(plan: Plan, seconds: int) -> dict[str, float]:
    run = _started(plan)
    world = run.world
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
