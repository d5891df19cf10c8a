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
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

import lockstep
from lockstep.base.errors import ConfigurationError, LockstepError
from lockstep.simulator.plan import draw_plan

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
    needs: str
    """A Byzantine behaviour without which it can't show; empty for none. Seeds that lack it are passed over."""
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
    tried: int
    """Seeds run."""
    seconds: float
    found_by: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """One object."""
        return {"seed": self.seed, "tried": self.tried, "seconds": self.seconds, "found_by": list(self.found_by)}


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
        path.stem, lines[0], fields["profile"], tuple(fields.get("caught by", "").split()),
        fields.get("needs", ""), "kernels" in fields, "slice" in fields, tuple(hunks),
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
        tried = 0
        with _Workers(bug, source) as workers:
            for seed in _seeds(bug, seeds_max, seconds):
                tried += 1
                found = workers.violated(seed, seconds)
                took = round(time.monotonic() - began, 1)
                if found:
                    _check_clean(bug, seed, seconds, package.parent)
                    return Hunt(bug.name, seed, tried, took, found)
        return Hunt(bug.name, None, tried, round(time.monotonic() - began, 1), ())


def _seeds(bug: Planted, most: int, seconds: int) -> Iterator[int]:
    """The first seeds whose plan has a validator that misbehaves in the way that the bug needs, if it needs one."""
    suited = (
        seed for seed in count(1)
        if not bug.needs or bug.needs in draw_plan(seed, bug.profile, _VALIDATORS, seconds).behaviours.values()
    )  # fmt: skip
    return islice(suited, most)


def _check_clean(bug: Planted, seed: int, seconds: int, source: Path) -> None:
    """What the seed shows must come from the planted bug; raises `LockstepError` when it doesn't."""
    with _Workers(bug, source) as workers:
        found = workers.violated(seed, seconds)
    if found:
        raise LockstepError(f"seed {seed} of {bug.profile} fails without a planted bug too: {', '.join(found)}")


class _Workers:
    """Processes that run seeds with one tree of sources, under different hash seeds."""

    def __init__(self, bug: Planted, source: Path) -> None:
        self._bug = bug
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "lockstep.simulator.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                text=True, env={**os.environ, "PYTHONPATH": str(source), "PYTHONHASHSEED": hash_seed},
            )
            for hash_seed in (_HASH_SEEDS if "determinism" in bug.caught_by else _HASH_SEEDS[:1])
        ]  # fmt: skip

    def __enter__(self) -> "_Workers":
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()

    def violated(self, seed: int, seconds: int) -> tuple[str, ...]:
        """Names of what was violated by one seed; `determinism` when two processes disagree about what happens."""
        job = {"seed": seed, "profile": self._bug.profile, "validators": _VALIDATORS, "seconds": seconds}
        hashes = []
        for process in self._processes:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            answer: dict[str, Any] = json.loads(line) if line else {"crashed": "the process ended"}
            if "crashed" in answer:
                return (f"crash: {answer['crashed'].strip().splitlines()[-1]}",)
            if answer["violations"]:
                return tuple(dict.fromkeys(violation["name"] for violation in answer["violations"]))
            hashes.append(answer["audit_hash"])
        return ("determinism",) if len(set(hashes)) > 1 else ()


def planted(
    only: Annotated[list[str] | None, typer.Option(help="Names of bugs; all if left out.")] = None,
    patches: Annotated[Path, typer.Option(help="The folder of patches.")] = Path("tests/simulator/planted"),
    seeds: Annotated[int, typer.Option(min=1, help="Seeds to try before giving up.")] = SEEDS_MAX,
    seconds: Annotated[int, typer.Option(min=1, help="Virtual seconds of each seed.")] = _SECONDS,
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
        hunts.append(hunt(bug, seeds, package, seconds))
        sys.stderr.write(f"{bug.name}: {_verdict(hunts[-1])}\n")
    if json_:
        print(json.dumps({found.name: found.as_json() for found in hunts}))
    else:
        table = Table("planted bug", "what", "found")
        for bug, found in zip(chosen, hunts, strict=True):
            table.add_row(bug.name, bug.what, _verdict(found))
        Console().print(table)
    raise typer.Exit(0 if all(found.seed is not None for found in hunts) else 1)


def _verdict(found: Hunt) -> str:
    if found.seed is None:
        return f"NOT FOUND by {found.tried} seeds in {found.seconds:g} s"
    return f"by seed {found.seed}, the {found.tried}. tried, in {found.seconds:g} s: {', '.join(found.found_by)}"
