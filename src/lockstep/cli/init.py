"""`lockstep init`: keys, a genesis, homes. No private key ever leaves the machine that it was made on."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from lockstep.base.errors import ConfigurationError
from lockstep.base.keys import PUBLIC_KEY_BYTES
from lockstep.cli.session import Options, open_network
from lockstep.market.cast import BRIDGE, FEES, INSURANCE, genesis_accounts, traders
from lockstep.market.listings import choose
from lockstep.market.plan import Plan
from lockstep.node.retention import KEEP_BLOCKS, KEEP_DAYS
from lockstep.runtime.home import write_key
from lockstep.runtime.network import (
    FEED_KEY_FILE,
    IDENTITY_FILE,
    join_network,
    make_identity,
    make_observer,
    new_key,
    read_identities,
)
from lockstep.wire.genesis import Account, Genesis, check_genesis, load_genesis

app = typer.Typer(help="Make keys, a genesis and homes.", no_args_is_help=True)


@app.command("network")
def network(
    directory: Annotated[Path, typer.Argument(help="Where to make the homes.")],
    validators: Annotated[int, typer.Option(help="How many.")] = 4,
    seed: Annotated[int, typer.Option(help="Seed of the simulated traders' keys.")] = 1,
    instruments: Annotated[str, typer.Option(help="Names, separated by commas; all if left out.")] = "",
) -> None:
    """A whole network on this machine: homes validator-0, validator-1, … and the key of its price feed."""
    plan = Plan(seed=seed, instruments=instruments)
    plan.check()
    if (directory / "validator-0").exists():
        raise ConfigurationError(f"{directory} holds a network already")
    for home in open_network(directory, Options(validators), plan):
        print(f"{home.path}  peers {home.config.peer_listen}  clients {home.config.client_listen}")
    print(f"run each with: lockstep node --home {directory}/validator-0")


@app.command("key")
def key(
    home: Annotated[Path, typer.Argument(help="The new home.")],
    name: Annotated[str, typer.Option(help="The validator's name.")],
    peers: Annotated[str, typer.Option(help="host:port at which other validators reach it.")],
    clients: Annotated[str, typer.Option(help="host:port at which clients reach it.")],
    stake: Annotated[int, typer.Option(help="Its stake.")] = 1,
) -> None:
    """A validator's key, and the public file that goes to whoever makes the genesis."""
    path = make_identity(home, name, peers, clients, stake)
    print(f"{path}: send this file to whoever makes the genesis; {home}/key stays here")


@app.command("genesis")
def genesis(
    identities: Annotated[list[Path], typer.Argument(help=f"Every validator's {IDENTITY_FILE}, in their order.")],
    out: Annotated[Path, typer.Option(help="Where to write the genesis.")] = Path("genesis.json"),
    name: Annotated[str, typer.Option(help="The chain's name.")] = "lockstep",
    time_ms: Annotated[int, typer.Option(help="Start of the chain, ms since 1970; now if left out.")] = 0,
    instruments: Annotated[str, typer.Option(help="Names, separated by commas; all if left out.")] = "",
    seed: Annotated[int, typer.Option(help="Seed of the simulated traders, unless --accounts is given.")] = 1,
    accounts: Annotated[
        Path | None,
        typer.Option(
            help='JSON list of {"public_key": base64, "balance": micro-USD}: bridge, fees, insurance, others.'
        ),
    ] = None,
) -> None:
    """A genesis from all validators' files, and a key for their price feed beside it."""
    import time

    made = Genesis(
        name=name,
        time_ms=time_ms or time.time_ns() // 1_000_000,
        validators=read_identities(identities),
        instruments=tuple(listing.instrument for listing in choose(instruments)),
        accounts=_read_accounts(accounts) if accounts else genesis_accounts(seed, traders(seed)),
        bridge_account=BRIDGE,
        fee_account=FEES,
        insurance_account=INSURANCE,
    )
    check_genesis(made)
    if out.exists():
        raise ConfigurationError(f"{out} exists already; a genesis is never overwritten")
    feed = new_key()
    write_key(out.parent / FEED_KEY_FILE, feed)
    out.write_bytes(made.encode())
    print(f"{out}: chain {made.chain_id.hex()}; send it to every operator, who runs on their machine:")
    print(f"  lockstep init home HOME --genesis {out.name} --feed-key {feed.public.hex()}")
    print(f"{out.parent / FEED_KEY_FILE}: the price feed's private key; it belongs to whoever reports prices")


@app.command("home")
def home(
    home: Annotated[Path, typer.Argument(help="The home made by `lockstep init key`.")],
    genesis: Annotated[Path, typer.Option(help="The network's genesis.json.")],
    feed_key: Annotated[str, typer.Option(help="Public key of the price feed that this node believes, hex.")],
    durability: Annotated[str, typer.Option(help="fsync, or write (survives the process only).")] = "fsync",
    retention: Annotated[str, typer.Option(help="archive (keep everything), full or pruned.")] = "archive",
    keep_days: Annotated[float, typer.Option(help="full: of blocks and events; pruned: of headers.")] = KEEP_DAYS,
    keep_blocks: Annotated[int, typer.Option(help="full and pruned: so many blocks at least.")] = KEEP_BLOCKS,
) -> None:
    """Complete a home with the genesis."""
    try:
        public = bytes.fromhex(feed_key)
    except ValueError:
        public = b""
    if len(public) != PUBLIC_KEY_BYTES:
        raise ConfigurationError(f"--feed-key is {2 * PUBLIC_KEY_BYTES} hex digits, not {feed_key!r}")
    joined = join_network(home, load_genesis(genesis), public, durability, retention, keep_days, keep_blocks)
    print(f"{joined.path} is {joined.name}'s home; run it with: lockstep node --home {joined.path}")


@app.command("observer")
def observer(
    home: Annotated[Path, typer.Argument(help="The new home.")],
    genesis: Annotated[Path, typer.Option(help="The network's genesis.json.")],
    follow: Annotated[
        list[str] | None,
        typer.Option(help="host:port of a node to follow; again for more. All validators if left out."),
    ] = None,
    name: Annotated[str, typer.Option(help="For people.")] = "",
    peers: Annotated[str, typer.Option(help="host:port at which other nodes reach it; a free port if left out.")] = "",
    clients: Annotated[str, typer.Option(help="host:port at which clients reach it; a free port if left out.")] = "",
    durability: Annotated[str, typer.Option(help="fsync, or write (survives the process only).")] = "fsync",
) -> None:
    """A home for a node that follows without voting, with a key of its own."""
    made = make_observer(home, load_genesis(genesis), name, peers, clients, follow or (), durability)
    print(f"{made.path} is the home of {made.name}, which does not vote; its public key is {made.key.public.hex()}")
    print(f"peers {made.config.peer_listen}  clients {made.config.client_listen}")
    print(f"run it with: lockstep node --home {made.path}")


def _read_accounts(path: Path) -> tuple[Account, ...]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[Account, ...])
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{path} is not a list of accounts: {error}") from error
