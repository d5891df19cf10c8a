"""`lockstep diff` on homes and snapshots made in-process: a fork, an altered state, equal ones, and unlike ones.
A real node that diverges is in tests/runtime/test_divergence_processes.py."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lockstep.base.errors import ConfigurationError, StorageFailed
from lockstep.cli.app import app
from lockstep.cli.benches.long_log import _Writer
from lockstep.cli.diff import describe_cause
from lockstep.cli.session import Options, open_network
from lockstep.ledger import snapshot
from lockstep.ledger.table import touch
from lockstep.market.plan import Plan
from lockstep.node.cause import Cause, Causes
from lockstep.node.record import StoredBlock
from lockstep.runtime.home import Home
from lockstep.runtime.stored_chain import Replay, StoredChain
from lockstep.venue.schema import ACCOUNTS, INSTRUMENTS, VENUE

run = CliRunner()
BLOCKS, FORK = 30, 21


class Forking(_Writer):
    """Writes another block at one height."""

    def _build(self, height: int) -> StoredBlock:
        if height == FORK:
            self._traders = self._traders[1:] + self._traders[:1]
        return super()._build(height)


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> list[Home]:
    """Two homes with the same 30 blocks, and one that has others from block 21 on."""
    plan = Plan()
    made = open_network(tmp_path_factory.mktemp("homes") / "network", Options(), plan)
    traders = [trader for trader in plan.cast() if trader.weight]
    for number, writer in enumerate((_Writer, _Writer, Forking)):
        files = writer([*made[number:], *made[:number]], traders)
        for height in range(1, BLOCKS + 1):
            files.add(height)
        files.close()
    return made


def diff(*arguments: object) -> tuple[int, dict[str, Any]]:
    result = run.invoke(app, ["diff", *map(str, arguments), "--json"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, json.loads(result.output)


def export(replay: Replay, folder: Path) -> Path:
    venue = replay.venue
    tables = (venue.rows(number).tobytes() for number in range(len(venue.ledger.tables)))
    snapshot.export(folder, venue.ledger.manifest(), tables)
    return folder


def test_equal_homes_are_equal(homes: list[Home]) -> None:
    code, found = diff(homes[0].path, homes[1].path)
    assert code == 0 and found["equal"] and found["height"] == BLOCKS and found["first_block"] is None
    assert found["rows"] == found["tables"] == [] and found["nodes_visited"] == 0
    code, found = diff(homes[0].path.parent, homes[1].path, "--height", 7)
    assert code == 0 and found["height"] == 7
    shown = run.invoke(app, ["diff", str(homes[0].path), str(homes[1].path)])
    assert f"equal at height {BLOCKS}" in shown.output and found["state_roots"][0] not in shown.output


def test_a_fork_is_found_at_its_first_block_with_the_commands_that_wrote(homes: list[Home]) -> None:
    code, found = diff(homes[0].path, homes[2].path)
    assert code == 1 and not found["equal"]
    assert found["first_block"] == found["height"] == FORK and found["causes_from"] == str(homes[2].path)
    assert found["state_roots"][0] != found["state_roots"][1]
    accounts = [row for row in found["rows"] if row["table"] == "accounts"]
    senders = [row for row in accounts if any(f["name"] == "next_sequence" for f in row["fields"])]
    assert len(senders) == 2
    chains = [StoredChain(home.path) for home in (homes[0], homes[2])]
    for row in accounts:
        values = [chain.replay_to(FORK).venue.rows(ACCOUNTS)[row["row"]] for chain in chains]
        for field in row["fields"]:
            assert [field["one"], field["other"]] == [value[field["name"]].tolist() for value in values]
    written = [row["cause"] for row in accounts if row["cause"]["by"] == "command"]
    bundle = chains[1].block(FORK).bundles[0]
    assert written and all(c["kind"] == "transfer" and c["bundle"] == bundle.digest.hex() for c in written)
    assert [row["cause"]["by"] for row in senders].count("earlier") == 1, "one sender did nothing in this block there"
    code, found = diff(homes[0].path, homes[2].path, "--height", FORK - 1)
    assert code == 0 and found["equal"]
    shown = run.invoke(app, ["diff", str(homes[0].path), str(homes[2].path)])
    assert f"they differ from block {FORK} on" in shown.output and "transfer by account" in shown.output


def test_a_snapshot_is_compared_with_a_home_at_its_height(homes: list[Home], tmp_path: Path) -> None:
    replay = StoredChain(homes[0].path).replay_to(10)
    good = export(replay, tmp_path / "good")
    code, found = diff(good, homes[1].path)
    assert code == 0 and found["height"] == 10
    table = replay.venue.ledger.tables[ACCOUNTS]
    touch(table, replay.venue.ledger.begin(), 5)
    table.rows["balance"][5] -= 1
    replay.venue.ledger.seal()
    bad = export(replay, tmp_path / "bad")
    for sides in ((bad, homes[1].path), (bad, good)):
        code, found = diff(*sides)
        (row,) = found["rows"]
        assert code == 1 and (row["table"], row["row"]) == ("accounts", 5) and found["first_block"] is None
        (field,) = row["fields"]
        assert field["name"] == "balance" and field["one"] == field["other"] - 1
    assert found["causes_from"] == "" and row["cause"] is None
    shown = run.invoke(app, ["diff", str(bad), str(good)])
    assert "cannot be known" in shown.output


def test_a_damaged_snapshot_is_not_compared(homes: list[Home], tmp_path: Path) -> None:
    folder = export(StoredChain(homes[0].path).replay_to(9), tmp_path / "damaged")
    venue = folder / "venue.bin"
    venue.write_bytes(b"\xff" + venue.read_bytes()[1:])
    result = run.invoke(app, ["diff", str(folder), str(homes[0].path)])
    assert isinstance(result.exception, StorageFailed) and "venue.bin" in str(result.exception)


def test_what_cannot_be_compared_says_why(homes: list[Home], tmp_path: Path) -> None:
    ten = export(StoredChain(homes[0].path).replay_to(10), tmp_path / "ten")
    eleven = export(StoredChain(homes[0].path).replay_to(11), tmp_path / "eleven")
    other = open_network(tmp_path / "other", Options(), Plan(seed=3))
    for arguments, words in (
        ((ten, eleven), "10 and 11"), ((ten, homes[0].path, "--height", 9), "10 and 9"),
        ((tmp_path, ten), "neither a node's home"), ((homes[0].path, other[0].path), "different chains"),
        ((homes[0].path, homes[1].path, "--height", 99), "heights 0 to 30, not 99"),
    ):  # fmt: skip
        result = run.invoke(app, ["diff", *map(str, arguments)])
        assert isinstance(result.exception, ConfigurationError) and words in str(result.exception), arguments


def test_causes_name_the_command_the_block_or_nothing(homes: list[Home]) -> None:
    chain = StoredChain(homes[0].path)
    stored = chain.block(12)
    replay = chain.replay_to(11)
    root = replay.venue.ledger.root
    commands = stored.bundles[0].commands
    target = int(commands[0]["target"])
    rows = [(ACCOUNTS, target), (ACCOUNTS, stored.bundles[0].account), (VENUE, 0), (INSTRUMENTS, 0)]
    causes = Causes(replay.venue, stored).find(rows)
    assert [cause.by for cause in causes] == ["command", "command", "command", "earlier"]
    assert [cause.command for cause in causes[:3]] == [len(commands) - 1] * 3
    assert dict(causes[0].fields)["target"] == target and causes[0].kind == "transfer"
    assert replay.venue.ledger.root == root, "the state is left as it was"
    empty = StoredBlock(stored.block, ())
    assert [c.by for c in Causes(replay.venue, empty).find([(VENUE, 0)])] == ["block"]
    assert "not written" in describe_cause(causes[3]) and "liquidations" in describe_cause(Cause("block"))
    assert describe_cause(causes[0]).startswith(f"command {len(commands) - 1}: transfer by account")
