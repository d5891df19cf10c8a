"""A part of a state as a folder: fetched in pieces, interrupted, finished, checked, and taken up again."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lockstep.base.digest import digest
from lockstep.base.errors import ConfigurationError
from lockstep.ledger import partial
from lockstep.ledger.manifest import Manifest, ManifestWriter, parse_manifest
from lockstep.ledger.outline import beside
from lockstep.ledger.partial import FETCHING, Part, PartFile, Rows, part_of
from lockstep.ledger.subtree import ChunkTree, leaf_values
from lockstep.ledger.table import CHUNK_BYTES

ROW = np.dtype([("a", "<u8"), ("b", "<u8")])
ROWS = 1_000  # 15.6 chunks
DATA = np.random.default_rng(1).integers(0, 256, ROWS * ROW.itemsize, np.uint8).tobytes()
CHUNKS = 16
PADDED = np.frombuffer(DATA.ljust(CHUNKS * CHUNK_BYTES, b"\0"), np.uint8).reshape(-1, CHUNK_BYTES)
LEAVES = leaf_values(PADDED, np.arange(CHUNKS), len(DATA))
SMALL = bytes(range(32))


def manifest() -> tuple[bytes, Manifest]:
    writer = ManifestWriter([("big", ROW), ("small", ROW)])
    text = writer.write([ROWS, 2], digest(DATA) + digest(SMALL))
    return text, parse_manifest(text)


def fetched(folder: Path, part: Part) -> tuple[PartFile, bytes]:
    """Everything of a part arrives; (its file, the nodes beside it)."""
    file = PartFile(folder / FETCHING, part)
    data = PADDED if part.table == "big" else np.frombuffer(SMALL.ljust(CHUNK_BYTES, b"\0"), np.uint8).reshape(1, -1)
    numbers = np.arange(len(data))
    file.write(numbers, data)
    if part.table == "small":
        return file, b""
    tree, nodes = ChunkTree(LEAVES), beside(CHUNKS, part.first, part.end)
    return file, b"".join(tree.levels[level][index].tobytes() for level, index in nodes)


def finished(folder: Path) -> None:
    text, parsed = manifest()
    parts = [part_of(parsed.tables[0], Rows("big", 200, 700)), part_of(parsed.tables[1], Rows("small"))]
    partial.finish(folder, text, 7, [fetched(folder, part) for part in parts])


def test_a_finished_folder_verifies_and_every_changed_byte_is_found(tmp_path: Path) -> None:
    finished(tmp_path)
    report = partial.verify(tmp_path, digest(manifest()[0]))
    assert report.problems == () and report.tables == (("big", 8 * 64), ("small", 2))
    assert not (tmp_path / FETCHING).exists()
    for name in ("big.3-11.chunks", "big.3-11.path", "small.bin", "manifest.json"):
        raw = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(raw[:9] + bytes([raw[9] ^ 1]) + raw[10:])
        assert partial.verify(tmp_path).problems, name
        (tmp_path / name).write_bytes(raw[:-1])
        assert partial.verify(tmp_path).problems, name
        (tmp_path / name).write_bytes(raw)
    (tmp_path / "small.bin").unlink()
    assert len(partial.verify(tmp_path).problems) == 1
    assert "not " + "00" * 32 in partial.verify(tmp_path, bytes(32)).problems[0]


def test_what_came_before_a_crash_is_hashed_again_and_counts(tmp_path: Path) -> None:
    part = Part("big", 3, 11)
    numbers = np.array([2, 4, 5, 15])
    PartFile(tmp_path, part).write(numbers, PADDED[numbers])
    leaves, present = PartFile(tmp_path, part).leaves(len(DATA), CHUNKS)
    assert np.flatnonzero(present).tolist() == [4, 5]
    assert (leaves[4:6] == LEAVES[4:6]).all() and not leaves[6:].any() and not leaves[:4].any()


def test_a_finished_folder_can_be_brought_up_to_date(tmp_path: Path) -> None:
    finished(tmp_path)
    partial.reopen(tmp_path)
    assert not (tmp_path / "partial.json").exists()
    leaves, present = PartFile(tmp_path / FETCHING, Part("big", 3, 11)).leaves(len(DATA), CHUNKS)
    assert np.flatnonzero(present).tolist() == list(range(3, 11)) and (leaves[3:11] == LEAVES[3:11]).all()
    partial.reopen(tmp_path)
    grown, present = PartFile(tmp_path / FETCHING, Part("big", 3, 13)).leaves(len(DATA), CHUNKS)
    assert np.flatnonzero(present).tolist() == list(range(3, 11)) and (grown[3:11] == LEAVES[3:11]).all()


class Killed(BaseException):
    """The process ends here."""


def die_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many changes to files, the process is dead: nothing more is changed."""
    left = [steps]

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return real(*arguments, **options)

        return step

    for owner, names in ((Path, ("replace", "write_bytes", "write_text", "unlink")), (os, ("truncate",))):
        for name in names:
            monkeypatch.setattr(owner, name, dying(getattr(owner, name)))
    monkeypatch.setattr(shutil, "rmtree", dying(shutil.rmtree))


def test_a_death_at_any_step_of_finishing_and_taking_up_again_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(folder: Path) -> list[int]:
        """Chunks of both parts that count, once the folder is taken up again."""
        partial.reopen(folder)
        big = PartFile(folder / FETCHING, Part("big", 3, 11)).leaves(len(DATA), CHUNKS)
        small = PartFile(folder / FETCHING, Part("small", 0, 1)).leaves(len(SMALL), 1)
        return [int((big[0] == LEAVES).all(1)[big[1]].sum()), int(small[1].sum())]

    def steps_of(work: Callable[[Path], None], began: Callable[[Path], None], name: str) -> int:
        """Die after 0, 1, 2 … steps of some work, until it is through."""
        for steps in range(100):
            folder = tmp_path / f"{name}-{steps}"
            folder.mkdir()
            began(folder)
            try:
                with monkeypatch.context() as patched:
                    die_after(steps, patched)
                    work(folder)
            except Killed:
                assert here(folder) == [8, 1], f"{name}, {steps} steps"
                continue
            assert here(folder) == [8, 1]
            return steps
        raise AssertionError("it never ends")

    assert steps_of(finished, lambda folder: None, "finish") > 8
    assert steps_of(partial.reopen, finished, "reopen") > 6


@pytest.mark.parametrize("rows", [Rows("big", 5, 4), Rows("big", 0, ROWS), Rows("big", ROWS)])
def test_rows_that_a_table_does_not_have_are_refused(rows: Rows) -> None:
    with pytest.raises(ConfigurationError, match="has rows 0 to 999"):
        part_of(manifest()[1].tables[0], rows)
