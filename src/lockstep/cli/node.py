"""`lockstep node`: run one node."""

from pathlib import Path
from typing import Annotated

import typer


def node(
    home: Annotated[Path, typer.Option(help="The node's home, made by `lockstep init`.")],
) -> None:
    """Run the node whose home this is, until Ctrl-C or SIGTERM. Progress goes to standard output as JSON lines."""
    from lockstep.runtime.node import run_node  # here: it loads Numba, which other commands don't need

    raise typer.Exit(run_node(home))
