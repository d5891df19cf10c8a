"""`lockstep validators`: the file that operators pass around, and what is asked of nodes; with a network: in
tests/runtime."""

import asyncio
import json
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from lockstep.base.errors import ConfigurationError
from lockstep.cli import validators as command
from lockstep.cli.app import app
from lockstep.cli.target import find_target
from lockstep.cli.validators import ChangeFile
from lockstep.runtime.home import load_home, take_seat
from lockstep.runtime.network import init_network
from lockstep.runtime.tls import make_certificate
from lockstep.wire.client import SubmitReply, ValidatorsReply
from lockstep.wire.genesis import Account, Genesis, Validator, load_genesis
from lockstep.wire.roster import genesis_roster
from lockstep.wire.set_change import approve, decode_change
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


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the first of four validators; its network does not run."""
    return init_network(
        tmp_path_factory.mktemp("network") / "four", 4, real_genesis(1).instruments, [Account(bytes(32), 0)],
        bridge_account=0, fee_account=0, insurance_account=0,
    )[0].path  # fmt: skip


class Node:
    """Answers like a node that a command has connected to."""

    def __init__(self, genesis: Genesis) -> None:
        self.reply = ValidatorsReply(77, 3, 16, b"\xab" * 32, genesis.validators, (1, 1, 1, 1), (), 0)
        self.answer = SubmitReply(bytes(32), "", "")
        self.submitted: list[bytes] = []

    async def validators(self) -> ValidatorsReply:
        return self.reply

    async def submit_change(self, raw: bytes) -> SubmitReply:
        self.submitted.append(raw)
        return self.answer


@pytest.fixture
def node(home: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    found = Node(load_genesis(home / "genesis.json"))
    monkeypatch.setattr(command, "ask", lambda target, question: asyncio.run(question(found)))
    return found


def refused(message: str, *words: str) -> None:
    """What a person did wrong is said; nothing else ends the command."""
    result = CliRunner().invoke(app, ["validators", *words])
    assert isinstance(result.exception, ConfigurationError) and message in str(result.exception)


def test_the_set_and_what_is_pending_are_shown(home: Path, node: Node) -> None:
    told = json.loads(run("validators", "show", "--home", str(home), "--json"))
    assert (told["epoch"], told["height"], told["change_height"]) == (3, 77, None)
    assert told["validators_hash"] == "ab" * 32 and [row["next_stake"] for row in told["validators"]] == [None] * 4
    assert "after height" not in run("validators", "show", "--home", str(home))
    joining = Validator("fifth", b"\x05" * 32, 2, b"", "10.0.0.5:7000", "10.0.0.5:7001")
    node.reply = msgspec.structs.replace(
        node.reply, members=(*node.reply.members, joining), next_stakes=(1, 1, 1, 0, 2), change_height=80
    )
    rows = run("validators", "show", "--home", str(home)).splitlines()
    assert rows[0] == f"epoch 3, height 77, set {'ab' * 32}" and len(rows) == 6
    assert "stake 1, 0 after height 80" in rows[4] and "fifth" in rows[5] and "stake 0, 2 after height 80" in rows[5]
    told = json.loads(run("validators", "show", "--home", str(home), "--json"))
    assert told["change_height"] == 80 and [row["next_stake"] for row in told["validators"]] == [1, 1, 1, 0, 2]


def test_a_change_is_proposed_for_the_present_epoch_and_submitted(home: Path, node: Node, tmp_path: Path) -> None:
    file, at = str(tmp_path / "change.json"), ("--home", str(home))
    told = json.loads(run("validators", "propose", file, *at, "--stake", "3=0", "--stake", "1=5", "--json"))
    assert told == {"file": file, "epoch": 3, "signed_by": []}
    for place in (2, 0):
        run("validators", "sign", file, "--home", str(home.parent / f"validator-{place}"))
    assert "taken" in run("validators", "submit", file, *at)
    change = decode_change(node.submitted[0])
    assert change.change.stakes == ((1, 5), (3, 0)) and change.change.epoch == 3 and change.signers == b"\x05"
    node.answer = SubmitReply(bytes(32), "bad-set-change", "too few approved")
    result = CliRunner().invoke(app, ["validators", "submit", file, *at])
    assert result.exit_code == 1 and result.stdout == "refused: bad-set-change: too few approved\n"
    result = CliRunner().invoke(app, ["validators", "submit", file, *at, "--json"])
    assert result.exit_code == 1 and json.loads(result.stdout)["taken"] is False


def test_what_cannot_be_proposed(home: Path, node: Node, tmp_path: Path) -> None:
    file, at = tmp_path / "change.json", ("--home", str(home))
    for text in ("3", "3=", "=1", "-1=2", "a=b"):
        refused("INDEX=STAKE", "propose", str(file), *at, f"--stake={text}")
    refused("cannot write", "propose", str(tmp_path / "none" / "change.json"), *at, "--stake", "3=0")
    node.reply = msgspec.structs.replace(node.reply, next_stakes=(1, 1, 1, 0), change_height=80)
    refused("after height 80: wait", "propose", str(file), *at, "--stake", "3=0")
    assert not file.exists()


def test_what_is_no_file_of_a_change(home: Path, node: Node, tmp_path: Path) -> None:
    file, at = tmp_path / "change.json", ("--home", str(home))
    chain = load_genesis(home / "genesis.json").chain_id.hex()
    refused("cannot read", "submit", str(file), *at)
    for raw in (b"{", b"[]", b'{"epoch": 1}', _file("xy", 4), _file(chain, 0), _file(chain, 10_000)):
        file.write_bytes(raw)
        refused("is no change of validators", "submit", str(file), *at)
    for signer in (-1, 4):
        file.write_bytes(_file(chain, 4, {signer: bytes(64)}))
        refused("others than validators 0 to 3", "submit", str(file), *at)
    assert node.submitted == []


def test_only_a_validator_approves(home: Path, tmp_path: Path) -> None:
    file, observer = tmp_path / "change.json", str(tmp_path / "fifth")
    file.write_bytes(_file(load_genesis(home / "genesis.json").chain_id.hex(), 4))
    run("init", "observer", observer, "--genesis", str(home / "genesis.json"), "--name", "fifth")
    refused("an observer's home approves nothing", "sign", str(file), "--home", observer)
    refused("index 4 approves nothing", "sign", str(file), "--home", str(home), "--index", "4")
    assert json.loads(file.read_bytes())["signatures"] == {}


def test_a_node_that_joined_later_is_found_by_its_home(home: Path, tmp_path: Path) -> None:
    observer = tmp_path / "fifth"
    run("init", "observer", str(observer), "--genesis", str(home / "genesis.json"), "--name", "fifth")
    take_seat(load_home(observer), 4)
    loaded = load_home(observer)
    found = find_target(observer, None, None)
    assert (found.name, found.address) == ("fifth", loaded.config.client_listen)
    assert found.certificate == make_certificate(loaded.key)


def _file(chain: str, validators: int, signatures: dict[int, bytes] | None = None) -> bytes:
    return msgspec.json.encode(ChangeFile(chain, 0, (), ((0, 2),), validators, signatures or {}))
