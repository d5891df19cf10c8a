"""Which node a command talks to: `--home` names a home (or a network's folder: its first validator), or `--address`
one of the validators of `--genesis`. Either way the node's certificate comes from the genesis, so it can't be faked."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from lockstep.base.errors import ConfigurationError
from lockstep.gateway.client import Client, connect
from lockstep.runtime.home import CONFIG_FILE, GENESIS_FILE, load_home
from lockstep.runtime.tls import make_certificate
from lockstep.wire.genesis import Validator, load_genesis

T = TypeVar("T")
HomeOption = Annotated[Path | None, typer.Option(help="A node's home, or a network's folder (its first validator).")]
AddressOption = Annotated[str | None, typer.Option(help="A validator's client address, host:port; with --genesis.")]
GenesisOption = Annotated[Path | None, typer.Option(help="The network's genesis.json, where there is no home.")]


@dataclass(frozen=True, slots=True)
class Target:
    """A node's client port, and the certificate that it must show."""

    name: str
    address: str
    certificate: bytes


def home_of(path: Path) -> Path:
    """`path` if it is a home; the first validator's if it is a network's folder. Raises `ConfigurationError`."""
    for candidate in (path, path / "validator-0"):
        if (candidate / CONFIG_FILE).is_file() or (candidate / GENESIS_FILE).is_file():
            return candidate
    raise ConfigurationError(f"{path} is neither a node's home nor a network's folder; see lockstep init --help")


def find_target(home: Path | None, address: str | None, genesis: Path | None) -> Target:
    """The node that the options name; raises `ConfigurationError`."""
    if home is not None and genesis is None:
        loaded = load_home(home_of(home))
        validators = loaded.genesis.validators
        if address:
            return _named(validators, address)
        if loaded.is_observer or loaded.index >= len(validators):  # the genesis does not know who joined later
            return Target(loaded.name, loaded.config.client_listen, make_certificate(loaded.key))
        return _target(validators[loaded.index])
    if genesis is not None and address is not None and home is None:
        return _named(load_genesis(genesis).validators, address)
    raise ConfigurationError("say which node: --home HOME, or --address HOST:PORT with --genesis FILE")


def _named(validators: tuple[Validator, ...], address: str) -> Target:
    for validator in validators:
        if address in (validator.client_address, validator.name):
            return _target(validator)
    known = ", ".join(f"{v.name} {v.client_address}" for v in validators)
    raise ConfigurationError(f"{address} is no validator's client address or name in the genesis; it has {known}")


def _target(validator: Validator) -> Target:
    return Target(validator.name, validator.client_address, validator.certificate)


def ask(target: Target, question: Callable[[Client], Awaitable[T]]) -> T:
    """Connect, ask, leave. Raises `OSError` when the node can't be reached."""

    async def main() -> T:
        try:
            client = await connect(target.address, target.certificate)
        except TimeoutError as error:
            raise OSError(f"{target.name} at {target.address} does not answer: is it running?") from error
        except OSError as error:
            raise OSError(f"cannot reach {target.name} at {target.address}: {error}; is it running?") from error
        try:
            async with asyncio.timeout(10):
                return await question(client)
        finally:
            await client.disconnect()

    return asyncio.run(main())
