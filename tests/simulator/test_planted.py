"""Planted bugs: every patch still fits the sources, and those that show at once are found here, in every build."""

import shutil
from pathlib import Path

import pytest

import lockstep
from lockstep.base.errors import ConfigurationError
from lockstep.cli.planted import Hunk, Planted, hunt, plant, read_patch
from lockstep.simulator.byzantine import BEHAVIOURS
from lockstep.simulator.checkers import CHECKERS
from lockstep.simulator.plan import PROFILES

PACKAGE = Path(lockstep.__file__).parent
PATCHES = sorted((Path(__file__).parent / "planted").glob("*.patch"))
OTHER_NAMES = {"determinism", "halted", "failed", "storage", "stuck"}
"""Violations that a run reports by itself."""


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.stem)
def test_every_patch_fits_and_says_what_it_needs(path: Path, tmp_path: Path) -> None:
    bug = read_patch(path)
    assert bug.what and bug.profile in PROFILES and (not bug.needs or bug.needs in BEHAVIOURS)
    assert bug.caught_by and set(bug.caught_by) <= {*CHECKERS, *OTHER_NAMES}
    touched = {hunk.file for hunk in bug.hunks}
    for file in touched:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACKAGE.parent / file, tmp_path / file)
    plant(bug, tmp_path)
    for file in touched:
        assert (tmp_path / file).read_text() != (PACKAGE.parent / file).read_text()
        compile((tmp_path / file).read_text(), file, "exec")
    assert bug.is_kernel == any(file.startswith("lockstep/venue/") for file in touched)


def test_there_are_enough_of_them_and_a_slice_for_every_build() -> None:
    bugs = [read_patch(path) for path in PATCHES]
    assert len(bugs) >= 12
    assert 2 <= sum(bug.is_slice for bug in bugs) <= 6


def test_a_patch_that_no_longer_fits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file.py").write_text("a = 1\n")
    bug = Planted("name", "what", "swarm", (), "", False, False, (Hunk("file.py", "b = 1\n", "b = 2\n"),))
    with pytest.raises(ConfigurationError, match="no longer fits"):
        plant(bug, tmp_path)
    (tmp_path / "name.patch").write_text("not a patch\n")
    with pytest.raises(ConfigurationError, match="is not a patch"):
        read_patch(tmp_path / "name.patch")


@pytest.mark.parametrize("path", [p for p in PATCHES if read_patch(p).is_slice], ids=lambda path: path.stem)
def test_the_slice_is_found(path: Path) -> None:
    bug = read_patch(path)
    found = hunt(bug, 3, PACKAGE, seconds=3)
    assert found.seed is not None and set(found.found_by) & set(bug.caught_by), found
