"""`lockstep simulate planted`: does the campaign find bugs that are known to be there?

Each patch plants one bug. It is applied to a copy of this package, and seeds are run on the copy, one after the other,
until one shows a violation: in processes of their own, with the kernels that are compiled already, unless the patch
changes a kernel. The seed that shows it must show nothing without it. A campaign that misses a planted bug would miss
a real one.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

import lockstep
from lockstep.base.errors import ConfigurationError, LockstepError

SEEDS_MAX: Final = 40
_HASH_SEEDS: Final = ("1", "2")
_VALIDATORS: Final = 4
_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class Hunk:
    """Lines of one file that become others, wherever in the file they stand."""

    file: str
    """Below `src/`."""
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Planted:
    """One bug."""

    name: str
    what: str
    profile: str
    caught_by: tuple[str, ...]
    """Checkers that may find it."""
    is_kernel: bool
    is_slice: bool
    """Found so soon that every build looks for it."""
    hunks: tuple[Hunk, ...]


@dataclass(frozen=True, slots=True)
class Hunt:
    """What became of the search for one bug."""

    name: str
    seed: int | None
    """The first seed that showed it; None when none did."""
    seconds: float
    found_by: tuple[str, ...]


def read_patch(path: Path) -> Planted:
    """A unified diff against the sources, with a few lines of text before it; raises `ConfigurationError`."""
    head, _, diff = path.read_text().partition("\n--- ")
    lines = head.splitlines()
    fields = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    hunks: list[Hunk] = []
    file = ""
    for line in ("--- " + diff).splitlines(keepends=True):
        if line.startswith("+++ b/src/"):
            file = line.removeprefix("+++ b/src/").strip()
        elif line.startswith("@@"):
            hunks.append(Hunk(file, "", ""))
        elif hunks and line[:1] in " +-" and not line.startswith("--- "):
            last = hunks[-1]
            before = last.before + line[1:] * (line[0] in " -")
            hunks[-1] = Hunk(file, before, last.after + line[1:] * (line[0] in " +"))
    if not hunks or not file or "profile" not in fields:
        raise ConfigurationError(f"{path} is not a patch with a profile and a diff against src/")
    return Planted(
        path.stem, lines[0], fields["profile"], tuple(fields.get("caught by", "").split()), "kernels" in fields,
        "slice" in fields, tuple(hunks),
    )  # fmt: skip


def plant(bug: Planted, source: Path) -> None:
    """Change the sources below `source`; raises `ConfigurationError` when they are no longer those of the patch."""
    for hunk in bug.hunks:
        path = source / hunk.file
        text = path.read_text()
        if text.count(hunk.before) != 1:
            raise ConfigurationError(f"planted bug {bug.name}: the patch no longer fits {hunk.file}; make it anew")
        path.write_text(text.replace(hunk.before, hunk.after))


def hunt(bug: Planted, seeds_max: int, package: Path, seconds: int = _SECONDS) -> Hunt:
    """Run seeds on a copy of the package with the bug in it, until one shows it."""
    with tempfile.TemporaryDirectory(prefix="lockstep-planted-") as folder:
        source = Path(folder) / "checkout" / "src"
        shutil.copytree(package, source / package.name)  # with times of change: Numba's cache goes by them
        plant(bug, source)
        began = time.monotonic()
        for seed in range(1, seeds_max + 1):
            found = _run(bug, seed, seconds, source)
            if found:
                clean = _run(bug, seed, seconds, package.parent)
                if clean:
                    raise LockstepError(f"seed {seed} of {bug.profile} fails without a planted bug too: {clean}")
                return Hunt(bug.name, seed, round(time.monotonic() - began, 1), found)
        return Hunt(bug.name, None, round(time.monotonic() - began, 1), ())


def _run(bug: Planted, seed: int, seconds: int, source: Path) -> tuple[str, ...]:
    """Names of what was violated by one seed; `determinism` when two processes disagree about what happens."""
    hashes = []
    for hash_seed in _HASH_SEEDS if "determinism" in bug.caught_by else _HASH_SEEDS[:1]:
        answer = _simulate(bug.profile, seed, seconds, source, hash_seed)
        if isinstance(answer, str):
            return (f"crash: {answer}",)
        if answer["violations"]:
            return tuple(dict.fromkeys(violation["name"] for violation in answer["violations"]))
        hashes.append(answer["audit_hash"])
    return ("determinism",) if len(set(hashes)) > 1 else ()


def _simulate(profile: str, seed: int, seconds: int, source: Path, hash_seed: str) -> dict[str, Any] | str:
    """The run's report, or how its process failed."""
    arguments = ["simulate", "--seed", str(seed), "--profile", profile, "--validators", str(_VALIDATORS),
                 "--seconds", str(seconds), "--json"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(source), "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-m", "lockstep.cli", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    if not lines or not lines[-1].startswith("{"):
        return done.stderr.strip().rpartition("\n")[2]
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def planted(
    only: Annotated[list[str] | None, typer.Option(help="Names of bugs; all if left out.")] = None,
    patches: Annotated[Path, typer.Option(help="The folder of patches.")] = Path("tests/simulator/planted"),
    seeds: Annotated[int, typer.Option(min=1, help="Seeds to try before giving up.")] = SEEDS_MAX,
    json_: Annotated[bool, typer.Option("--json", help="Print one object, last.")] = False,
) -> None:
    """Plant known bugs, one at a time, and see how soon the simulator finds each."""
    bugs = [read_patch(path) for path in sorted(patches.glob("*.patch"))]
    chosen = [bug for bug in bugs if not only or bug.name in only]
    if not chosen or (only and len(chosen) < len(only)):
        names = ", ".join(bug.name for bug in bugs)
        raise ConfigurationError(f"no such planted bug in {patches}; there are: {names or 'none'}")
    package = Path(lockstep.__file__).parent
    hunts = []
    for bug in chosen:
        hunts.append(hunt(bug, seeds, package))
        sys.stderr.write(f"{bug.name}: {_verdict(hunts[-1])}\n")
    if json_:
        print(json.dumps({
            h.name: {"seed": h.seed, "seconds": h.seconds, "found_by": list(h.found_by)} for h in hunts
        }))  # fmt: skip
    else:
        table = Table("planted bug", "what", "found")
        for bug, found in zip(chosen, hunts, strict=True):
            table.add_row(bug.name, bug.what, _verdict(found))
        Console().print(table)
    raise typer.Exit(0 if all(found.seed is not None for found in hunts) else 1)


def _verdict(found: Hunt) -> str:
    if found.seed is None:
        return f"NOT FOUND in {found.seconds:g} s"
    return f"by seed {found.seed}, after {found.seconds:g} s: {', '.join(found.found_by)}"
