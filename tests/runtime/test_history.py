"""The history takes each final block once, in order, and knows it again after a restart."""

from pathlib import Path

import pytest

from lockstep.base.errors import InvariantBroken, StorageFailed
from lockstep.runtime.history import History, HistoryReader


def block(height: int) -> bytes:
    return bytes([height]) * 32


def filled(folder: Path, heights: range) -> dict[int, int]:
    history = History(folder, None, 0)
    positions = {height: history.add(height, block(height), bytes([height]) * 64) for height in heights}
    history.sync()
    history.close()
    return positions


def test_events_are_read_back_by_position(tmp_path: Path) -> None:
    positions = filled(tmp_path, range(1, 6))
    reader = HistoryReader(tmp_path)
    assert reader.events(positions[4], 4) == bytes([4]) * 64
    with pytest.raises(StorageFailed, match="has block 4 where 3 should be"):
        reader.events(positions[4], 3)
    reader.close()


def test_blocks_executed_again_after_a_restart_are_not_added_twice(tmp_path: Path) -> None:
    positions = filled(tmp_path, range(1, 6))
    history = History(tmp_path, positions[3], 3)
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert history.add(4, block(4), bytes([4]) * 64) == positions[4]
    assert history.add(5, block(5), bytes([5]) * 64) == positions[5]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == size
    assert history.add(6, block(6), b"") > positions[5]
    history.close()


def test_a_second_execution_with_other_events_stops_the_node(tmp_path: Path) -> None:
    filled(tmp_path, range(1, 3))
    history = History(tmp_path, None, 0)
    with pytest.raises(InvariantBroken, match="other events"):
        history.add(1, block(1), b"x" * 64)
    history.close()


def test_a_gap_is_refused(tmp_path: Path) -> None:
    positions = filled(tmp_path, range(1, 4))
    history = History(tmp_path, None, 0)
    with pytest.raises(InvariantBroken, match="expected block 4"):
        history.add(5, block(5), b"")
    history.close()
    with pytest.raises(StorageFailed, match="has block 2 where 3 should be"):
        History(tmp_path, positions[2], 3)


def test_a_record_for_a_checkpoint_that_then_was_not_is_passed_over(tmp_path: Path) -> None:
    """A node killed between the history and the store, while it installed a state, or was rolled back."""
    for stray in (900, 2):
        folder = tmp_path / str(stray)
        positions = filled(folder, range(1, 6))
        history = History(folder, positions[3], 3)
        if stray > 5:
            history.skip_to(stray, block(0))
        else:
            history.begin_again(stray, block(2), b"")
        history.sync()
        history.close()
        history = History(folder, positions[3], 3)
        assert history.add(4, block(4), bytes([4]) * 64) == positions[4]
        history.add(5, block(5), bytes([5]) * 64)
        at = history.add(6, block(6), b"six" * 64)
        history.close()
        history = History(folder, positions[5], 5)
        assert history.add(6, block(6), b"six" * 64) == at, "what comes after it is known again"
        history.close()
