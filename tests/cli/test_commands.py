"""The command line without processes: options, errors, exit codes, homes and snapshots."""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lockstep.base.errors import ConfigurationError, StorageFailed
from lockstep.cli import Exit, kernels, main
from lockstep.cli.app import app
from lockstep.cli.bench import lines, said
from lockstep.cli.benches import BENCHES, Bar
from lockstep.cli.benches.long_log import write_long_log
from lockstep.cli.conditions import Conditions
from lockstep.cli.devnet import kill_seconds, verdict
from lockstep.cli.session import Options, open_network
from lockstep.cli.target import find_target
from lockstep.market.plan import Plan
from lockstep.runtime.home import Home, create_home, load_home
from lockstep.runtime.restore import open_files
from lockstep.runtime.store import Store

run = CliRunner()


def in_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of the `lockstep` script."""
    monkeypatch.setattr(sys, "argv", ["lockstep", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


# -- errors and exit codes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["devnet", "--rate", "-5"], "--rate"), (["devnet", "--bundle", "0"], "--bundle"),
        (["devnet", "--validators", "0"], "--validators"), (["devnet", "--kill", "5s"], "every=5s"),
        (["devnet", "--instruments", "GOLD"], "GOLD"), (["devnet", "--replay", "nowhere"], "--format"),
        (["devnet", "--replay", "nowhere", "--format", "lobster"], "cannot read nowhere"),
        (["devnet", "--seconds", "-1"], "--seconds"), (["node", "--home", "nowhere"], "lockstep init"),
        (["status"], "--home"), (["status", "--home", "nowhere"], "nowhere"),
        (["fate", "xyz", "--home", "x"], "64 hex"),
        (["bench", "speed"], "no benchmark speed"), (["snapshot", "verify", "x", "--root", "12"], "64 hex"),
        (["snapshot", "export", "x", "--home", "nowhere"], "nowhere"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line_and_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], word: str
) -> None:
    assert in_main(monkeypatch, *arguments) == Exit.USAGE
    error = capsys.readouterr().err
    assert word in error
    assert "Traceback" not in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("x"), 2),
        (StorageFailed("x"), 1),
        (ConnectionRefusedError("x"), 3),
        (PermissionError("x"), 3),
    ],
)
def test_every_error_has_its_code(monkeypatch: pytest.MonkeyPatch, error: Exception, code: int) -> None:
    def fail(path: Path) -> Any:
        raise error

    monkeypatch.setattr("lockstep.cli.target.load_home", fail)
    monkeypatch.setattr("lockstep.cli.target.home_of", lambda path: path)
    assert in_main(monkeypatch, "status", "--home", ".") == code


def test_an_unknown_option_is_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    assert in_main(monkeypatch, "devnet", "--speeed", "1") == Exit.USAGE
    assert in_main(monkeypatch, "--version") == Exit.OK


def test_kill_intervals() -> None:
    assert [kill_seconds(text) for text in (None, "every=5s", "every=0.5s", "every=250ms", "every=2m", "every=3")] == [
        None, 5.0, 0.5, 0.25, 120.0, 3.0,
    ]  # fmt: skip
    for wrong in ("every=", "every=0s", "all", "every=5h"):
        with pytest.raises(ConfigurationError):
            kill_seconds(wrong)


def test_the_verdict_needs_agreement_progress_and_no_violation() -> None:
    good = {"roots_agree": True, "commands_committed": 1, "violations": []}
    assert verdict(good) is Exit.OK
    for change in ({"roots_agree": False}, {"commands_committed": 0}, {"violations": ["taken"]}):
        assert verdict({**good, **change}) is Exit.FAILED


# -- networks ------------------------------------------------------------------------------------------


def test_a_network_over_four_machines(tmp_path: Path) -> None:
    """What docs/operations.md says, step by step."""
    homes = [tmp_path / f"machine-{n}" for n in range(4)]
    for n, home in enumerate(homes):
        made = run.invoke(
            app, ["init", "key", str(home), "--name", f"v{n}", "--peers", f"10.0.0.{n}:7000", "--clients",
                  f"10.0.0.{n}:7001"],
        )  # fmt: skip
        assert made.exit_code == 0, made.output
    genesis = tmp_path / "shared" / "genesis.json"
    genesis.parent.mkdir()
    files = [str(home / "validator.json") for home in homes]
    made = run.invoke(app, ["init", "genesis", *files, "--out", str(genesis), "--instruments", "BTC-PERP"])
    assert made.exit_code == 0, made.output
    feed_key = made.output.partition("--feed-key ")[2].split()[0]
    for home in homes:
        joined = run.invoke(app, ["init", "home", str(home), "--genesis", str(genesis), "--feed-key", feed_key])
        assert joined.exit_code == 0, joined.output
    loaded = [load_home(home) for home in homes]
    assert [home.index for home in loaded] == [0, 1, 2, 3]
    assert len({home.genesis.chain_id for home in loaded}) == 1
    assert loaded[2].config.client_listen == "10.0.0.2:7001"
    assert find_target(homes[1], "v3", None).address == "10.0.0.3:7001"
    assert find_target(None, "10.0.0.2:7001", genesis).name == "v2"
    with pytest.raises(ConfigurationError, match="it has v0"):
        find_target(None, "10.0.0.9:1", genesis)
    eve = tmp_path / "eve"
    made = run.invoke(
        app, ["init", "observer", str(eve), "--genesis", str(genesis), "--follow", "10.0.0.1:7000", "--name", "eve",
              "--peers", "10.0.0.8:7000", "--clients", "10.0.0.8:7001"],
    )  # fmt: skip
    assert made.exit_code == 0 and load_home(eve).key.public.hex() in made.output, made.output
    assert load_home(eve).config.follow == ("10.0.0.1:7000",)
    target = find_target(eve, None, None)
    assert (target.name, target.address) == ("eve", "10.0.0.8:7001")
    assert find_target(eve, "v3", None).address == "10.0.0.3:7001"
    again = run.invoke(app, ["init", "genesis", *files, "--out", str(genesis)])
    assert isinstance(again.exception, ConfigurationError)


def test_a_devnet_goes_on_only_with_what_it_was_made_with(tmp_path: Path) -> None:
    plan = Plan()
    homes = open_network(tmp_path, Options(), plan)
    assert [home.path for home in open_network(tmp_path, Options(), plan)] == [home.path for home in homes]
    with pytest.raises(ConfigurationError, match="4 validators, not 3"):
        open_network(tmp_path, Options(validators=3), plan)
    with pytest.raises(ConfigurationError, match="another --seed"):
        open_network(tmp_path, Options(), Plan(seed=2))


# -- snapshots -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with 600 blocks in it, of which a checkpoint covers 512."""
    folder = tmp_path_factory.mktemp("ran") / "network"
    plan = Plan()
    homes = open_network(folder, Options(), plan)
    written = write_long_log(homes, plan.cast(), 600)
    assert written["blocks"] == 600
    return homes[0]


def test_a_snapshot_is_exported_checked_and_refused_when_touched(ran: Home, tmp_path: Path) -> None:
    folder = tmp_path / "snapshot"
    exported = run.invoke(app, ["snapshot", "export", str(folder), "--home", str(ran.path.parent), "--json"])
    assert exported.exit_code == 0, exported.output
    said = json.loads(exported.output)
    assert said["height"] == 512
    checked = run.invoke(app, ["snapshot", "verify", str(folder), "--root", said["state_root"], "--json"])
    assert checked.exit_code == 0, checked.output
    assert json.loads(checked.output)["problems"] == []
    table = folder / "accounts.bin"
    table.write_bytes(table.read_bytes()[:-1] + b"\xff")
    broken = run.invoke(app, ["snapshot", "verify", str(folder)])
    assert broken.exit_code == Exit.FAILED
    assert "accounts.bin" in broken.output
    assert isinstance(
        run.invoke(app, ["snapshot", "export", str(folder), "--home", str(ran.path)]).exception, ConfigurationError
    )


def test_a_home_begins_from_a_snapshot(ran: Home, tmp_path: Path) -> None:
    folder = tmp_path / "snapshot"
    exported = run.invoke(app, ["snapshot", "export", str(folder), "--home", str(ran.path), "--json"])
    assert exported.exit_code == 0, exported.output
    empty = create_home(tmp_path / "empty", ran.genesis, ran.key, ran.config)
    imported = run.invoke(app, ["snapshot", "import", str(folder), "--home", str(empty.path), "--json"])
    assert imported.exit_code == 0, imported.output
    assert json.loads(imported.output)["height"] == 512
    opened = open_files(empty)
    assert opened.restored.header.height == 512 and opened.restored.is_rebuilt
    assert opened.restored.state_root.hex() == json.loads(exported.output)["state_root"]
    for part in (opened.log, opened.history, opened.store):
        part.close()
    again = run.invoke(app, ["snapshot", "import", str(folder), "--home", str(empty.path)])
    assert isinstance(again.exception, ConfigurationError) and "not empty" in str(again.exception)

    table = folder / "orders.bin"
    table.write_bytes(table.read_bytes()[:-1] + b"\xff")
    other = create_home(tmp_path / "other", ran.genesis, ran.key, ran.config)
    refused = run.invoke(app, ["snapshot", "import", str(folder), "--home", str(other.path)])
    assert isinstance(refused.exception, ConfigurationError) and "orders.bin" in str(refused.exception)
    assert not other.checkpoints.exists()


def test_without_a_checkpoint_there_is_nothing_to_export(tmp_path: Path) -> None:
    homes = open_network(tmp_path, Options(), Plan())
    for message in ("has not run yet", "no checkpoint yet"):
        failed = run.invoke(app, ["snapshot", "export", str(tmp_path / "s"), "--home", str(tmp_path)])
        assert message in str(failed.exception)
        Store(homes[0].checkpoints).close()


# -- benchmarks ----------------------------------------------------------------------------------------


def test_bars_and_their_ratios() -> None:
    assert Bar(100, "higher").ratio(150) == 1.5
    assert Bar(5, "lower").ratio(2.5) == 2
    entry = BENCHES["latency"]
    rows = lines("latency", entry, {"value": 7.5, "unit": "ms", "detail": {"p99": 120.0}})
    assert rows[0][2:] == ("7.5 ms", "≤ 15", "2.00")
    assert rows[1][1:] == ("p99", "120 ", "≤ 60", "0.50  missed")


def test_every_benchmark_is_there() -> None:
    for entry in BENCHES.values():
        assert callable(getattr(import_module(entry.module), entry.function)), entry


# -- kernels -------------------------------------------------------------------------------------------


def test_the_stamp_is_left_after_compiling_and_only_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("lockstep.venue.warm.warm_up", lambda: None)
    (tmp_path / "kernels-0000.compiled").touch()
    assert not kernels.are_compiled()
    kernels.compile_all()
    assert kernels.are_compiled()
    assert len(list(tmp_path.glob("*.compiled"))) == 1, "the stamp of older sources is gone"


def test_a_benchmark_says_what_else_went_on() -> None:
    with Conditions() as conditions:
        sum(range(3_000_000))
    found = conditions.found
    assert len(found["loop_ms"]) == 2 and all(ms > 0 for ms in found["loop_ms"])
    assert 0 <= found["steal_percent"] <= 100 and 0 <= found["others_percent"] <= 100
    assert "a fixed loop took 1.0 ms before and 2.0 ms after" in said({"loop_ms": [1.0, 2.0]})
    quiet = {"loop_ms": [1.0, 1.0], "steal_percent": 3.5, "others_percent": 0.0}
    assert said(quiet).startswith("3.5 % of the processors' time was taken by the host and 0.0 % by other")
