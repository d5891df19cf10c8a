"""`lockstep light`: a light client; and `lockstep trust`: the line that it begins from."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from lockstep.base.errors import ConfigurationError
from lockstep.cli import Exit
from lockstep.cli.target import home_of
from lockstep.sync.light_rule import DAY_MS, Rule
from lockstep.sync.light_state import LightState, decode_light_state
from lockstep.sync.light_trust import TrustRoot, genesis_trust, parse_trust
from lockstep.wire.genesis import load_genesis

Json = Annotated[bool, typer.Option("--json", help="Print JSON objects, one a line.")]


def trust(
    home: Annotated[Path, typer.Option(help="A node's home, or a network's folder (its first validator).")],
    genesis_line: Annotated[bool, typer.Option("--genesis-line", help="The line of the chain's beginning.")] = False,
    json_: Json = False,
) -> None:
    """Print the line that a light client begins from: chain id, height, hash of the set that decides after that height.
    It is that of the home's newest checkpoint, whose certificate is checked; of genesis before there is one."""
    path = home_of(home)
    genesis = load_genesis(path / "genesis.json")
    if genesis_line:
        root = genesis_trust(genesis)
    else:
        from lockstep.runtime.stored_checkpoint import newest_trust  # here: it needs NumPy and Numba

        root = newest_trust(path, genesis)
    if json_:
        found = {"chain_id": root.chain_id.hex(), "height": root.height, "validators": root.validators_hash.hex()}
        print(json.dumps({"trust": root.line()} | found))
    else:
        print(root.line())


def light(
    query: Annotated[
        list[str] | None,
        typer.Argument(help="account N | position N INSTRUMENT | order ID | price INSTRUMENT | outcome DIGEST"),
    ] = None,
    node: Annotated[str, typer.Option(help="The node to ask, host:port of its client port.")] = "",
    trust_: Annotated[str | None, typer.Option("--trust", help="The trust line (see lockstep trust).")] = None,
    witness: Annotated[list[str] | None, typer.Option(help="Another node to compare with; may be repeated.")] = None,
    state: Annotated[Path | None, typer.Option(help="File that remembers the newest trusted header.")] = None,
    period_days: Annotated[float, typer.Option(help="Trusting period; below the unbonding time.")] = 14.0,
    seconds: Annotated[float, typer.Option(help="Follow for so long; 0: until interrupted.")] = 0.0,
    evidence: Annotated[Path, typer.Option(help="Where to write the proof of a fork.")] = Path("fork.bin"),
    json_: Json = False,
) -> None:
    """Follow a network from one line of trust. Everything shown is proven. With a query: answer it and stop. Without
    one: follow, and answer queries from standard input, one a line. Exit code 1 on a fork, or when no node is left."""
    if not node:
        raise ConfigurationError("name a node with --node HOST:PORT")
    start = _start(state, trust_)
    from lockstep.cli.light_query import parse_words  # here: proofs need NumPy and Numba, other commands don't
    from lockstep.cli.light_session import Session
    from lockstep.sync.light_client import LightClient

    asked = parse_words(query) if query else None
    sources = [node, *(witness or [])]
    client = LightClient(start, len(sources), Rule(period_ms=int(period_days * DAY_MS)))
    session = Session(client, sources, state, evidence, is_json=json_)
    try:
        asyncio.run(session.run((lambda: session.answer(asked)) if asked else (lambda: session.live(seconds))))
    except KeyboardInterrupt:
        raise typer.Exit(Exit.OK) from None


def _start(state: Path | None, line: str | None) -> TrustRoot | LightState:
    root = None if line is None else parse_trust(line)
    if state is not None and state.is_file():
        stored = decode_light_state(state.read_bytes())
        if root is not None and root.chain_id != stored.validators.chain_id:
            raise ConfigurationError(f"{state} is about another chain than the trust line")
        if root is None or root.height <= stored.height:
            return stored
    if root is None:
        raise ConfigurationError("give a trust line with --trust (lockstep trust --home HOME prints it)")
    return root
