"""`lockstep fate`: what became of a bundle."""

import json
from typing import Annotated

import typer

from lockstep.base.digest import DIGEST_BYTES
from lockstep.base.errors import ConfigurationError
from lockstep.cli.target import AddressOption, GenesisOption, HomeOption, ask, find_target
from lockstep.market.observer import count_outcomes


def fate(
    digest: Annotated[str, typer.Argument(help="The bundle's digest, 64 hex digits.")],
    home: HomeOption = None,
    address: AddressOption = None,
    genesis: GenesisOption = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Ask a node for a bundle's one fate: pending, final, expired, rejected or unknown."""
    try:
        raw = bytes.fromhex(digest)
    except ValueError:
        raw = b""
    if len(raw) != DIGEST_BYTES:
        raise ConfigurationError(f"a bundle's digest has {2 * DIGEST_BYTES} hex digits, this is {digest!r}")
    reply = ask(find_target(home, address, genesis), lambda client: client.fate(raw))
    outcomes = dict(count_outcomes(reply.outcomes))
    if json_:
        print(
            json.dumps(
                {
                    "digest": digest, "status": reply.status, "height": reply.height, "index": reply.index,
                    "reason": reply.reason, "outcomes": outcomes, "records": reply.outcomes.hex(),
                }
            )
        )  # fmt: skip
        return
    where = f" at height {reply.height:,}, place {reply.index}" if reply.status == "final" else ""
    print(f"{reply.status}{where}{f': {reply.reason}' if reply.reason else ''}")
    for name, count in outcomes.items():
        print(f"  {count:5,}  {name}")
