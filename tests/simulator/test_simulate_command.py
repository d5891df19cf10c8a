"""`lockstep simulate` from the outside: output, JSON, exit codes."""

import json

import pytest
from typer.testing import CliRunner

from lockstep.cli.app import app
from lockstep.cli.benches import BENCHES
from lockstep.simulator.history import Violation
from lockstep.simulator.run import Result, Run

runner = CliRunner()
SMALL = ["--validators", "4", "--seconds", "2"]


def test_one_seed_as_json_has_every_field_and_comes_out_the_same_again() -> None:
    answers = [runner.invoke(app, ["simulate", "--seed", "2", "--profile", "lan", *SMALL, "--json"]) for _ in range(2)]
    first, second = (json.loads(answer.stdout.splitlines()[-1]) for answer in answers)
    assert {
        "seed", "audit_hash", "virtual_seconds", "events", "events_per_second", "faults", "final_height",
        "commands_committed", "violations", "phase_results",
    } <= set(first)  # fmt: skip
    assert first["latencies"] == "lan, synthetic"
    assert first["audit_hash"] == second["audit_hash"] and first["seed"] == 2
    assert answers[0].exit_code == (3 if first["void"] else 0)


def test_a_trace_tells_the_story_in_order_of_time() -> None:
    answer = runner.invoke(app, ["simulate", "--seed", "2", "--profile", "disk", *SMALL, "--trace"])
    lines = [line for line in answer.stdout.splitlines() if " node " in line or " fault " in line]
    times = [float(line.split()[0]) for line in lines]
    assert times == sorted(times) and len(lines) > 10
    assert any("starts at height 0" in line for line in lines)
    assert any("is final" in line for line in lines)
    assert any("are healed" in line for line in lines)


def test_a_violation_is_told_with_the_command_that_shows_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Run.execute

    def spoiled(self: Run) -> Result:
        result = real(self)
        result.violations.append(Violation("agreement", "two blocks at height 3", 7))
        return result

    monkeypatch.setattr(Run, "execute", spoiled)
    answer = runner.invoke(app, ["simulate", "--seed", "2", "--profile", "lan", *SMALL])
    assert answer.exit_code == 1
    assert "VIOLATION agreement: two blocks at height 3" in answer.stdout
    assert "again: lockstep simulate --seed 2 --profile lan --validators 4 --seconds 2" in answer.stdout


def test_without_faults_a_run_is_void() -> None:
    answer = runner.invoke(app, ["simulate", "--seed", "2", "--profile", "lan", *SMALL, "--faults", "none", "--json"])
    told = json.loads(answer.stdout.splitlines()[-1])
    assert answer.exit_code == (3 if told["void"] else 0)
    assert not {"kill", "power", "pause", "partition"} & set(told["faults"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["simulate", "--profile", "sunshine"],
        ["simulate", "--faults", "one", *SMALL],
        ["simulate", "campaign", "--seeds", "9..1"],
        ["simulate", "campaign", "--seeds", "some"],
    ],
)
def test_wrong_options_are_said(arguments: list[str]) -> None:
    answer = runner.invoke(app, arguments)
    assert answer.exit_code != 0 and type(answer.exception).__name__ == "ConfigurationError"


def test_a_campaign_reports_as_a_table_and_as_json() -> None:
    arguments = ["simulate", "campaign", "--seeds", "1..2", "--validators", "4", "--seconds", "1"]
    shown = runner.invoke(app, arguments)
    assert "fault" in shown.stdout and "2 seeds" in shown.stdout and "marks never reached" in shown.stdout
    told = json.loads(runner.invoke(app, [*arguments, "--json"]).stdout.splitlines()[-1])
    assert told["runs"] == 2 and told["failures"] == [] and told["marks_never_reached"]


def test_the_benchmark_of_speed_is_there() -> None:
    assert BENCHES["simulator-speed"].bar.limit == 20_000
