"""`lockstep rollback`: take a stopped home back to an earlier certified height."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from lockstep.base.errors import ConfigurationError


def rollback(
    home: Annotated[Path, typer.Option(help="The home of a node that is not running.")],
    height: Annotated[int | None, typer.Option(help="Go back to this height.", min=1)] = None,
    blocks: Annotated[int | None, typer.Option(help="Go back by so many blocks.", min=1)] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Go back to a certified height: the state is made again from a kept checkpoint, and compared with the certificate.
    The node's own votes are not forgotten; what is above is fetched again by its next run."""
    from lockstep.runtime.home import load_home, lock_home
    from lockstep.runtime.rollback import roll_back

    if (height is None) == (blocks is None):
        raise ConfigurationError("say where to: --height H or --blocks N")
    loaded = load_home(home)
    lock = lock_home(loaded)
    try:
        done = roll_back(loaded, height, blocks)
    finally:
        os.close(lock)
    found: dict[str, Any] = {
        "home": str(home), "head": done.head, "height": done.height, "base": done.base, "executed": done.executed,
        "votes_kept": done.votes, "highest_view": done.highest_view, "state_root": done.state_root.hex(),
    }  # fmt: skip
    if json_:
        print(json.dumps(found))
        return
    print(f"{home}: back from height {done.head:,} to {done.height:,}, state root {found['state_root']}")
    begun = f"the checkpoint of height {done.base:,}" if done.base else "genesis"
    print(f"  made from {begun} by executing {done.executed:,} blocks; it is the one that a quorum signed")
    kept = f"{done.votes:,} own votes above it still bind, up to view {done.highest_view:,}"
    print(f"  {kept if done.votes else 'there are no own votes above it'}")
    print(f"  the next run fetches what is above: lockstep node --home {home}")
