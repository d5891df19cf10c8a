"""`lockstep fetch`: some tables of the state, or rows of them, from running nodes, proven."""

import asyncio
import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from lockstep.base.errors import ConfigurationError
from lockstep.cli import Exit
from lockstep.cli.target import GenesisOption

if TYPE_CHECKING:
    from lockstep.gateway.state_fetch import FetchProgress
    from lockstep.gateway.stream import NodeAddress
    from lockstep.ledger.partial import Part, Rows
    from lockstep.sync.light_trust import TrustRoot

_TABLE: Final = re.compile(r"([a-z][a-z0-9_]*)(?::(\d+)(?:-(\d*))?)?")


def fetch(
    out: Annotated[Path, typer.Option(help="The folder. What is there is gone on with, or brought up to date.")],
    node: Annotated[list[str], typer.Option(help="Client addresses, host:port; repeat, or put commas between.")],
    table: Annotated[list[str], typer.Option(help="TABLE, TABLE:ROW or TABLE:FIRST-LAST; may be repeated.")],
    trust: Annotated[str | None, typer.Option(help="The trust line (see lockstep trust).")] = None,
    genesis: GenesisOption = None,
    home: Annotated[Path | None, typer.Option(help="A home of this network, in place of its genesis.json.")] = None,
    every: Annotated[float, typer.Option(help="Bring it up to date so often, seconds, until interrupted.")] = 0.0,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object, last.")] = False,
) -> None:
    """Fetch tables, or ranges of their rows, of the newest certified checkpoint. Every chunk is checked on arrival
    against the state root that a quorum signed, stored once, and found again after an interruption.
    `lockstep snapshot verify` checks the folder without any node."""
    from lockstep.cli.trusted import addresses, genesis_file, trust_root

    file = genesis_file(genesis, home)
    root, nodes, wanted = trust_root(trust, file), addresses(node, file), _wanted(table)
    try:
        while True:
            found = asyncio.run(_fetch(root, nodes, wanted, out, is_quiet=json_))
            print(json.dumps(found) if json_ else _describe(found), flush=True)
            if not every:
                return
            time.sleep(every)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.OK) from None


def _wanted(tables: list[str]) -> "list[Rows]":
    from lockstep.ledger.partial import Rows

    wanted: list[Rows] = []
    for text in tables:
        found = _TABLE.fullmatch(text)
        if found is None:
            raise ConfigurationError(f"{text!r} is no TABLE, TABLE:ROW or TABLE:FIRST-LAST")
        name, first, last = found.groups()
        if any(rows.table == name for rows in wanted):
            raise ConfigurationError(f"table {name} is named twice: give one range that covers both")
        if first is None:
            wanted.append(Rows(name))
        else:
            open_end = last == ""
            wanted.append(Rows(name, int(first), None if open_end else int(last if last is not None else first)))
    return wanted


async def _fetch(
    root: "TrustRoot", nodes: "list[NodeAddress]", wanted: "list[Rows]", out: Path, *, is_quiet: bool
) -> dict[str, Any]:
    from lockstep.cli.trusted import validators_now
    from lockstep.gateway.state_fetch import StateFetch
    from lockstep.ledger import partial
    from lockstep.runtime.import_state import write_offer

    began, told_at = time.monotonic(), 0.0

    def told(progress: "FetchProgress") -> None:
        nonlocal told_at
        if not is_quiet and time.monotonic() - told_at > 1.0:
            told_at = time.monotonic()
            print(_progress(progress), file=sys.stderr)

    validators = await validators_now(root, nodes)
    partial.reopen(out)
    effort = StateFetch(validators, nodes, wanted, out, told)
    target, parts = await effort.run()
    write_offer(out, target.offer)
    partial.finish(out, target.offer.manifest, target.header.height, parts)
    return {
        "directory": str(out), "height": target.header.height, "state_root": target.certificate.state_root.hex(),
        "signers": int.from_bytes(target.certificate.signers, "little").bit_count(),
        "parts": [_part(file.part) for file, _ in parts],
        "bytes_fetched": effort.bytes_fetched, "seconds": round(time.monotonic() - began, 3),
        "nodes": [{"name": name, "score": score, "barred": barred} for name, score, barred in effort.nodes],
    }  # fmt: skip


def _part(part: "Part") -> dict[str, Any]:
    return {"table": part.table, "first_chunk": part.first, "end_chunk": part.end}


def _progress(progress: "FetchProgress") -> str:
    lies = "".join(f"; {name} lied: {barred}" for name, _, barred in progress.nodes if barred)
    return (
        f"height {progress.height:,}: {progress.done >> 10:,} of {progress.known >> 10:,} KiB known to differ, "
        f"{progress.per_second / 2**20:.1f} MiB/s{lies}"
    )


def _describe(found: dict[str, Any]) -> str:
    lines = [
        f"{found['directory']}: at height {found['height']:,}, state root {found['state_root']}, signed by "
        f"{found['signers']} validators; {found['bytes_fetched']:,} bytes fetched in {found['seconds']} s"
    ]
    lines += [f"  {p['table']}: chunks {p['first_chunk']} to {p['end_chunk'] - 1}" for p in found["parts"]]
    lines += [f"  {n['name']} lied: {n['barred']}" for n in found["nodes"] if n["barred"]]
    lines.append(f"check it with: lockstep snapshot verify {found['directory']}")
    return "\n".join(lines)
