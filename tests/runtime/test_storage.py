"""The storage and archive threads: what waits for the disk waits, and what is final is found again."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from lockstep.base.digest import digest
from lockstep.base.errors import InvariantBroken, StorageFailed
from lockstep.ledger.changes import Checkpoint as State
from lockstep.ledger.changes import ChunkSet
from lockstep.log.log import open_log
from lockstep.log.reader import LogReader
from lockstep.node.effects import Commit, Effect, Note, Persist, Severity
from lockstep.node.events import ChunksStored, StateRead
from lockstep.node.places import Places
from lockstep.node.record import Record, StoredBlock, decode_record
from lockstep.runtime.archive import Archive, CheckpointJob
from lockstep.runtime.block_index import FatePlace
from lockstep.runtime.directory import Directory
from lockstep.runtime.history import History, HistoryReader
from lockstep.runtime.index import Index
from lockstep.runtime.storage import Storage
from lockstep.runtime.store import Store
from lockstep.venue.event import EVENT
from lockstep.wire.block import Block, Header, Payload
from lockstep.wire.certificate import Finalization
from lockstep.wire.vote import Nullify

CHAIN = bytes(32)

EMPTY_MANIFEST = b'{"format":"lockstep-state-1","tables":[]}'


def vote(view: int) -> Nullify:
    return Nullify(view, 0, bytes(64))


def marker(text: str) -> Note:
    return Note(Severity.INFO, text)


def stored(height: int) -> StoredBlock:
    payload = Payload(b"", (), ())
    header = Header(CHAIN, height, height, height - 1, 0, 0, 0, 0, bytes(32), digest(payload.encode()))
    return StoredBlock(Block(header, payload), ())


def final(block: StoredBlock) -> Finalization:
    header = block.block.header
    return Finalization(header.view, header.height, header.digest, bytes(32), bytes(32), b"\x07", bytes(192))


def commit(block: StoredBlock, rows: int = 3) -> Commit:
    events = np.zeros(rows, EVENT)
    events["command"] = block.block.header.height
    height = block.block.header.height
    return Commit(block.block.digest, height, events, ((digest(b"%d" % height), 0, 1, 2),))


@dataclass
class Disk:
    """Storage and archive over one folder, as a node has them."""

    folder: Path
    is_synced: bool = True
    released: list[str] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    told: list[StateRead | ChunksStored] = field(default_factory=list)
    installed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = Store(self.folder / "checkpoints")
        self.index = Index(self.store)
        saved = self.store.checkpoint()
        places, self.records = Places(), list[Record]()

        def visit(position: int, payload: bytes) -> None:
            record = decode_record(payload)
            places.note(record, position)
            self.records.append(record)

        log = open_log(Directory(self.folder / "log"), saved and saved.log_position, visit)
        height = saved.height if saved else 0
        history = History(self.folder / "history", saved and saved.history_position, height)
        self.archive = Archive(
            history, self.index, self.store, self.told.append, self.installed.append, self.failures.append
        )
        self.storage = Storage(log, places, self.archive, self.is_synced, self._release, self.failures.append)

    def _release(self, waited: list[tuple[Effect, ...]]) -> None:
        self.released += [effect.text for effects in waited for effect in effects if isinstance(effect, Note)]

    def checkpoint(self, block: StoredBlock) -> None:
        job = CheckpointJob(block.block.header.height, block.block.header.encode(), b"certificate")
        chunks = ChunkSet(0, np.array([0], np.int32), np.zeros((1, 1024), np.uint8))
        self.storage.checkpoint(job)
        job.state.set_result(State(b"r" * 32, EMPTY_MANIFEST, (chunks,)))

    def finalise(self, block: StoredBlock) -> None:
        self.storage.persist(Persist((block,)))
        self.storage.persist(Persist((final(block),)))
        self.storage.commit(commit(block))

    def close(self) -> None:
        self.storage.close()
        self.archive.close()
        self.store.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_what_waits_is_released_in_order_and_only_after_the_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(tmp_path)
    order: list[str] = []
    real = os.fdatasync

    def synced(file: int) -> None:
        order.append(f"synced after {len(disk.released)}")
        real(file)

    monkeypatch.setattr(os, "fdatasync", synced)
    for number in range(50):
        disk.storage.persist(Persist((vote(number),), (marker(str(number)),)))
    until(lambda: len(disk.released) == 50)
    assert disk.released == [str(number) for number in range(50)]
    assert order[0] == "synced after 0" and 1 <= len(order) <= 50
    disk.close()


def test_waiting_writes_share_one_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Group commit: while one sync runs, everything else gathers for the next."""
    disk = Disk(tmp_path)
    gate, syncs = threading.Event(), []
    monkeypatch.setattr(os, "fdatasync", lambda _: (syncs.append(1), gate.wait(10)))
    disk.storage.persist(Persist((vote(0),), (marker("0"),)))
    until(lambda: len(syncs) == 1)
    for number in range(1, 100):
        disk.storage.persist(Persist((vote(number),), (marker(str(number)),)))
    assert disk.released == []
    gate.set()
    until(lambda: len(disk.released) == 100)
    assert len(syncs) == 2
    disk.close()


def test_nobody_waits_nothing_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path)
    syncs: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", syncs.append)
        for number in range(20):
            disk.storage.persist(Persist((vote(number),)))
        disk.storage._worker.close()
        assert syncs == []
    disk.archive.close()
    disk.store.close()
    again = Disk(tmp_path)
    assert len(again.records) == 20
    again.close()


def test_without_fsync_waiting_ends_with_the_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path, is_synced=False)
    syncs: list[int] = []
    monkeypatch.setattr(os, "fdatasync", syncs.append)
    disk.storage.persist(Persist((vote(1),), (marker("1"),)))
    until(lambda: disk.released == ["1"])
    assert syncs == []
    monkeypatch.undo()
    disk.close()


def test_a_failed_sync_releases_nothing_ever_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path)

    def failing(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing)
        disk.storage.persist(Persist((vote(1),), (marker("1"),)))
        until(lambda: bool(disk.failures))
    disk.storage.persist(Persist((vote(2),), (marker("2"),)))
    disk.storage._worker.close()
    assert isinstance(disk.failures[0], StorageFailed) and "Input/output error" in str(disk.failures[0])
    assert disk.released == []
    disk.archive.close()
    disk.store.close()


def test_final_blocks_and_bundles_are_found_before_and_after_a_checkpoint(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    blocks = {height: stored(height) for height in range(1, 11)}

    def check(disk: Disk, last: int) -> None:
        log, history = LogReader(Directory(tmp_path / "log")), HistoryReader(tmp_path / "history")
        for height in range(1, last + 1):
            place = disk.index.block(height)
            assert place is not None
            assert decode_record(log.read(place.block)) == blocks[height]
            assert decode_record(log.read(place.certificate)) == final(blocks[height])
            assert history.events(place.history, height) == commit(blocks[height]).events.tobytes()
            assert disk.index.fate(digest(b"%d" % height)) == FatePlace(height, 0, 1, 2)
        assert disk.index.block(last + 1) is None
        log.close()
        history.close()

    for height in range(1, 7):
        disk.finalise(blocks[height])
    disk.checkpoint(blocks[6])
    for height in range(7, 10):
        disk.finalise(blocks[height])
    until(lambda: disk.index.block(9) is not None and disk.archive.checkpoint_height == 6)
    assert sorted(disk.index.blocks) == [7, 8, 9], "what the store has leaves memory"
    check(disk, 9)
    disk.close()

    again = Disk(tmp_path)
    assert [r.block.header.height for r in again.records if isinstance(r, StoredBlock)] == [6, 7, 8, 9]
    assert again.index.block(7) is None, "final, but not yet executed again"
    size = sum(path.stat().st_size for path in (tmp_path / "history").iterdir())
    for height in range(7, 10):
        again.storage.commit(commit(blocks[height]))
    until(lambda: again.index.block(9) is not None)
    assert sum(path.stat().st_size for path in (tmp_path / "history").iterdir()) == size
    again.finalise(blocks[10])
    again.checkpoint(blocks[10])
    until(lambda: again.archive.checkpoint_height == 10)
    check(again, 10)
    assert again.failures == []
    again.close()


def test_a_commit_without_its_block_in_the_log_stops_the_node(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.storage.commit(commit(stored(1)))
    until(lambda: bool(disk.failures))
    assert isinstance(disk.failures[0], InvariantBroken)
    disk.archive.close()
    disk.store.close()


def test_execution_waits_for_a_slow_archive_but_not_at_a_checkpoint(tmp_path: Path) -> None:
    """The archive waits for execution's state while execution waits for the archive's room: room opens meanwhile."""
    disk = Disk(tmp_path)
    disk.finalise(stored(1))
    until(lambda: disk.index.block(1) is not None)
    room = disk.archive.room
    job = CheckpointJob(1, stored(1).block.header.encode(), b"")
    disk.storage.checkpoint(job)
    room.add(1 << 40)
    waited = threading.Thread(target=room.wait)
    waited.start()
    waited.join(10)
    assert not waited.is_alive()
    job.state.set_result(State(bytes(32), EMPTY_MANIFEST, ()))
    until(lambda: disk.archive.checkpoint_height == 1)
    waiting = threading.Thread(target=room.wait, daemon=True)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive(), "after the checkpoint, the bound holds again"
    room.remove(1 << 40)
    waiting.join(10)
    assert not waiting.is_alive()
    disk.close()
