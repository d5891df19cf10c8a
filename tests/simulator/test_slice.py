"""The slice of the campaign that every build runs: fixed seeds, and seeds that each commit draws anew.

A failure prints the command that runs the seed again. Longer: `lockstep simulate campaign`.
"""

import subprocess
from pathlib import Path

import pytest

from lockstep.base.digest import digest
from lockstep.simulator.plan import PROFILES, draw_plan
from lockstep.simulator.run import Run

SECONDS = 6
VALIDATORS = 4
FIXED = (2, 7)


def commit() -> str:
    """The checkout's commit; empty outside a repository."""
    root = Path(__file__).resolve().parents[2]
    found = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def drawn(profile: str) -> int:
    """A seed that this commit has to itself."""
    return 1_000_000 + int.from_bytes(digest(f"{commit()} {profile}".encode())[:4], "big")


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("kind", [*FIXED, "of this commit"])
def test_a_seed_shows_nothing(profile: str, kind: int | str) -> None:
    seed = kind if isinstance(kind, int) else drawn(profile)
    result = Run(draw_plan(seed, profile, VALIDATORS, SECONDS)).execute()
    again = f"lockstep simulate --seed {seed} --profile {profile} --validators {VALIDATORS} --seconds {SECONDS} --trace"
    assert result.violations == [], f"{result.violations}\n{again}"
