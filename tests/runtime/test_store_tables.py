"""What the store says of a state is what was written, however it came: by checkpoints, by fetches, folded or not."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from blake3 import blake3

from lockstep.base import marks
from lockstep.ledger.changes import ChunkSet
from lockstep.ledger.manifest import Manifest, TableEntry
from lockstep.ledger.subtree import ChunkTree, leaf_values
from lockstep.runtime import fold, leaf_pages
from lockstep.runtime.flat_tables import Span
from lockstep.runtime.store import CheckpointMeta, PinnedCheckpoint, Store
from lockstep.sync.state_hash import nodes_above
from lockstep.sync.state_request import PAGE_LEVEL
from lockstep.sync.state_walk import Arrived
from lockstep.sync.stored_table import StoredTable
from lockstep.wire.certificate import Finalization
from lockstep.wire.codec import encode
from tests.support.stored_state import local_leaves

ROW = 16
MOST_CHUNKS = (90, 90, 800)
Tables = list[bytes]
WORKED_OUT = "stored table: kept nodes are worked out again"


@pytest.fixture
def marked() -> Iterator[dict[str, int]]:
    counts: dict[str, int] = {}
    marks.collect(counts)
    yield counts
    marks.collect(None)


def manifest(tables: Tables) -> bytes:
    entries = tuple(
        TableEntry(f"table{i}", "value:<i8[2]@0", ROW, len(data) // ROW, blake3(data).hexdigest())
        for i, data in enumerate(tables)
    )
    return msgspec.json.encode(Manifest("lockstep-state-1", entries))


def meta(height: int, tables: Tables) -> CheckpointMeta:
    certificate = encode(Finalization(height, height, bytes(32), bytes(32), bytes(32), b"", b""))
    return CheckpointMeta(height, b"header", certificate, manifest(tables), bytes(32), 0, 0)


def rows_of(data: bytes, numbers: list[int]) -> np.ndarray:
    padded = data.ljust((max(numbers, default=0) + 1) * 1024, b"\0")
    if not numbers:
        return np.zeros((0, 1024), np.uint8)
    return np.stack([np.frombuffer(padded[n * 1024 : (n + 1) * 1024], np.uint8) for n in numbers])


def changed(old: bytes, new: bytes) -> list[int]:
    """What a ledger would have touched: chunks that differ, and those of rows that came or went."""
    count, shorter = -(-max(len(old), len(new)) // 1024), min(len(old), len(new))
    resized = range(shorter // 1024, count) if len(old) != len(new) else range(0)
    old, new = old.ljust(count * 1024, b"\0"), new.ljust(count * 1024, b"\0")
    parts = [slice(n * 1024, (n + 1) * 1024) for n in range(count)]
    return [n for n in range(count) if n in resized or old[parts[n]] != new[parts[n]]]


def check(pinned: PinnedCheckpoint, tables: Tables) -> None:
    for number, data in enumerate(tables):
        chunks = -(-len(data) // 1024)
        assert pinned.read(number, 0, chunks)[: len(data)] == data
        for first in range(0, chunks, 37):
            count = min(97, chunks - first)
            assert spelt_out(pinned.spans(number, first, count)) == pinned.read(number, first, count)
        stored = StoredTable(pinned, number, len(data), blake3(data).digest())
        leaves = stored.kept_leaves(0, chunks)
        tree = ChunkTree(leaves, data if chunks == 1 else b"")
        assert tree.hash == blake3(data).digest(), f"the leaves of table {number}"
        if stored.base:
            kept = pinned.page_values(number, -(-chunks // 32))
            assert (kept == nodes_above(leaves, PAGE_LEVEL)).all(), f"the values of pages of table {number}"
        assert (stored.leaves(np.arange(chunks)[::3]) == leaves[::3]).all()


def spelt_out(pieces: list[bytes | Span]) -> bytes:
    return b"".join([
        piece if isinstance(piece, bytes) else os.pread(piece.file.handle, piece.size, piece.offset)
        for piece in pieces
    ])  # fmt: skip


def check_store(store: Store, tables: Tables) -> None:
    pinned = store.pin()
    assert pinned is not None
    check(pinned, tables)
    pinned.close()
    loaded = [bytearray(len(data)) for data in tables]
    state = store.state()
    assert state is not None
    for part in state[1]:
        for number, row in zip(part.chunks.tolist(), part.data, strict=True):
            end = min(len(loaded[part.table]), (number + 1) * 1024)
            size = max(0, end - number * 1024)
            loaded[part.table][number * 1024 : end] = row.tobytes()[:size]
    assert [bytes(data) for data in loaded] == tables


class Life:
    """A store, and what it should hold."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = np.random.default_rng(seed)
        self.store = Store(folder)
        self.tables: Tables = [b"", b"", b""]
        self.height = 0
        self.held: list[tuple[PinnedCheckpoint, Tables]] = []

    def bytes(self, size: int) -> bytes:
        return self.random.integers(0, 256, size, dtype=np.uint8).tobytes()

    def next_state(self) -> Tables:
        """Tables that grew, shrank, or have other bytes here and there."""
        new = []
        for number, data in enumerate(self.tables):
            chunks = int(self.random.integers(0, MOST_CHUNKS[number]))
            size = chunks * 1024 // ROW * ROW + int(self.random.integers(0, 64)) * ROW
            if self.random.random() < 0.5:
                size = len(data)
            grown = bytearray(data[:size])
            grown += bytes(size - len(grown)) if self.random.random() < 0.3 else self.bytes(size - len(grown))
            for _ in range(int(self.random.integers(0, 8))):
                if grown:
                    grown[int(self.random.integers(0, len(grown)))] ^= 1
            new.append(bytes(grown))
        return new

    def write(self) -> None:
        """A checkpoint of a few blocks' work."""
        self.height += 1
        new = self.next_state()
        sets = []
        for number, (old, data) in enumerate(zip(self.tables, new, strict=True)):
            numbers = changed(old, data)
            if numbers:
                sets.append(ChunkSet(number, np.array(numbers, np.int32), rows_of(data, numbers)))
        self.store.write(meta(self.height, new), sets, {}, {})
        self.tables = new

    def fetch(self) -> None:
        """A state that was fetched as far as it differs, perhaps with a crash in between."""
        self.height += 1
        new = self.next_state()
        target = msgspec.json.decode(manifest(new), type=Manifest)
        for part in list(self.missing(target, new)):
            self.store.stage([part])
            if self.random.random() < 0.2:
                self.reopen()
        self.stage(new)
        self.store.install(meta(self.height, new), {}, {})
        self.tables = new

    def stage(self, new: Tables) -> None:
        """Everything that is not here of these tables."""
        target = msgspec.json.decode(manifest(new), type=Manifest)
        self.store.stage(list(self.missing(target, new)))
        assert not list(self.missing(target, new))

    def missing(self, target: Manifest, new: Tables) -> Iterator[Arrived]:
        counts = [np.arange(-(-len(data) // 1024)) for data in new]
        rows = [rows_of(data, numbers.tolist()) for data, numbers in zip(new, counts, strict=True)]
        leaves = [leaf_values(*of) for of in zip(rows, counts, map(len, new), strict=True)]
        for number, local in enumerate(local_leaves(self.store, target, leaves)):
            wanted = np.flatnonzero((leaves[number] != local).any(axis=1))
            for some in np.array_split(wanted, 3):
                if len(some):
                    yield Arrived(number, some, rows[number][some], leaves[number][some])

    def reopen(self) -> None:
        self.let_go()
        self.store.close()
        self.store = Store(self.folder)

    def hold(self) -> None:
        pinned = self.store.pin()
        assert pinned is not None
        self.held.append((pinned, self.tables))

    def let_go(self) -> None:
        """What was held is as it was, whatever was written since."""
        for pinned, tables in self.held:
            check(pinned, tables)
            pinned.close()
        self.held.clear()


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_written_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marked: dict[str, int], seed: int
) -> None:
    monkeypatch.setattr(fold, "FOLD_CHUNKS_MIN", 40)
    monkeypatch.setattr(fold, "FOLD_SHARE", 1 if seed % 2 else 4)
    life = Life(tmp_path, seed)
    for _ in range(14):
        (life.write if life.random.random() < 0.6 else life.fetch)()
        check_store(life.store, life.tables)
        if life.random.random() < 0.3:
            life.reopen()
        elif len(life.held) < 2:
            life.hold()
        else:
            life.let_go()
    life.reopen()
    check_store(life.store, life.tables)
    assert len(list(tmp_path.glob("tables-*"))) <= 1
    life.store.close()
    assert not marked, "kept nodes always lead to the hash"


def test_a_home_without_values_of_pages_gets_them_with_the_next_checkpoint(
    tmp_path: Path, marked: dict[str, int]
) -> None:
    life = Life(tmp_path, 3)
    life.tables = [b"", b"", life.bytes(700 * 1024)]
    full = ChunkSet(2, np.arange(700, dtype=np.int32), rows_of(life.tables[2], list(range(700))))
    life.store.write(meta(1, life.tables), [full], {}, {})
    with life.store._env.begin(write=True) as transaction:
        life.store._databases.leaves.cut(transaction, 2 | leaf_pages._VALUES, 0)
    pinned = life.store.pin()
    assert pinned is not None and not pinned.page_values(2, 22).any()
    stored = StoredTable(pinned, 2, 700 * 1024, blake3(life.tables[2]).digest())
    assert stored.tree.hash == blake3(life.tables[2]).digest() and marked == {WORKED_OUT: 1}
    pinned.close()
    life.height = 1
    life.write()
    check_store(life.store, life.tables)
    assert marked == {WORKED_OUT: 1, "checkpoint: the values of pages are worked out from all leaves": 1}
    life.store.close()
