"""The archive thread: what is final goes to the history and the index, and now and then to a checkpoint.

The order that makes a checkpoint safe: the log is durable up to where a restart begins (`storage` sees to it), then
the history, then the store's one transaction. Whatever is interrupted, the last complete checkpoint and the log
after it still give the same state.
"""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

from lockstep.ledger.changes import Checkpoint as State
from lockstep.node.effects import Commit
from lockstep.runtime.history import History
from lockstep.runtime.index import Index
from lockstep.runtime.room import Room
from lockstep.runtime.store import BlockPlace, CheckpointMeta, FatePlace, Store
from lockstep.runtime.worker import Worker

QUEUE_BYTES_MAX: Final = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class FinalBlock:
    """A commit, and where the log has its records."""

    commit: Commit
    block: int
    finalization: int


@dataclass(slots=True)
class CheckpointJob:
    """A checkpoint on its way: execution supplies the state, storage the place where a restart begins."""

    height: int
    header: bytes
    certificate: bytes
    log_position: int = 0
    state: "Future[State]" = field(default_factory=Future)


class Archive:
    """Owns the history and the index, and writes the store."""

    def __init__(self, history: History, index: Index, store: Store, failed: Callable[[BaseException], None]) -> None:
        self._history = history
        self._index = index
        self._store = store
        self.room = Room(QUEUE_BYTES_MAX)
        self.checkpoint_height = 0
        self._worker: Worker[FinalBlock | CheckpointJob] = Worker("archive", self._work, failed)

    def put(self, piece: FinalBlock | CheckpointJob) -> None:
        """Take what is final, in order."""
        if isinstance(piece, FinalBlock):
            self.room.add(piece.commit.events.nbytes)
        self._worker.put(piece)

    def close(self) -> None:
        """Finish what is queued."""
        self.room.open(True)
        self._worker.close()
        self._history.close()

    def _work(self, batch: list[FinalBlock | CheckpointJob]) -> None:
        for piece in batch:
            if isinstance(piece, FinalBlock):
                self._add(piece)
            else:
                self._checkpoint(piece)

    def _add(self, final: FinalBlock) -> None:
        commit = final.commit
        position = self._history.add(commit.height, commit.block, commit.events.tobytes())
        self._index.blocks[commit.height] = BlockPlace(final.block, final.finalization, position)
        for digest, place, first, events in commit.fates:
            self._index.fates[digest] = FatePlace(commit.height, place, first, events)
        self.room.remove(commit.events.nbytes)

    def _checkpoint(self, job: CheckpointJob) -> None:
        self._history.sync()
        self.room.open(True)  # execution may be waiting for room, with this state behind it in its queue
        state = job.state.result()
        self.room.open(False)
        index, height = self._index, job.height
        blocks = {h: place for h, place in index.blocks.items() if h <= height}
        fates = {bundle: place for bundle, place in index.fates.items() if place.height <= height}
        meta = CheckpointMeta(
            height, job.header, job.certificate, state.manifest, state.root, job.log_position, blocks[height].history
        )
        self._store.write(meta, state.sets, blocks, fates)
        index.settle(height)
        self.checkpoint_height = height
