"""Snapshots: a folder that `b3sum` confirms, complete or absent."""

import os
import shutil
from pathlib import Path

import pytest
from blake3 import blake3

from lockstep.base.errors import ConfigurationError, StorageFailed
from lockstep.ledger.ledger import Ledger
from lockstep.ledger.snapshot import export, verify

from .writing import LAYOUTS, new_ledger, used_bytes, write


@pytest.fixture
def ledger() -> Ledger:
    made = new_ledger()
    write(made, range(300), 1)
    write(made, range(10), 2, table=1)
    return made


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_line_of_b3sums_is_right(ledger: Ledger, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "snapshot"
    export(folder, ledger.manifest(), used_bytes(ledger))
    lines = (folder / "B3SUMS").read_text().splitlines()
    assert [line[66:] for line in lines] == ["accounts.bin", "ticks.bin", "books.bin", "manifest.json"]
    for line in lines:
        assert line == f"{blake3((folder / line[66:]).read_bytes()).hexdigest()}  {line[66:]}"
    assert lines[-1][:64] == ledger.root.hex()
    assert names(folder) == ["B3SUMS", "accounts.bin", "books.bin", "manifest.json", "ticks.bin"]
    assert names(folder.parent) == ["snapshot"]


def test_a_good_snapshot_verifies(ledger: Ledger, tmp_path: Path) -> None:
    export(tmp_path / "s", ledger.manifest(), used_bytes(ledger))
    report = verify(tmp_path / "s", ledger.root)
    assert report.problems == ()
    assert report.root == ledger.root
    assert report.tables == (("accounts", 300), ("ticks", 10), ("books", 0))


def test_verify_names_what_is_wrong(ledger: Ledger, tmp_path: Path) -> None:
    good = tmp_path / "good"
    export(good, ledger.manifest(), used_bytes(ledger))

    def problem(name: str, data: bytes | None) -> str:
        bad = tmp_path / "bad"
        shutil.rmtree(bad, ignore_errors=True)
        shutil.copytree(good, bad)
        if data is None:
            (bad / name).unlink()
        else:
            (bad / name).write_bytes(data)
        (found,) = verify(bad, ledger.root).problems
        return found

    ticks = (good / "ticks.bin").read_bytes()
    assert problem("ticks.bin", ticks[:-1] + b"\1").startswith("ticks.bin: its hash is")
    assert problem("ticks.bin", ticks[:-1]) == "ticks.bin: 79 bytes, not 80"
    assert problem("ticks.bin", None).startswith("ticks.bin: ")
    assert problem("B3SUMS", b"").startswith("B3SUMS: it does not list")
    assert problem("B3SUMS", None).startswith("B3SUMS: ")
    assert problem("manifest.json", b"{}").startswith("manifest.json: malformed")
    assert problem("manifest.json", None).startswith("manifest.json: ")
    (found,) = verify(good, bytes(32)).problems
    assert found.startswith("manifest.json: the state root is")


def test_an_existing_folder_is_left_alone(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="choose a new folder"):
        export(tmp_path, ledger.manifest(), used_bytes(ledger))
    assert names(tmp_path) == []


def test_a_table_that_is_not_the_manifests_is_not_written(ledger: Ledger, tmp_path: Path) -> None:
    tables = used_bytes(ledger)
    tables[1] = tables[1][:-1] + b"\1"
    with pytest.raises(StorageFailed, match="table ticks"):
        export(tmp_path / "s", ledger.manifest(), tables)
    assert names(tmp_path) == [], "nothing is left behind"


def test_a_failed_write_leaves_nothing(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFailed, match="No space left"):
        export(tmp_path / "s", ledger.manifest(), used_bytes(ledger))
    assert names(tmp_path) == []


def test_the_manifest_of_the_committed_state_fits_its_bytes(ledger: Ledger, tmp_path: Path) -> None:
    ledger.commit()
    write(ledger, range(50, 400), 3)
    committed = [ledger.committed_bytes(number) for number in range(len(LAYOUTS))]
    export(tmp_path / "s", ledger.committed.manifest, committed)
    assert verify(tmp_path / "s", ledger.committed.root).problems == ()
