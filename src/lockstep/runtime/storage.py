"""The storage thread: the log, with group commit.

Everything that waits is appended in one write and made durable by one fdatasync; then what had to wait for it goes
back to the event loop. While one fdatasync runs, the next batch gathers by itself, so nothing waits for a timer.
"""

from collections.abc import Callable
from typing import Final

from lockstep.log.log import Log
from lockstep.node.effects import Commit, Effect, Persist, ReadLeaves, ReadState, StoreChunks
from lockstep.node.places import Places
from lockstep.node.record import Record, StoredBlock, encode_record
from lockstep.runtime.archive import Archive, CheckpointJob, FinalBlock, InstallJob
from lockstep.runtime.room import Room
from lockstep.runtime.worker import Worker
from lockstep.wire.block import decode_header

QUEUE_BYTES_MAX: Final = 256 * 1024 * 1024
Piece = Persist | Commit | CheckpointJob | ReadState | ReadLeaves | StoreChunks | InstallJob
Released = Callable[[list[tuple[Effect, ...]]], None]


def size_of(record: Record) -> int:
    """About how many bytes a record will have."""
    return 512 + (sum(len(bundle.raw) for bundle in record.bundles) if isinstance(record, StoredBlock) else 0)


class Storage:
    """Owns the log."""

    def __init__(
        self,
        log: Log,
        places: Places,
        archive: Archive,
        is_synced: bool,
        released: Released,
        failed: Callable[[BaseException], None],
    ) -> None:
        """`released` is called on the storage thread with the effects that waited, in order. Without `is_synced`,
        what was written counts as durable: it survives the process, but not the machine."""
        self._log = log
        self._places = places
        self._archive = archive
        self._is_synced = is_synced
        self._released = released
        self.room = Room(QUEUE_BYTES_MAX)
        self._worker: Worker[Piece] = Worker("storage", self._work, failed)

    def persist(self, effect: Persist) -> None:
        """Write records; see `Persist`."""
        self.room.add(sum(map(size_of, effect.records)))
        self._worker.put(effect)

    def commit(self, effect: Commit) -> None:
        """A block whose record was handed in before is final."""
        self._worker.put(effect)

    def checkpoint(self, job: CheckpointJob) -> None:
        """Find where a restart begins, and hand the job on."""
        self._worker.put(job)

    def pass_on(self, piece: ReadState | ReadLeaves | StoreChunks | InstallJob) -> None:
        """Hand on to the archive, behind everything that was handed in before."""
        self._worker.put(piece)

    def close(self) -> None:
        """Finish what is queued, durably."""
        self.room.open(True)
        self._worker.close()
        self._log.sync()
        self._log.close()

    def _work(self, batch: list[Piece]) -> None:
        writes = [piece for piece in batch if isinstance(piece, Persist)]
        records = [record for write in writes for record in write.records]
        for record, position in zip(records, self._log.append([encode_record(r) for r in records]), strict=True):
            self._places.note(record, position)
        waiting = [write.then for write in writes if write.then]
        if (waiting and self._is_synced) or any(isinstance(piece, CheckpointJob) for piece in batch):
            self._log.sync()
        if waiting:
            self._released(waiting)
        self.room.remove(sum(map(size_of, records)))
        for piece in batch:
            match piece:
                case Commit():
                    block, finalization = self._places.final(piece.block, piece.height)
                    self._archive.put(FinalBlock(piece, block, finalization))
                case CheckpointJob():
                    piece.log_position = self._places.start_after(decode_header(piece.header).view)
                    self._archive.put(piece)
                case InstallJob():
                    certificate = piece.target.certificate
                    (position,) = self._log.append([encode_record(certificate)])
                    self._log.sync()
                    self._places.note(certificate, position)
                    piece.log_position = self._places.installed(certificate)
                    self._archive.put(piece)
                case ReadState() | ReadLeaves() | StoreChunks():
                    self._archive.put(piece)
                case _:
                    pass
