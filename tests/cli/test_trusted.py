"""Nodes that a reader of proven things names: validators with their certificates, others without."""

from pathlib import Path

import msgspec
import pytest

from lockstep.base.errors import ConfigurationError
from lockstep.cli.trusted import addresses
from tests.support.small_network import small_genesis


def test_validators_are_pinned_and_other_nodes_may_be_named(tmp_path: Path) -> None:
    small, path = small_genesis(), tmp_path / "genesis.json"
    validators = tuple(
        msgspec.structs.replace(v, certificate=bytes([i]), client_address=f"127.0.0.1:{7000 + i}")
        for i, v in enumerate(small.validators)
    )
    path.write_bytes(msgspec.structs.replace(small, validators=validators).encode())
    named, known, other = addresses(["validator-1,127.0.0.1:7000", "127.0.0.1:9"], path)
    assert (named.certificate, known.certificate) == (bytes([1]), bytes([0]))
    assert (other.name, other.address, other.certificate) == ("127.0.0.1:9", "127.0.0.1:9", None)
    with pytest.raises(ConfigurationError, match="no validator's"):
        addresses(["nobody"], path)
