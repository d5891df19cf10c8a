"""A process that dies anywhere in an installation leaves the old state or the new one, never a mixture."""

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import lmdb
import pytest

from lockstep.runtime import fold
from lockstep.runtime.store import Store
from tests.runtime.test_store_tables import Life, Tables, check_store, meta

KILLED = 9


def steps_of(folder: Path, height: int, tables: Tables, last: int) -> int:
    """Install in a process of its own, which dies at its step `last`; returns how many it made, -1 if it died.
    A step is a call of anything that files or the store offer."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        _, status = os.waitpid(child, 0)
        with os.fdopen(reading, "rb") as pipe:
            told = pipe.read()
        assert os.waitstatus_to_exitcode(status) == (0 if told else KILLED)
        return int(told) if told else -1
    signal.alarm(60)  # rather a failure than a test that never ends
    try:
        os.write(writing, str(_steps(folder, height, tables, last)).encode())
        os._exit(0)
    finally:
        os._exit(1)  # whatever went wrong: the rest of the tests are not this process's


def _steps(folder: Path, height: int, tables: Tables, last: int) -> int:
    count = 0

    def step(frame: FrameType, event: str, called: Any) -> None:
        nonlocal count
        if event == "c_call" and (
            getattr(called, "__module__", None) == "posix"
            or isinstance(getattr(called, "__self__", None), lmdb.Transaction | lmdb.Cursor)
        ):
            count += 1
            if count == last:
                os._exit(KILLED)

    store = Store(folder)
    sys.setprofile(step)
    store.install(meta(height, tables), {}, {})
    sys.setprofile(None)
    return count


def trial(folder: Path, seed: int, last: int) -> tuple[int, bool]:
    """An installation that ends at this step; how many steps it made, and whether the new state is there."""
    life = Life(folder, seed)
    for _ in range(3):
        life.write()
    before, target = life.tables, life.next_state()
    life.height += 1
    life.stage(target)
    life.store.close()
    made = steps_of(life.folder, life.height, target, last)
    life.store = Store(life.folder)
    checkpoint = life.store.checkpoint()
    assert checkpoint is not None
    is_new = checkpoint.height == life.height
    check_store(life.store, target if is_new else before)
    if not is_new:  # and what was fetched is still of use
        life.stage(target)
        life.store.install(meta(life.height, target), {}, {})
        check_store(life.store, target)
    life.store.close()
    return made, is_new


@pytest.mark.parametrize(("seed", "folds"), [(1, False), (3, True)])
def test_death_at_any_step_leaves_one_state_or_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, folds: bool
) -> None:
    monkeypatch.setattr(fold, "FOLD_CHUNKS_MIN", 10 if folds else 100_000)
    total, is_new = trial(tmp_path / "whole", seed, 0)
    assert is_new and total > 50
    some = {1, 2, 3, *range(total // 6, total, total // 6), *range(total - 7, total + 1)}
    ends = [trial(tmp_path / str(last), seed, last)[1] for last in sorted(some)]
    assert ends == sorted(ends) and set(ends) == {False, True}, "from some step on it is the new one"
