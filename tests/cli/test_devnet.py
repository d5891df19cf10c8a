"""Whole devnets, with real processes: they work, they survive kills, and they leave nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

CONTRACT = {
    "validators", "seconds", "blocks", "commands_committed", "commands_per_second", "fills", "finality_ms",
    "final_height", "state_root", "roots_agree", "bundle_size", "durability", "cpu_count", "peak_rss_mib",
}  # fmt: skip


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lockstep.cli", "devnet", "--json", *arguments], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def descendants(words: str) -> list[int]:
    """Processes that have `words` in their command line."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if words in line and "lockstep" in line:
                found.append(int(folder.name))
    return found


def gone_soon(words: str) -> bool:
    deadline = time.monotonic() + 15
    while descendants(words):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def until(child: subprocess.Popen[str], sign: str) -> None:
    """Read standard error until a line holds `sign`."""
    assert child.stderr is not None
    lines = []
    for line in child.stderr:
        lines.append(line)
        if sign in line:
            return
    raise AssertionError(f"the devnet ended before {sign!r}:\n{''.join(lines)}")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "network"
    for process in descendants(str(tmp_path)):
        os.kill(process, signal.SIGKILL)


def test_a_devnet_survives_kills_and_goes_on_where_it_ended(home: Path) -> None:
    child = start("--seconds", "8", "--rate", "1000", "--home", str(home), "--kill", "every=2s")
    out, errors = child.communicate(timeout=200)
    assert child.returncode == 0, errors + out
    first = json.loads(out.splitlines()[-1])
    assert set(first) >= CONTRACT
    assert first["roots_agree"] is True
    assert first["kills"] >= 1, errors
    assert first["commands_committed"] > 0
    assert first["blocks"] > 0
    assert first["heights_compared"] > 0
    assert first["violations"] == []
    assert first["finality_ms"]["p50"] <= first["finality_ms"]["p95"] <= first["finality_ms"]["p99"]
    assert (first["validators"], first["durability"], first["cpu_count"]) == (4, "fsync", os.cpu_count())
    assert len(first["state_root"]) == 64
    assert descendants(str(home)) == []

    child = start("--seconds", "2", "--rate", "500", "--home", str(home))
    out, errors = child.communicate(timeout=200)
    assert child.returncode == 0, errors + out
    second = json.loads(out.splitlines()[-1])
    assert second["final_height"] > first["final_height"]
    assert second["commands_committed"] > 0
    assert second["violations"] == []


def test_ctrl_c_stops_everything_and_prints_the_summary(tmp_path: Path) -> None:
    child = start("--rate", "500")
    until(child, "measuring")
    child.send_signal(signal.SIGINT)
    out, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors + out
    assert json.loads(out.splitlines()[-1])["roots_agree"] is True
    assert gone_soon(f"lockstep.cli.bare {child.pid}")


def test_nodes_die_with_their_parent(home: Path) -> None:
    child = start("--rate", "500", "--home", str(home))
    until(child, "first final block")
    assert len(descendants(f"lockstep.cli.bare {child.pid}")) == 5, "four validators and the driver"
    child.kill()
    child.communicate(timeout=30)
    assert gone_soon(f"lockstep.cli.bare {child.pid}")


def test_a_node_that_cannot_start_is_named(home: Path) -> None:
    child = start("--seconds", "1", "--rate", "500", "--home", str(home))
    child.communicate(timeout=200)
    key = home / "validator-2" / "key"
    key.chmod(0o644)
    child = start("--seconds", "1", "--rate", "500", "--home", str(home))
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 2
    assert errors.strip().splitlines()[-1] == f"lockstep: others can read the key file {key}: run chmod 600 {key}"


@pytest.mark.real_data
def test_a_recording_is_replayed_through_four_validators(shared_data: Path) -> None:
    file = shared_data / "orderflow" / "lobster_aapl_2012-06-21_first_999_messages.csv"
    child = start("--replay", str(file), "--format", "lobster", "--speed", "0")
    out, errors = child.communicate(timeout=250)
    assert child.returncode == 0, errors + out
    replay = json.loads(out.splitlines()[-1])["replay"]
    assert replay["rows_replayed"] == replay["rows"] == 999
    assert replay["outcomes"]["filled"] == replay["recorded_executions"] == 94
    assert not any(name.startswith("rejected") for name in replay["outcomes"])
    assert replay["book"]["asks"]["equal_from_the_top"] >= 1
