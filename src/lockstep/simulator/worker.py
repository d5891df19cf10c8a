"""A process that runs seeds for a campaign: one JSON object a line in, one a line out.

In: {"seed", "profile", "validators", "seconds"}. Out: the run's JSON, or {"seed", "crashed": text} when the simulator
itself failed, which counts as a violation.
"""

import json
import sys
import traceback
from typing import Any, TextIO

from lockstep.simulator.plan import draw_plan
from lockstep.simulator.run import Run


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """Run one seed."""
    try:
        plan = draw_plan(job["seed"], job["profile"], job["validators"], job["seconds"])
        return Run(plan).execute().as_json()
    except Exception:  # noqa: BLE001 (whatever it is, the campaign must name the seed)
        return {"seed": job["seed"], "profile": job["profile"], "crashed": traceback.format_exc()}


def serve(jobs: TextIO, answers: TextIO) -> None:
    """Until the input ends."""
    for line in jobs:
        answers.write(json.dumps(answer(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
