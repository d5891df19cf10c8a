"""`lockstep market`: the simulated market, on a network that runs elsewhere."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lockstep.cli.devnet import print_summary, verdict
from lockstep.cli.session import Options, run_session
from lockstep.dashboard.view import make_view
from lockstep.market.plan import Plan
from lockstep.wire.genesis import load_genesis


def market(
    genesis: Annotated[Path, typer.Option(help="The network's genesis.json.")],
    feed_key: Annotated[Path, typer.Option(help="The private key of its price feed.")],
    seconds: Annotated[float | None, typer.Option(help="How long to measure; until Ctrl-C if left out.")] = None,
    rate: Annotated[int, typer.Option(help="Commands a second offered; 0: as fast as they are accepted.")] = 5_000,
    bundle: Annotated[int, typer.Option(help="Commands a bundle at most (fewer at low rates).")] = 256,
    seed: Annotated[int, typer.Option(help="The seed that the genesis was made with.")] = 1,
    instruments: Annotated[str, typer.Option(help="Those that the genesis was made with.")] = "",
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object last on standard output.")] = False,
) -> None:
    """Trade on all validators of a genesis, report prices to them, and watch. One such market at a time."""
    plan = Plan(
        genesis=str(genesis), feed_key=str(feed_key), seed=seed, rate=rate, bundle=bundle, seconds=seconds,
        instruments=instruments,
    )  # fmt: skip
    options = Options(validators=len(load_genesis(genesis).validators))
    with make_view(json_) as view:
        result = run_session(options, plan, view)
    if json_:
        print(json.dumps(result))
    else:
        print_summary(result)
    raise typer.Exit(verdict(result))
