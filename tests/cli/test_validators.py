"""`lockstep validators`: the file that operators pass around."""

import json
from pathlib import Path

import msgspec
from typer.testing import CliRunner

from lockstep.cli.app import app
from lockstep.cli.validators import ChangeFile
from lockstep.runtime.network import init_network
from lockstep.wire.genesis import Account, Validator
from lockstep.wire.roster import genesis_roster
from lockstep.wire.set_change import approve
from tests.support.real_network import real_genesis


def run(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.output


def test_operators_sign_one_file_after_the_other(tmp_path: Path) -> None:
    listed = real_genesis(1)
    homes = init_network(
        tmp_path / "network", 4, listed.instruments, [Account(bytes(32), 0)],
        bridge_account=0, fee_account=0, insurance_account=0,
    )  # fmt: skip
    genesis = homes[0].genesis
    observer = str(tmp_path / "fifth")
    run("init", "observer", observer, "--genesis", str(homes[0].path / "genesis.json"), "--name", "fifth")
    record = tmp_path / "validator.json"
    run("validators", "record", str(record), "--home", observer, "--stake", "2")
    joining = msgspec.json.decode(record.read_bytes(), type=Validator)
    assert (joining.name, joining.stake) == ("fifth", 2)
    file = tmp_path / "change.json"
    file.write_bytes(msgspec.json.encode(ChangeFile(genesis.chain_id.hex(), 0, (joining,), ((3, 0),), 4, {})))
    for home in homes[:3]:
        told = json.loads(run("validators", "sign", str(file), "--home", str(home.path), "--json"))
    assert told["signed_by"] == [0, 1, 2]
    found = msgspec.json.decode(file.read_bytes(), type=ChangeFile)
    roster = genesis_roster(genesis)
    approved = roster.check(approve(found.change, found.signatures, found.validators).encode())
    pending = roster.after(1, approved.change).pending
    assert pending is not None and pending.stakes == (1, 1, 1, 0, 2)


def test_a_file_of_another_chain_is_not_signed(tmp_path: Path) -> None:
    homes = init_network(
        tmp_path / "network", 1, real_genesis(1).instruments, [Account(bytes(32), 0)],
        bridge_account=0, fee_account=0, insurance_account=0,
    )  # fmt: skip
    file = tmp_path / "change.json"
    file.write_bytes(msgspec.json.encode(ChangeFile("00" * 32, 0, (), ((0, 2),), 1, {})))
    result = CliRunner().invoke(app, ["validators", "sign", str(file), "--home", str(homes[0].path)])
    assert result.exit_code != 0 and "another chain" in str(result.exception)
