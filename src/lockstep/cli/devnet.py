"""`lockstep devnet`: a whole network on this machine, with a market on it. The main job."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from lockstep.base.errors import ConfigurationError
from lockstep.base.limits import VALIDATORS_MAX
from lockstep.cli import Exit
from lockstep.cli.session import Options, run_session
from lockstep.dashboard.view import make_view
from lockstep.market.plan import Plan

OBSERVERS_MAX: Final = 64


def devnet(
    validators: Annotated[int, typer.Option(help="How many validators, each a process.")] = 4,
    observers: Annotated[int, typer.Option(help="How many nodes that follow without voting.")] = 0,
    seconds: Annotated[float | None, typer.Option(help="How long to measure; until Ctrl-C if left out.")] = None,
    rate: Annotated[int, typer.Option(help="Commands a second offered; 0: as fast as they are accepted.")] = 5_000,
    bundle: Annotated[int, typer.Option(help="Commands a bundle at most (fewer at low rates).")] = 256,
    home: Annotated[Path | None, typer.Option(help="Keep the network in this folder, or go on with it.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of prices, orders and traders' keys.")] = 1,
    kill: Annotated[str | None, typer.Option(help="every=5s: kill and restart a random validator.")] = None,
    instruments: Annotated[str, typer.Option(help="Names, separated by commas; all if left out.")] = "",
    replay: Annotated[Path | None, typer.Option(help="Recorded order flow instead of the seeded market.")] = None,
    format_: Annotated[str | None, typer.Option("--format", help="Of the recording: lobster or bitstamp-l3.")] = None,
    speed: Annotated[float, typer.Option(help="Of the replay: 1 is recorded time, 0 as fast as possible.")] = 1.0,
    durability: Annotated[str, typer.Option(help="fsync, or write (survives the process only).")] = "fsync",
    retention: Annotated[str, typer.Option(help="archive (keep everything), full or pruned.")] = "archive",
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object last on standard output.")] = False,
) -> None:
    """Start validators and a market, and watch. Ctrl-C stops everything and prints a summary."""
    if not 1 <= validators <= VALIDATORS_MAX:
        raise ConfigurationError(f"--validators is 1 to {VALIDATORS_MAX}, not {validators}")
    if not 0 <= observers <= OBSERVERS_MAX:
        raise ConfigurationError(f"--observers is 0 to {OBSERVERS_MAX}, not {observers}")
    options = Options(validators, home, kill_seconds(kill), durability, retention, observers)

    plan = Plan(
        seed=seed, rate=rate, bundle=bundle, seconds=seconds, instruments=instruments,
        replay=str(replay) if replay else None, format=format_, speed=speed,
    )  # fmt: skip
    with make_view(json_) as view:
        result = run_session(options, plan, view)
    if json_:
        print(json.dumps(result))
    else:
        print_summary(result)
    raise typer.Exit(verdict(result))


def kill_seconds(text: str | None) -> float | None:
    """`every=5s` → 5.0; raises `ConfigurationError`."""
    if text is None:
        return None
    match = re.fullmatch(r"every=(\d+(?:\.\d+)?)(ms|s|m)?", text)
    if match is None or float(match[1]) <= 0:
        raise ConfigurationError(f"--kill is written every=5s, not {text!r}")
    return float(match[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[match[2] or "s"]


def verdict(result: dict[str, Any]) -> Exit:
    """Whether everything that was promised held."""
    fine = result["roots_agree"] and result["commands_committed"] > 0 and not result["violations"]
    return Exit.OK if fine else Exit.FAILED


def print_summary(result: dict[str, Any]) -> None:
    """The summary for people."""
    table = Table(title="summary", title_justify="left", show_header=False, box=None, padding=(0, 2))
    finality = result["finality_ms"]
    roots = f"agree at every one of {result['heights_compared']:,} compared heights"
    rows = {
        "commands committed": f"{result['commands_committed']:,} in {result['seconds']:.1f} s measured",
        "commands/s": f"{result['commands_per_second']:,.0f} (bundles of {result['bundle_size']})",
        "fills": f"{result['fills']:,}",
        "blocks": f"{result['blocks']:,}",
        "finality": f"p50 {finality['p50']} ms, p95 {finality['p95']} ms, p99 {finality['p99']} ms",
        "final height": f"{result['final_height']:,}",
        "state root": result["state_root"],
        "roots": roots if result["roots_agree"] else "DO NOT AGREE",
        "durability": result["durability"],
        **_observers(result),
        "memory": f"{result['peak_rss_mib']} MiB at most a validator",
        "kills": str(result["kills"]),
        "refused and tried again": _counts(result["refused"]),
        "bad traffic refused": _counts(result["bad_traffic_refused"]),
        "sampled outcomes": _counts(result["sampled_outcomes"]),
        "violations": "; ".join(result["violations"]) or "none",
    }
    if "replay" in result:
        rows["replay"] = json.dumps(result["replay"], indent=2)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)


def _observers(result: dict[str, Any]) -> dict[str, str]:
    if "observers" not in result:
        return {}
    nodes, delays = result["observers"]["nodes"], result["observers"]["follow_ms"]
    states = _counts(Counter(node["state"] for node in nodes))
    sent = max(one["observers"] for one in result["bytes_out"])
    return {
        "observers": f"{states}; final p50 {delays['p50']} ms, p99 {delays['p99']} ms after the first validator",
        "sent to them": f"{sent >> 20:,} MiB at most by a validator",
    }


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"
