"""What a devnet starts as processes of its own, without the command line around it.

Importing Typer, Rich and all commands takes half a second of processor time. Five processes that start at once on two
cores would spend more than a second on what none of them uses.

    python -m lockstep.cli.bare PARENT node HOME | drive PLAN | warm

Each dies with the process PARENT (0: with nobody). PLAN is a `market.plan.Plan` as JSON.
"""

import sys

from lockstep.cli import Exit, reported
from lockstep.cli.parent import die_with


def bare(parent: str, task: str, *argument: str) -> int:
    """Carry out a task; returns the exit status."""
    die_with(int(parent))
    match task, argument:
        case "node", (home,):
            from pathlib import Path

            from lockstep.runtime.node import run_node

            return run_node(Path(home))
        case "drive", (plan,):
            import msgspec

            from lockstep.market.driver import drive
            from lockstep.market.plan import Plan

            return drive(msgspec.json.decode(plan, type=Plan))
        case "warm", ():
            from lockstep.cli.kernels import compile_all

            compile_all()
            return Exit.OK
        case _:
            raise ValueError(f"no such task: {task} {argument}")


if __name__ == "__main__":
    with reported():
        sys.exit(bare(*sys.argv[1:]))
