"""`lockstep chaos`: a network of real processes, disturbed by seeded faults, judged by the simulator's checkers.

Exit codes: 0 every promise was kept, 1 one was violated, 2 wrong usage, 3 the run is void: no fault fired, or hardly a
command became final.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from lockstep.base.errors import ConfigurationError
from lockstep.cli import Exit

if TYPE_CHECKING:
    from lockstep.chaos.run import Result

_VOID: Final = 3
_HELP: Final = "process, network, disk, or all of them mixed."


def chaos(
    seeds: Annotated[str, typer.Option(help="One seed, or a range with both ends: 1..20.")] = "1",
    profile: Annotated[str, typer.Option(help=_HELP)] = "all",
    validators: Annotated[int, typer.Option(min=4, max=16, help="How many processes.")] = 4,
    seconds: Annotated[int, typer.Option(min=1, max=86_400, help="With faults; then everything is healed.")] = 20,
    home: Annotated[Path | None, typer.Option(help="Keep what every run leaves in this folder.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one object, last.")] = False,
) -> None:
    """Kill, stop, cut off and starve real nodes; heal them; then check what every client was told and every disk holds.

    A seed fixes the faults, not the time that processes take: a violation keeps its folder, to be looked at."""
    from lockstep.chaos.plan import PROFILES, draw_plan

    if profile not in PROFILES:
        raise ConfigurationError(f"there is no profile {profile}; there are {', '.join(PROFILES)}")
    results: list[dict[str, Any]] = []
    for seed in _range(seeds):
        folder = home / f"{profile}-{seed}" if home else Path(tempfile.mkdtemp(prefix=f"lockstep-chaos-{seed}-"))
        result = _run(folder, draw_plan(seed, profile, validators, seconds))
        if home is None and not result.violations:
            shutil.rmtree(folder)
        results.append(result.as_json())
        if not json_:
            _show(result)
    if json_:
        print(json.dumps(results[0] if len(results) == 1 else _campaign(results)))
    violated = any(result["violations"] for result in results)
    raise typer.Exit(Exit.FAILED if violated else _VOID if all(result["void"] for result in results) else Exit.OK)


def _run(folder: Path, plan: Any) -> "Result":
    import uvloop

    from lockstep.chaos.run import execute

    is_terminal = sys.stderr.isatty()

    def tell(text: str) -> None:
        if is_terminal:
            print(f"\r\033[Kseed {plan.seed}: {text}", end="", file=sys.stderr, flush=True)

    result = uvloop.run(execute(plan, folder, tell))
    if is_terminal:
        print("\r\033[K", end="", file=sys.stderr)
    return result


def _range(text: str) -> range:
    first, dots, last = text.partition("..")
    try:
        low, high = int(first), int(last if dots else first)
    except ValueError as error:
        raise ConfigurationError(f"--seeds takes a seed or a range like 1..20, not {text}") from error
    if not 0 <= low <= high:
        raise ConfigurationError(f"--seeds: {text} is empty")
    return range(low, high + 1)


def _campaign(results: list[dict[str, Any]]) -> dict[str, Any]:
    faults: dict[str, int] = {}
    for result in results:
        for kind, count in result["faults"].items():
            faults[kind] = faults.get(kind, 0) + count
    return {
        "runs": len(results),
        "void": sum(result["void"] for result in results),
        "failures": [result for result in results if result["violations"]],
        "faults": dict(sorted(faults.items())),
        "starts": sum(sum(result["starts"]) for result in results),
        "blocks": sum(result["final_height"] for result in results),
        "commands_committed": sum(result["commands_committed"] for result in results),
        "answers": sum(result["answers"] for result in results),
        "seconds": round(sum(result["seconds"] for result in results), 1),
    }


def _show(result: "Result") -> None:
    found = result.as_json()
    faults = ", ".join(f"{kind} {count}" for kind, count in found["faults"].items()) or "none"
    healed = next((phase for phase in found["phase_results"] if phase["name"] == "liveness"), None)
    print(
        f"seed {found['seed']}: {found['final_height']} blocks, {found['commands_committed']} commands, "
        f"{found['acknowledged']} bundles acknowledged, {sum(found['starts'])} starts, healed in "
        f"{healed['seconds'] if healed else 0:.1f} s, {found['seconds']} s in all{', void' if found['void'] else ''}"
    )
    print(f"  faults: {faults}")
    for violation in found["violations"]:
        print(f"  VIOLATION {violation['name']}: {violation['text']}")
    if found["violations"]:
        print(f"  left in {found['directory']}")
