"""The operator's log is bounded, and cannot be flooded with one line."""

from pathlib import Path

import pytest

from lockstep.node.effects import Severity
from lockstep.runtime import journal as journal_module
from lockstep.runtime.journal import Journal


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_a_note_is_one_line_with_time_and_severity(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "node.log")
    journal.note(Severity.WARNING, "two\nlines")
    journal.close()
    (line,) = lines(tmp_path / "node.log")
    assert line.endswith("Z WARNING two | lines") and line[4] == "-"


def test_repeats_are_counted_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(journal_module.time, "monotonic", lambda: now[0])
    journal = Journal(tmp_path / "node.log")
    for _ in range(1_000):
        journal.note(Severity.WARNING, "a stranger knocked")
    journal.note(Severity.INFO, "something else")
    now[0] += 11
    journal.note(Severity.WARNING, "a stranger knocked")
    journal.close()
    texts = [line.split(" ", 2)[2] for line in lines(tmp_path / "node.log")]
    assert texts == ["a stranger knocked", "something else", "a stranger knocked (and 999 times before)"]


def test_the_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "FILE_BYTES_MAX", 10_000)
    journal = Journal(tmp_path / "node.log")
    for number in range(2_000):
        journal.note(Severity.INFO, f"note {number}")
    journal.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["node.log", "node.log.1"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 21_000
    assert lines(tmp_path / "node.log")[-1].endswith("note 1999")
