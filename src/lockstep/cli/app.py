"""All commands, by name."""

import typer

from lockstep import __version__
from lockstep.cli import (
    bench,
    chaos,
    devnet,
    diff,
    fate,
    fetch,
    init,
    light,
    market,
    node,
    rollback,
    simulate,
    snapshot,
    status,
    stream,
    validators,
)

app = typer.Typer(
    help="A derivatives venue whose whole state is kept identical on independent nodes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    """A derivatives venue whose whole state is kept identical on independent nodes."""
    if version:
        print(__version__)
        raise typer.Exit


app.command("devnet")(devnet.devnet)
app.add_typer(init.app, name="init")
app.command("node")(node.node)
app.command("market")(market.market)
app.command("status")(status.status)
app.command("fate")(fate.fate)
app.command("stream")(stream.stream)
app.command("trust")(light.trust)
app.command("light")(light.light)
app.command("fetch")(fetch.fetch)
app.command("diff")(diff.diff)
app.command("rollback")(rollback.rollback)
app.add_typer(snapshot.app, name="snapshot")
app.add_typer(validators.app, name="validators")
app.add_typer(simulate.app, name="simulate")
app.command("chaos")(chaos.chaos)
app.command("bench")(bench.bench)
