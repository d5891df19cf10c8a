"""Comparing homes of nodes that run."""

from pathlib import Path

import pytest

from lockstep.runtime import forensics
from lockstep.runtime.stored_chain import HomeMoved


def test_where_a_checkpoint_is_made_meanwhile_the_comparison_is_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    left, opened, found = 2, [], object()

    def examine(one: object, other: object, height: int | None) -> object:
        nonlocal left
        left -= 1
        if left >= 0:
            raise HomeMoved("a new checkpoint: try again")
        return found

    monkeypatch.setattr(forensics, "open_side", lambda path, from_genesis: opened.append(path))
    monkeypatch.setattr(forensics, "examine", examine)
    assert forensics.examine_folders(Path("a"), Path("b"), None) is found
    assert [path.name for path in opened] == ["a", "b"] * 3, "both are read again"
    left = 1_000
    with pytest.raises(HomeMoved, match="try again"):
        forensics.examine_folders(Path("a"), Path("b"), None)
