"""Running devnets for measurements."""

import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from lockstep.cli.session import Options, Session, run_session
from lockstep.dashboard.view import NoView
from lockstep.market.plan import Plan

Steer = Callable[[Session], Coroutine[Any, Any, None]]


def measure(
    rate: int, seconds: float, warm_up: float = 5.0, steer: Steer | None = None, home: Path | None = None
) -> dict[str, Any]:
    """The result of a devnet of four validators with bundles of at most 256 and fsync; raises when roots differ."""
    plan = Plan(rate=rate, seconds=seconds, warm_up=warm_up, bundle=256)
    with NoView() as view:
        result = run_session(Options(home=home), plan, view, steer)
    if not result["roots_agree"] or result["violations"]:
        raise AssertionError(f"the measurement is worthless: {result['disagreements']} {result['violations']}")
    return result


def say(text: str) -> None:
    """What is being done, on standard error."""
    sys.stderr.write(f"  {text}\n")
    sys.stderr.flush()
