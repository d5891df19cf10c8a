"""A smaller fault schedule that still fails: delta debugging (Zeller and Hildebrandt, 2002) over the plan's faults."""

from collections.abc import Callable
from typing import Final

from lockstep.simulator.plan import Plan
from lockstep.simulator.run import Run

RUNS_MAX: Final = 80


def shrink(plan: Plan, tell: Callable[[str], None]) -> list[int]:
    """Places in `plan.faults` of a small subset with which some checker that failed before still fails.

    Raises `ValueError` when the plan does not fail at all.
    """
    wanted = _failed(plan)
    if not wanted:
        raise ValueError("this seed does not fail: there is nothing to shrink")
    kept = list(range(len(plan.faults)))
    runs, pieces = 0, 2
    if _failed(plan.without(frozenset(kept))) & wanted:
        return []
    while len(kept) >= 2 and runs < RUNS_MAX:
        size = -(-len(kept) // pieces)
        for start in range(0, len(kept), size):
            left = kept[:start] + kept[start + size :]
            runs += 1
            out = frozenset(range(len(plan.faults))) - frozenset(left)
            if _failed(plan.without(out)) & wanted:
                kept, pieces = left, max(2, pieces - 1)
                tell(f"{len(kept)} of {len(plan.faults)} faults still fail ({runs} runs)")
                break
        else:
            if pieces >= len(kept):
                break
            pieces = min(len(kept), 2 * pieces)
    return kept


def _failed(plan: Plan) -> frozenset[str]:
    return frozenset(violation.name for violation in Run(plan).execute().violations)
