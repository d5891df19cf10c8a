"""Making networks: keys, a genesis and homes.

On one machine, `init_network` makes everything. Across machines, each operator runs `make_identity`, somebody
collects the public parts into a genesis (`read_identities`), and everybody makes a home from it (`create_home`): no
private key ever travels.
"""

import contextlib
import os
import random
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from lockstep.base.errors import ConfigurationError
from lockstep.base.keys import PrivateKey
from lockstep.node.retention import KEEP_BLOCKS, KEEP_DAYS
from lockstep.runtime.address import format_address, parse_address
from lockstep.runtime.guests import OBSERVERS_MAX_DEFAULT, OBSERVERS_MAX_OF_OBSERVERS
from lockstep.runtime.home import KEY_FILE, Home, NodeConfig, create_home, read_key, write_key
from lockstep.runtime.tls import certificate_key, make_certificate
from lockstep.wire.genesis import Account, Genesis, Instrument, Parameters, Validator, check_genesis

IDENTITY_FILE: Final = "validator.json"
FEED_KEY_FILE: Final = "feed-key"
PORTS: Final = (10_240, 32_768)
"""Below those of outgoing connections, as Linux has them (ip_local_port_range)."""


def new_key() -> PrivateKey:
    """A fresh random key."""
    return PrivateKey(os.urandom(32))


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Ports that nobody listens on now; all different, because they are held together. Not of those that the system
    gives to outgoing connections: one of these could have it when the node that it is meant for starts."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    held: list[socket.socket] = []
    while len(held) < count:
        with contextlib.suppress(OSError):
            held.append(socket.create_server((host, random.randrange(*PORTS)), family=family))
    ports: list[int] = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def init_network(
    directory: Path,
    validators: int,
    instruments: Sequence[Instrument],
    accounts: Sequence[Account],
    *,
    bridge_account: int,
    fee_account: int,
    insurance_account: int,
    name: str = "devnet",
    parameters: Parameters | None = None,
    host: str = "127.0.0.1",
    ports: Sequence[int] = (),
    durability: str = "fsync",
    retention: str = "archive",
    observers_max: int = OBSERVERS_MAX_DEFAULT,
) -> list[Home]:
    """Make the homes of a network on one machine, `directory/<validator name>`, and the key of its price feed,
    `directory/feed-key`. `ports`: two for each validator, peer and client; free ones when empty.

    Raises `ConfigurationError` when there is a network already, or something doesn't fit.
    """
    chosen = list(ports) or free_ports(2 * validators, host)
    if len(chosen) != 2 * validators:
        raise ConfigurationError(f"{validators} validators need {2 * validators} ports, not {len(chosen)}")
    keys = [new_key() for _ in range(validators)]
    members = tuple(
        make_validator(
            f"validator-{i}", key, format_address(host, chosen[2 * i]), format_address(host, chosen[2 * i + 1])
        )
        for i, key in enumerate(keys)
    )
    genesis = Genesis(
        name=name,
        time_ms=time.time_ns() // 1_000_000,
        validators=members,
        instruments=tuple(instruments),
        accounts=tuple(accounts),
        bridge_account=bridge_account,
        fee_account=fee_account,
        insurance_account=insurance_account,
        parameters=parameters or Parameters(),
    )
    check_genesis(genesis)
    directory.mkdir(parents=True, exist_ok=True)
    feed = new_key()
    write_key(directory / FEED_KEY_FILE, feed)
    return [
        create_home(
            directory / member.name, genesis, key,
            NodeConfig(
                member.peer_address, member.client_address, feed.public, durability, retention=retention,
                observers_max=observers_max,
            ),
        )
        for member, key in zip(members, keys, strict=True)
    ]  # fmt: skip


def make_observer(
    path: Path, genesis: Genesis, name: str = "", peer_listen: str = "", client_listen: str = "",
    follow: Sequence[str] = (), durability: str = "fsync",
) -> Home:  # fmt: skip
    """Make the home of a node that doesn't vote, with a key of its own; free ports of this machine where none are
    given. Raises `ConfigurationError`."""
    ports = [format_address("127.0.0.1", port) for port in free_ports(2)]
    config = NodeConfig(
        peer_listen or ports[0], client_listen or ports[1], b"", durability, observer=True, name=name,
        follow=tuple(follow), observers_max=OBSERVERS_MAX_OF_OBSERVERS,
    )  # fmt: skip
    key = read_key(path / KEY_FILE) if (path / KEY_FILE).exists() else new_key()
    return create_home(path, genesis, key, config)


def make_validator(name: str, key: PrivateKey, peer_address: str, client_address: str, stake: int = 1) -> Validator:
    """The public part of a validator, as it stands in a genesis."""
    parse_address(peer_address)
    parse_address(client_address)
    return Validator(name, key.public, stake, make_certificate(key), peer_address, client_address)


def make_identity(home: Path, name: str, peer_address: str, client_address: str, stake: int = 1) -> Path:
    """Make a key in a new home, and the file that its operator sends to whoever makes the genesis."""
    home.mkdir(parents=True, exist_ok=True)
    key = new_key()
    validator = make_validator(name, key, peer_address, client_address, stake)
    write_key(home / KEY_FILE, key)
    path = home / IDENTITY_FILE
    path.write_bytes(msgspec.json.format(msgspec.json.encode(validator), indent=2) + b"\n")
    return path


def read_identities(paths: Sequence[Path]) -> tuple[Validator, ...]:
    """Read operators' files, for a genesis; raises `ConfigurationError`."""
    validators: list[Validator] = []
    for path in paths:
        try:
            validator = msgspec.json.decode(path.read_bytes(), type=Validator)
        except OSError as error:
            raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
        except msgspec.DecodeError as error:
            raise ConfigurationError(f"{path} is not a validator's file: {error}") from error
        if certificate_key(validator.certificate) != validator.public_key:
            raise ConfigurationError(f"{path}: the certificate is for another key")
        validators.append(validator)
    return tuple(validators)


def join_network(
    home: Path,
    genesis: Genesis,
    feed_key: bytes,
    durability: str = "fsync",
    retention: str = "archive",
    keep_days: float = KEEP_DAYS,
    keep_blocks: int = KEEP_BLOCKS,
) -> Home:
    """Complete the home of `make_identity` with the genesis, listening where the genesis says."""
    key = read_key(home / KEY_FILE)
    for validator in genesis.validators:
        if validator.public_key == key.public:
            config = NodeConfig(
                validator.peer_address, validator.client_address, feed_key, durability,
                retention=retention, keep_days=keep_days, keep_blocks=keep_blocks,
            )  # fmt: skip
            return create_home(home, genesis, key, config)
    raise ConfigurationError(f"the key in {home} is no validator's in the genesis {genesis.name!r}")
