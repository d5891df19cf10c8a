"""`lockstep light` and `lockstep trust` without a network: lines, queries, errors. With one: tests/runtime."""

import json
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from lockstep.base.errors import ConfigurationError, LockstepError, StorageFailed
from lockstep.cli.app import app
from lockstep.cli.light_query import describe, parse_words
from lockstep.node.retention import Mode, Retention
from lockstep.runtime.store import Store
from lockstep.sync.light_state import LightState
from lockstep.sync.light_trust import TrustRoot, genesis_trust, parse_trust
from lockstep.wire.certificate import Finalization
from lockstep.wire.codec import encode
from lockstep.wire.validators import validator_set
from tests.support.light_chain import KEYS_OF_FOUR, set_of
from tests.support.pruned_home import GENESIS, PrunedHome, chain
from tests.support.real_network import free_ports, real_genesis

run = CliRunner()
LINE = f"lockstep:1:{'ab' * 32}:7:{'cd' * 32}"


def test_the_trust_line_of_a_home_that_has_not_run(tmp_path: Path) -> None:
    genesis = real_genesis()
    (tmp_path / "genesis.json").write_bytes(genesis.encode())
    for options in ([], ["--genesis-line"]):
        shown = run.invoke(app, ["trust", "--home", str(tmp_path), *options])
        assert shown.exit_code == 0 and parse_trust(shown.stdout) == genesis_trust(genesis)
    found = json.loads(run.invoke(app, ["trust", "--home", str(tmp_path), "--json"]).stdout)
    assert found["trust"] == shown.stdout.strip() and found["chain_id"] == genesis.chain_id.hex()


def test_the_trust_line_is_of_the_newest_checkpoint(tmp_path: Path) -> None:
    home = PrunedHome(tmp_path, Retention(Mode.ARCHIVE, 0, 0))
    for blocks in (10, 9):
        home.grow(blocks)
        home.checkpoint()
    home.grow(3)
    home.close()
    (tmp_path / "genesis.json").write_bytes(GENESIS.encode())
    words = ["trust", "--home", str(tmp_path)]
    assert parse_trust(run.invoke(app, words).stdout) == TrustRoot(GENESIS.chain_id, 19, validator_set(GENESIS).hash)
    assert parse_trust(run.invoke(app, [*words, "--genesis-line"]).stdout) == genesis_trust(GENESIS)
    found = json.loads(run.invoke(app, [*words, "--json"]).stdout)
    assert (found["height"], found["validators"]) == (19, validator_set(GENESIS).hash.hex())


@pytest.mark.parametrize(
    ("what", "message"),
    [("header", "of another block"), ("state_root", "another state root"), ("certificate", "not certified")],
)
def test_a_checkpoint_that_nobody_certified_gives_no_line(
    tmp_path: Path, what: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = PrunedHome(tmp_path, Retention(Mode.ARCHIVE, 0, 0))
    home.grow(10)
    home.checkpoint()
    meta = home.store.checkpoint()
    home.close()
    assert meta is not None
    final = msgspec.msgpack.decode(meta.certificate, type=Finalization)
    wrong = {
        "header": chain()[8].stored.block.header.encode(),
        "state_root": bytes(32),
        "certificate": encode(msgspec.structs.replace(final, signers=b"\x03", signatures=final.signatures[:128])),
    }
    (tmp_path / "genesis.json").write_bytes(GENESIS.encode())
    monkeypatch.setattr(Store, "checkpoint", lambda store: msgspec.structs.replace(meta, **{what: wrong[what]}))
    result = run.invoke(app, ["trust", "--home", str(tmp_path)])
    assert isinstance(result.exception, StorageFailed) and message in str(result.exception)
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["balance", "3"], "no query 'balance'"), (["account"], "account N"), (["account", "x"], "N is a number"),
        (["account", "1", "2"], "account N"), (["order", str(1 << 63)], "ID is a number"),
        (["outcome", "abc"], "64 hex digits"), (["position", "1"], "position N INSTRUMENT"),
    ],
)  # fmt: skip
def test_what_is_no_query(words: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse_words(words)


def test_what_is_a_query() -> None:
    for words in (["account", "1"], ["position", "1", "BTC-PERP"], ["price", "0"], ["outcome", "0" * 64]):
        assert parse_words(words) == tuple(words)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["account", "1", "--trust", LINE], "--node"),
        (["account", "1", "--node", "127.0.0.1:1"], "--trust"),
        (["account", "1", "--node", "127.0.0.1:1", "--trust", "nonsense"], "a trust line is"),
        (["balance", "1", "--node", "127.0.0.1:1", "--trust", LINE], "no query"),
    ],
)
def test_wrong_usage_says_what_is_missing(arguments: list[str], message: str) -> None:
    result = run.invoke(app, ["light", *arguments])
    assert isinstance(result.exception, ConfigurationError) and message in str(result.exception)


def test_a_state_of_another_chain_or_damaged_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "state"
    options = ["light", "account", "1", "--node", "127.0.0.1:1", "--state", str(file)]
    file.write_bytes(LightState(9, 8, bytes(32), bytes(32), bytes(32), set_of(KEYS_OF_FOUR)).encode())
    result = run.invoke(app, [*options, "--trust", LINE])
    assert isinstance(result.exception, ConfigurationError) and "another chain" in str(result.exception)
    file.write_bytes(file.read_bytes()[:-1])
    result = run.invoke(app, options)
    assert isinstance(result.exception, ConfigurationError) and "damaged" in str(result.exception)


def test_a_node_that_is_not_there_leaves_nothing_to_trust(capsys: pytest.CaptureFixture[str]) -> None:
    (port,) = free_ports(1)
    result = run.invoke(app, ["light", "account", "1", "--node", f"127.0.0.1:{port}", "--trust", LINE])
    assert isinstance(result.exception, LockstepError) and "no node is left" in str(result.exception)
    assert f"dropped 127.0.0.1:{port}" in result.stderr + capsys.readouterr().err


def test_answers_for_people() -> None:
    under = {"query": "account 3", "height": 1234, "signers": 3, "witnesses_agreeing": 1, "witnesses": 2}
    text = describe(under | {"exists": True, "fields": {"balance": 5}})
    assert "account 3" in text and "height 1,234" in text and "balance        5" in text and "1 of 2" in text
    assert "proven not to be there" in describe(under | {"exists": False, "fields": {}})
    assert describe({"query": "x", "error": "why"}) == "x: why"
