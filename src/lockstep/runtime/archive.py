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
from lockstep.node.effects import Commit, ReadLeaves, ReadState, StoreChunks
from lockstep.node.events import ChunksStored, LeavesRead, StateRead
from lockstep.node.replacement import Chunks
from lockstep.runtime.block_index import BlockPlace, FatePlace
from lockstep.runtime.history import History
from lockstep.runtime.index import Index
from lockstep.runtime.pruning import Pruner
from lockstep.runtime.room import Room
from lockstep.runtime.store import CheckpointMeta, Store
from lockstep.runtime.worker import Worker
from lockstep.sync.state_offer import Target
from lockstep.wire.client import StorageStatus
from lockstep.wire.codec import encode

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


@dataclass(slots=True)
class InstallJob:
    """A state that was fetched, on its way to become the checkpoint; storage supplies where a restart begins."""

    target: Target
    is_rebuilt: bool
    log_position: int = 0


@dataclass(frozen=True, slots=True)
class Installed:
    """A state that was fetched is the checkpoint."""

    height: int
    fetched: Chunks
    """The chunks that may be others than in the checkpoint before."""


class PruneStep:
    """Prune a little more, behind whatever else is waiting."""


Piece = FinalBlock | CheckpointJob | ReadState | ReadLeaves | StoreChunks | InstallJob | PruneStep


class Archive:
    """Owns the history and the index, and writes the store."""

    def __init__(
        self,
        history: History,
        index: Index,
        store: Store,
        told: Callable[[StateRead | LeavesRead | ChunksStored], None],
        installed: Callable[[Installed], None],
        failed: Callable[[BaseException], None],
        pruner: Pruner | None = None,
    ) -> None:
        """`told` and `installed` are called on this thread."""
        self._history = history
        self._index = index
        self._store = store
        self._told = told
        self._installed = installed
        self.room = Room(QUEUE_BYTES_MAX)
        self.checkpoint_height = 0
        self._pruner = pruner
        self._is_pruning = False
        self.stored: StorageStatus | None = None
        """What is on the disk; replaced now and then."""
        self._worker: Worker[Piece] = Worker("archive", self._work, failed)
        self._prune(0)

    def put(self, piece: Piece) -> None:
        """Take what is final, and what concerns the store, in order."""
        if isinstance(piece, FinalBlock):
            self.room.add(piece.commit.events.nbytes)
        self._worker.put(piece)

    def close(self) -> None:
        """Finish what is queued."""
        self.room.open(True)
        self._worker.close()
        self._history.close()
        if self._pruner is not None:
            self._pruner.close()

    def _work(self, batch: list[Piece]) -> None:
        self._stage([piece for piece in batch if isinstance(piece, StoreChunks)])
        for piece in batch:
            match piece:
                case FinalBlock():
                    self._add(piece)
                case CheckpointJob():
                    self._checkpoint(piece)
                case ReadState():
                    self._told(StateRead(piece.target, self._store.local(piece.target.manifest)))
                case ReadLeaves(target, table, ranges):
                    leaves = self._store.local_leaves(target.manifest, table, ranges)
                    self._told(LeavesRead(target, table, ranges, leaves))
                case InstallJob():
                    self._install(piece)
                case PruneStep():
                    self._prune_step(piece)
                case _:
                    pass

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
        self._prune(len(fates))

    def _prune(self, fates: int) -> None:
        """There is a new checkpoint, or the node has just started."""
        if self._pruner is not None:
            self._pruner.checkpointed(fates)
            if not self._is_pruning:
                self._is_pruning = True
                self._worker.put(PruneStep())

    def _prune_step(self, piece: PruneStep) -> None:
        assert self._pruner is not None
        self._is_pruning = self._pruner.step()
        if self._is_pruning:
            self._worker.put(piece)
        else:
            self.stored = self._pruner.status()

    def _stage(self, pieces: list[StoreChunks]) -> None:
        """All that waits: what comes before a checkpoint or a reading only makes them better."""
        if not pieces:
            return
        self._store.stage(piece.chunks for piece in pieces)
        for piece in pieces:
            self._told(ChunksStored(piece.chunks.data.nbytes, piece.effort))

    def _install(self, job: InstallJob) -> None:
        target = job.target
        header = target.header
        position = self._history.skip_to(header.height, header.digest)
        self._history.sync()
        meta = CheckpointMeta(
            header.height, target.offer.header, encode(target.certificate), target.offer.manifest,
            target.certificate.state_root, job.log_position, position, job.is_rebuilt,
        )  # fmt: skip
        fetched = self._store.install(meta, self._index.blocks, self._index.fates)
        self._installed(Installed(header.height, fetched))
