"""Homes: what is written is what is read, and everything wrong is said with its remedy."""

import os
from pathlib import Path

import msgspec
import pytest

from lockstep.base.errors import ConfigurationError
from lockstep.base.keys import PrivateKey
from lockstep.runtime.home import Home, NodeConfig, create_home, load_home, lock_home, read_key, write_key
from tests.support.real_network import real_genesis, validator_key


def config(**changes: object) -> NodeConfig:
    plain = NodeConfig("127.0.0.1:1", "127.0.0.1:2", b"\x07" * 32)
    return msgspec.structs.replace(plain, **changes)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return create_home(tmp_path / "home", real_genesis(2), validator_key(1), config())


def test_a_home_is_read_as_it_was_made(home: Home) -> None:
    again = load_home(home.path)
    assert (again.genesis, again.index, again.config) == (home.genesis, 1, config())
    assert again.key.seed == validator_key(1).seed and again.name == "validator-1"
    assert (home.path / "key").stat().st_mode & 0o777 == 0o600


def test_a_home_is_not_made_over_another(home: Home) -> None:
    with pytest.raises(ConfigurationError, match="a node's home already"):
        create_home(home.path, home.genesis, home.key, config())


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    write_key(tmp_path / "key", validator_key(0))
    with pytest.raises(ConfigurationError, match="never overwritten"):
        write_key(tmp_path / "key", validator_key(1))
    with pytest.raises(ConfigurationError, match="holds another key"):
        create_home(tmp_path, real_genesis(2), validator_key(1), config())
    assert read_key(tmp_path / "key").seed == validator_key(0).seed


def test_a_key_that_others_can_read_is_refused(home: Home) -> None:
    (home.path / "key").chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        load_home(home.path)


@pytest.mark.parametrize("text", ["", "zz" * 32, "00" * 31])
def test_a_key_file_must_hold_a_seed(home: Home, text: str) -> None:
    (home.path / "key").write_text(text)
    with pytest.raises(ConfigurationError, match="32 bytes in hex"):
        load_home(home.path)


def test_a_key_that_is_no_validators_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is no validator's"):
        create_home(tmp_path / "home", real_genesis(2), PrivateKey(b"\x55" * 32), config())


@pytest.mark.parametrize("name", ["genesis.json", "key", "node.json"])
def test_a_missing_file_is_named(home: Home, name: str) -> None:
    (home.path / name).unlink()
    with pytest.raises(ConfigurationError, match=name):
        load_home(home.path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "node.json is not valid"),
        ('{"peer_listen": "127.0.0.1:1"}', "client_listen"),
        ("not json", "node.json is not valid"),
    ],
)
def test_a_broken_configuration_is_refused(home: Home, text: str, message: str) -> None:
    (home.path / "node.json").write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        load_home(home.path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"durability": "hope"}, "fsync or write"),
        ({"peer_listen": "localhost"}, "is not an address"),
        ({"client_listen": "127.0.0.1:99999"}, "is not an address"),
        ({"clients_max": 0}, "must be positive"),
        ({"observers_max": 1_000}, "observers_max is 0 to"),
        ({"observers_allowed": ("ada",)}, "64 hex digits"),
        ({"follow": ("nowhere",)}, "is not an address"),
    ],
)
def test_a_senseless_setting_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        create_home(tmp_path / "home", real_genesis(2), validator_key(0), config(**changes))


def test_a_key_that_is_no_validators_is_only_good_for_an_observer(tmp_path: Path) -> None:
    genesis, key = real_genesis(2), PrivateKey(b"\x55" * 32)
    with pytest.raises(ConfigurationError, match="lockstep init observer"):
        create_home(tmp_path / "home", genesis, key, config())
    home = create_home(tmp_path / "home", genesis, key, config(observer=True, peer_listen="0.0.0.0:7"))
    assert home.is_observer and home.name.startswith("observer-") and home.announce == ""
    assert load_home(home.path).is_observer
    named = create_home(tmp_path / "named", genesis, key, config(observer=True, name="eve", announce="10.0.0.1:7"))
    assert (named.name, named.announce) == ("eve", "10.0.0.1:7")
    validator = create_home(tmp_path / "validator", genesis, validator_key(0), config(observer=True))
    assert not validator.is_observer, "a validator's key is a validator's"


def test_no_home_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="lockstep init"):
        load_home(tmp_path / "nothing")


def test_two_processes_cannot_run_one_home(home: Home) -> None:
    held = lock_home(home)
    with pytest.raises(ConfigurationError, match=f"in use by process {os.getpid()}"):
        lock_home(home)
    os.close(held)
    os.close(lock_home(home))
