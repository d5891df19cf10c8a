"""`lockstep simulate`: the same node software under virtual time, with seeded faults; one seed, or a campaign of many.

Exit codes: 0 every promise was kept, 1 one was violated, 2 wrong usage, 3 the run is void: no fault fired, or hardly
a command became final.
"""

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from lockstep.base.errors import ConfigurationError
from lockstep.cli.planted import planted
from lockstep.simulator.campaign import Job, Report, campaign
from lockstep.simulator.fault import KINDS
from lockstep.simulator.marks import all_marks
from lockstep.simulator.plan import PROFILES, Plan, draw_plan
from lockstep.simulator.run import Result, Run
from lockstep.simulator.shrink import shrink
from lockstep.simulator.story import Story

VOID = 3
app = typer.Typer(help="Run the network under virtual time with seeded faults.", invoke_without_command=True)

_Profile = Annotated[str, typer.Option(help=f"Which faults and which network: {', '.join(PROFILES)}.")]
_Validators = Annotated[int, typer.Option(min=1, max=64, help="How many validators.")]
_Seconds = Annotated[
    int, typer.Option(min=1, max=86_400, help="Virtual seconds with faults; then the network is healed.")
]


@app.callback()
def simulate(
    context: typer.Context,
    seed: Annotated[int, typer.Option(min=0, help="Everything random follows from it.")] = 1,
    validators: _Validators = 7,
    seconds: _Seconds = 60,
    profile: _Profile = "swarm",
    faults: Annotated[str, typer.Option(help="Keep only these faults of the schedule, by number: 3,7; or none.")] = "",
    trace: Annotated[bool, typer.Option("--trace", help="Print the story of the run.")] = False,
    shrink_: Annotated[bool, typer.Option("--shrink", help="Look for fewer faults that still fail.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one object, last.")] = False,
) -> None:
    """Run one seed."""
    if context.invoked_subcommand is not None:
        return
    plan = _chosen(_plan(seed, profile, validators, seconds), faults)
    command = Job(seed, profile, validators, seconds).command
    if shrink_:
        _shrink(plan, command, json_)
        return
    run = Run(plan)
    if trace:
        run.saboteur.on_fault = Story(run.world, print).fault
    result = run.execute()
    if json_:
        print(json.dumps(result.as_json()))
    else:
        _show(result, command)
    raise typer.Exit(1 if result.violations else VOID if result.is_void else 0)


@app.command("campaign")
def campaign_(
    seeds: Annotated[str, typer.Option(help="A range, both ends included: 1..100.")],
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes at work at a time.")] = 1,
    validators: _Validators = 4,
    seconds: _Seconds = 10,
    profile: Annotated[str, typer.Option(help=f"{', '.join(PROFILES)}, or all in turn.")] = "all",
    json_: Annotated[bool, typer.Option("--json", help="Print one object, last.")] = False,
) -> None:
    """Run many seeds, and print what was exercised and what failed."""
    first, last = _range(seeds)
    profiles = PROFILES if profile == "all" else (_known(profile),)
    jobs = [Job(s, profiles[s % len(profiles)], validators, seconds) for s in range(first, last + 1)]
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as shown:
        task = shown.add_task("seeds", total=len(jobs))

        def progress(job: Job, result: dict[str, Any], so_far: Report) -> None:
            shown.advance(task)
            shown.update(task, description=f"seeds, {len(so_far.failures)} failed")
            if so_far.failures and so_far.failures[-1]["seed"] == job.seed:
                console.print(f"violation: {job.command}", style="red")

        report = campaign(jobs, workers, progress)
    never = [mark for mark in all_marks() if mark not in report.marks]
    if json_:
        print(json.dumps(report.as_json(never)))
    else:
        _show_campaign(report, never)
    raise typer.Exit(1 if report.failures else VOID if report.void == report.runs else 0)


app.command("planted")(planted)


# -- options ---------------------------------------------------------------------------------------------


def _known(profile: str) -> str:
    if profile not in PROFILES:
        raise ConfigurationError(f"there is no profile {profile}; there are {', '.join(PROFILES)}")
    return profile


def _plan(seed: int, profile: str, validators: int, seconds: int) -> Plan:
    return draw_plan(seed, _known(profile), validators, seconds)


def _chosen(plan: Plan, faults: str) -> Plan:
    """Only the faults of these numbers."""
    if not faults:
        return plan
    try:
        kept = frozenset(int(part) for part in faults.split(",")) if faults != "none" else frozenset()
    except ValueError as error:
        raise ConfigurationError(f"--faults takes numbers with commas between them, or none; not {faults}") from error
    return plan.without(frozenset(range(len(plan.faults))) - kept)


def _range(text: str) -> tuple[int, int]:
    first, dots, last = text.partition("..")
    try:
        low, high = int(first), int(last if dots else first)
    except ValueError as error:
        raise ConfigurationError(f"--seeds takes a range like 1..100, not {text}") from error
    if not 0 <= low <= high:
        raise ConfigurationError(f"--seeds: {text} is empty")
    return low, high


# -- showing ---------------------------------------------------------------------------------------------


def _show(result: Result, command: str) -> None:
    plan = result.plan
    print(
        f"seed {plan.seed}: {plan.profile}, {plan.validators} validators, latencies {result.latencies}, "
        f"faulty {list(plan.faulty)} {plan.behaviours or ''}"
    )
    print(
        f"{result.virtual_us / 1e6:.1f} virtual seconds, {result.events:,} events in {result.wall_seconds:.1f} s, "
        f"height {result.final_height}, {result.commands_committed:,} commands, audit {result.audit.hex()[:16]}"
    )
    print("faults: " + (", ".join(f"{kind} {count}" for kind, count in sorted(result.faults.items())) or "none"))
    for phase in result.history.phases:
        verdict = "passed" if phase.passed else f"failed: {phase.detail}"
        print(f"{phase.name}: {(phase.to_us - phase.from_us) / 1e6:.1f} s, {verdict}")
    for violation in result.violations:
        print(f"VIOLATION {violation.name}: {violation.text}")
    if result.violations:
        print(f"again: {command}")
    elif result.is_void:
        print("void: no fault fired, or too few commands became final")


def _show_campaign(report: Report, never: list[str]) -> None:
    console = Console()
    table = Table("fault", "seeds", "fired", "events", "violations")
    for kind, tally in sorted(report.faults.items()):
        table.add_row(kind, str(tally.seeds), f"{tally.fired:,}", f"{tally.events:,}", str(tally.violations))
    console.print(table)
    unused = [kind for kind in KINDS if kind not in report.faults]
    if unused:
        print("faults that never fired: " + ", ".join(unused))
    print("marks never reached: " + (", ".join(never) or "none"))
    print(
        f"{report.runs} seeds ({report.reruns} run twice, {report.void} void), {report.virtual_seconds:,.0f} virtual "
        f"seconds, {report.events:,} events, {report.commands:,} commands, {len(report.failures)} with violations"
    )
    for failure in report.failures:
        print(failure["command"])
        for violation in failure["violations"]:
            print(f"    {violation['name']}: {violation['text']}")


def _shrink(plan: Plan, command: str, json_: bool) -> None:
    try:
        kept = shrink(plan, lambda text: print(text, file=sys.stderr))
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    numbers = ",".join(map(str, kept)) or "none"
    if json_:
        print(json.dumps({"seed": plan.seed, "faults": kept, "command": f"{command} --faults {numbers}"}))
        return
    for number in kept:
        fault = plan.faults[number]
        print(f"{number}: {fault.kind} at {fault.at_us / 1e6:.3f} s, node {fault.node}, {fault.length_us / 1e6:.3f} s")
    print(f"again: {command} --faults {numbers}")
