"""Making networks, on one machine and across machines."""

from pathlib import Path

import msgspec
import pytest

from lockstep.base.errors import ConfigurationError
from lockstep.runtime.home import load_home
from lockstep.runtime.network import init_network, join_network, make_identity, read_identities
from lockstep.wire.genesis import Genesis
from tests.support.real_network import real_genesis, validator_key


def made(directory: Path, validators: int, **options: object) -> Genesis:
    plain = real_genesis(1)
    homes = init_network(
        directory, validators, plain.instruments, plain.accounts,
        bridge_account=0, fee_account=1, insurance_account=2, **options,
    )  # fmt: skip
    loaded = [load_home(home.path) for home in homes]
    assert [home.index for home in loaded] == list(range(validators))
    assert len({home.genesis.chain_id for home in loaded}) == 1
    return loaded[0].genesis


def test_a_network_on_one_machine(tmp_path: Path) -> None:
    genesis = made(tmp_path, 4)
    addresses = [a for v in genesis.validators for a in (v.peer_address, v.client_address)]
    assert len(set(addresses)) == 8
    feed = bytes.fromhex((tmp_path / "feed-key").read_text())
    assert len(feed) == 32
    with pytest.raises(ConfigurationError, match="never overwritten"):
        made(tmp_path, 4)


def test_given_ports_are_used_in_order(tmp_path: Path) -> None:
    genesis = made(tmp_path, 2, ports=[9001, 9002, 9003, 9004])
    assert [v.client_address for v in genesis.validators] == ["127.0.0.1:9002", "127.0.0.1:9004"]
    with pytest.raises(ConfigurationError, match="need 4 ports"):
        made(tmp_path / "other", 2, ports=[9001])


def test_a_network_across_machines(tmp_path: Path) -> None:
    """Each operator makes a key; somebody collects the public files; everybody completes the home."""
    homes = [tmp_path / f"machine-{i}" for i in range(3)]
    files = [make_identity(home, f"v{i}", f"10.0.0.{i}:9000", f"10.0.0.{i}:9001") for i, home in enumerate(homes)]
    assert not any(b'"seed"' in file.read_bytes() for file in files)
    genesis = msgspec.structs.replace(real_genesis(1), validators=read_identities(files))
    for index, path in enumerate(homes):
        home = join_network(path, genesis, b"\x07" * 32)
        assert load_home(path).index == index == home.index
        assert home.config.peer_listen == f"10.0.0.{index}:9000"
    stranger = make_identity(tmp_path / "stranger", "x", "10.0.0.9:9000", "10.0.0.9:9001").parent
    with pytest.raises(ConfigurationError, match="is no validator's"):
        join_network(stranger, genesis, b"\x07" * 32)


def test_a_wrong_identity_file_is_refused(tmp_path: Path) -> None:
    validator = real_genesis(2).validators[0]
    path = tmp_path / "validator.json"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(validator, public_key=validator_key(1).public)))
    with pytest.raises(ConfigurationError, match="for another key"):
        read_identities([path])
    path.write_text("{}")
    with pytest.raises(ConfigurationError, match="not a validator's file"):
        read_identities([path])
    with pytest.raises(ConfigurationError, match="cannot read"):
        read_identities([tmp_path / "nothing"])
