"""Commands that `lockstep devnet` starts as processes of their own; not for people."""

import msgspec
import typer

from lockstep.cli import kernels
from lockstep.cli.parent import die_with
from lockstep.market.plan import Plan


def drive(
    plan: str = typer.Argument(help="A `market.plan.Plan` as JSON."),
    parent: int = typer.Option(0, help="Die with this process."),
) -> None:
    """Trade on a network and measure it; reports on standard output, one JSON object a line."""
    die_with(parent)
    from lockstep.market.driver import drive as run_driver  # here: other commands need none of it

    raise typer.Exit(run_driver(msgspec.json.decode(plan, type=Plan)))


def warm(parent: int = typer.Option(0, help="Die with this process.")) -> None:
    """Compile the kernels."""
    die_with(parent)
    kernels.compile_all()
