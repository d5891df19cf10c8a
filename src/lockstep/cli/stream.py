"""`lockstep stream`: what several nodes tell, merged: no effect before its cause, nothing twice, gaps named."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lockstep.base.errors import ConfigurationError
from lockstep.cli import Exit
from lockstep.cli.target import GenesisOption

if TYPE_CHECKING:
    from lockstep.cli.stream_printer import Printer
    from lockstep.gateway.stream import EventStream


def stream(
    node: Annotated[list[str], typer.Option(help="A node's client address, host:port; repeat for several.")],
    account: Annotated[list[int] | None, typer.Option(help="Only what concerns this account; may be repeated.")] = None,
    from_: Annotated[int | None, typer.Option("--from", help="First height; without it, from now on.", min=1)] = None,
    token: Annotated[str, typer.Option(help="Go on after this token, as an earlier run printed it.")] = "",
    genesis: GenesisOption = None,
    home: Annotated[Path | None, typer.Option(help="A home of this network, in place of its genesis.json.")] = None,
    seconds: Annotated[float, typer.Option(help="Stop after so long; 0: never.")] = 0.0,
    blocks: Annotated[int, typer.Option(help="Stop after so many final blocks; 0: never.")] = 0,
    patience: Annotated[float, typer.Option(help="Seconds to wait for a node that is away.", min=0.1)] = 2.0,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON objects, one a line.")] = False,
) -> None:
    """Follow several nodes as one stream: final blocks with their events, and what each node says by itself (bundles
    taken, expired, rejected; its state). With a genesis, nodes must show their validators' certificates; without one,
    whoever answers is believed as far as the others agree. Exit code 1 when two nodes tell different final blocks."""
    from lockstep.cli.stream_printer import Printer, parse_token
    from lockstep.cli.trusted import addresses, genesis_file
    from lockstep.gateway.stream import EventStream

    if token and from_ is not None:
        raise ConfigurationError("give --from or --token, not both")
    height, clock = parse_token(token) if token else (from_, ())
    accounts = tuple(account or ())
    followed = EventStream(addresses(node, genesis_file(genesis, home)), height, clock, accounts, patience)
    printer = Printer(followed, accounts, is_json=json_)
    try:
        asyncio.run(_follow(followed, printer, seconds, blocks))
    except KeyboardInterrupt:
        pass
    finally:
        printer.end()
    if followed.merger is None:
        raise OSError("none of the nodes could be reached: are they running?")
    raise typer.Exit(Exit.FAILED if printer.has_diverged else Exit.OK)


async def _follow(followed: "EventStream", printer: "Printer", seconds: float, blocks: int) -> None:
    async def take() -> None:
        async for output in followed.outputs():
            printer.show(output)
            if printer.has_diverged or (blocks and printer.blocks >= blocks):
                return

    try:
        async with asyncio.timeout(seconds or None):
            await take()
    except TimeoutError:
        return
