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
    trust: Annotated[str | None, typer.Option(help="The trust line that all that is shown must lead to.")] = None,
    home: Annotated[Path | None, typer.Option(help="A home of this network, in place of its genesis.json.")] = None,
    seconds: Annotated[float, typer.Option(help="Stop after so long; 0: never.")] = 0.0,
    blocks: Annotated[int, typer.Option(help="Stop after so many final blocks; 0: never.")] = 0,
    patience: Annotated[float, typer.Option(help="Seconds to wait for a node that is away.", min=0.1)] = 2.0,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON objects, one a line.")] = False,
) -> None:
    """Follow several nodes as one stream: final blocks with their events, and what each node says by itself (bundles
    taken, expired, rejected; its state). With a genesis or a trust line, final blocks are shown when a quorum's
    signatures hold, and a node that shows others is named and dropped; with neither, nodes are believed as far as they
    agree. Exit code 1 when a node was dropped, or two nodes tell different final blocks."""
    from lockstep.cli.stream_printer import Printer, parse_token
    from lockstep.cli.trusted import addresses, genesis_file, trust_root
    from lockstep.gateway.stream import EventStream

    if token and from_ is not None:
        raise ConfigurationError("give --from or --token, not both")
    height, clock = parse_token(token) if token else (from_, ())
    accounts = tuple(account or ())
    file = genesis_file(genesis, home)
    root = None if trust is None and file is None else trust_root(trust, file)
    followed = EventStream(addresses(node, file), height, clock, accounts, patience, root)
    printer = Printer(followed, accounts, is_json=json_)
    try:
        asyncio.run(_follow(followed, printer, seconds, blocks))
    except KeyboardInterrupt:
        pass
    finally:
        printer.end()
    if followed.merger is None:
        raise OSError("none of the nodes could be reached: are they running?")
    raise typer.Exit(Exit.FAILED if printer.has_diverged or printer.refuted else Exit.OK)


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
