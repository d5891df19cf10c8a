"""`lockstep bench`: the figures, with the machine that they were measured on."""

import json
import os
import platform
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from lockstep.base.errors import ConfigurationError
from lockstep.cli.benches import BENCHES, Bar, Bench
from lockstep.cli.conditions import Conditions


def bench(
    names: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(BENCHES)}; all if left out.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print {name: {value, unit, detail}}.")] = False,
) -> None:
    """Measure. Figures depend on the machine and on what else it does: both are printed."""
    chosen = names or list(BENCHES)
    unknown = [name for name in chosen if name not in BENCHES]
    if unknown:
        raise ConfigurationError(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    before = machine()
    if not json_:
        print(describe(before))
    results: dict[str, Any] = {}
    for name in chosen:
        sys.stderr.write(f"{name}: {BENCHES[name].what}\n")
        with Conditions() as conditions:
            results[name] = BENCHES[name].run()
        results[name]["detail"]["conditions"] = conditions.found
    if json_:
        print(json.dumps(results))
    else:
        Console().print(table(results))
        for name, result in results.items():
            print(f"{name}: {said(result['detail']['conditions'])}")


def table(results: dict[str, Any]) -> Table:
    """One line a bar."""
    shown = Table("benchmark", "what", "value", "bar", "ratio")
    for name, result in results.items():
        for line in lines(name, BENCHES[name], result):
            shown.add_row(*line)
    return shown


def lines(name: str, entry: Bench, result: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """(name, what, value, bar, ratio) for the value and for each figure in the detail that has a bar."""
    rows = [(name, entry.what, float(result["value"]), str(result["unit"]), entry.bar)]
    rows += [("", key, float(result["detail"][key]), "", bar) for key, bar in entry.more.items()]
    return [(first, what, f"{value:,.4g} {unit}" if abs(value) < 1000 else f"{value:,.0f} {unit}", _limit(bar),
             f"{bar.ratio(value):.2f}{'' if bar.ratio(value) >= 1 else '  missed'}")
            for first, what, value, unit, bar in rows]  # fmt: skip


def _limit(bar: Bar) -> str:
    return f"{'≥' if bar.better == 'higher' else '≤'} {bar.limit:,g}"


def said(conditions: dict[str, Any]) -> str:
    """One line about the conditions of a measurement."""
    before, after = conditions["loop_ms"]
    shares = (
        f"{conditions['steal_percent']} % of the processors' time was taken by the host and "
        f"{conditions['others_percent']} % by other processes; "
        if "steal_percent" in conditions
        else ""
    )
    return f"{shares}a fixed loop took {before} ms before and {after} ms after"


def machine() -> dict[str, Any]:
    """What this runs on."""
    return {
        "cpu": _first("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory": _first("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": load_average(),
    }


def describe(found: dict[str, Any]) -> str:
    """One line."""
    return (
        f"{found['cpu']}, {found['cores']} cores, {found['memory']} memory, Linux {found['kernel']}, "
        f"Python {found['python']}, load average {found['load_average']}"
    )


def load_average() -> str:
    """Of 1, 5 and 15 minutes."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def _first(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "unknown")
