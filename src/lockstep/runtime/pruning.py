"""Taking away what a node doesn't keep: a little at a time, on the archive thread, each piece whole or not at all.

The order that makes a crash safe at every step: first the store says, in one transaction, that the blocks are not here
any more (and keeps their headers, if those stay); then the index's entries go; then, one file after the other from the
oldest on, segments of the log and of the history in which no height that stays has a record, and no restart begins.
What a crash leaves is found again by the next run: files that are older than they need be, never an entry without its
file.
"""

import time
from pathlib import Path
from typing import Final

from lockstep.base.errors import Refused, StorageFailed
from lockstep.log.log import segments_in, storage_error
from lockstep.log.reader import LogReader
from lockstep.log.segment import segment_name, split_position
from lockstep.node.record import BLOCK_BEGIN_BYTES, block_header
from lockstep.node.retention import Floors, Mode, Needs, Retention, floors
from lockstep.runtime.block_index import Folder, KeptHeader, Lowest
from lockstep.runtime.directory import Directory
from lockstep.runtime.disk_use import storage_status
from lockstep.runtime.in_use import InUse
from lockstep.runtime.index import Index
from lockstep.runtime.store import CheckpointMeta, Store
from lockstep.wire.block import Header, decode_header
from lockstep.wire.client import StorageStatus

PIECE_BLOCKS: Final = 64
PIECE_ENTRIES: Final = 1_024
SWEEPS: Final = 4
"""Fates are looked at as often as bundles become final, times this: then those of pruned blocks are at most a third
as many as those that stay."""
REST: Final = 3
"""After a piece, rest this many times as long as it took: the disk is the log's first of all."""
REST_SECONDS_MAX: Final = 0.05


class Pruner:
    """Prunes one home. Belongs to the archive thread."""

    def __init__(
        self, retention: Retention, log: Path, history: Path, store: Store, index: Index, in_use: InUse
    ) -> None:  # fmt: skip
        self.retention = retention
        self._store = store
        self._index = index
        self._in_use = in_use
        self._folders = {Folder.LOG: log, Folder.HISTORY: history}
        self._log = LogReader(Directory(log))
        self._oldest: dict[Folder, int] = {}
        self._floors = Floors(1, 1)
        self._sweep_at = b""
        self._to_sweep = -1
        in_use.tell(self._forget)

    def checkpointed(self, fates: int) -> None:
        """There is a new checkpoint, and so many bundles have become final since the one before."""
        self._in_use.release()
        metas = self._store.checkpoints()
        if self.retention.mode is Mode.ARCHIVE or not metas:
            return
        newest, lowest = metas[-1].height, self._index.lowest()
        aged = self._first_younger(lowest.headers, metas[-1])
        self._floors = floors(self.retention, Needs(newest, metas[0].height, self._in_use.served, aged))
        if self._to_sweep < 0:  # the first time: nobody knows how far a run before this one got
            self._to_sweep = self._store.blocks.fates_count()
        self._to_sweep += SWEEPS * fates

    def step(self) -> bool:
        """Do a piece, if there is any to do; whether there was. Raises `StorageFailed`."""
        if self.retention.mode is Mode.ARCHIVE:
            return False
        began = time.monotonic()
        try:
            was_any = self._blocks() or self._headers() or self._fates() or self._files()
        except OSError as error:
            raise storage_error("pruning", error) from error
        if was_any:
            time.sleep(min(REST_SECONDS_MAX, REST * (time.monotonic() - began)))
        return was_any

    def status(self) -> StorageStatus:
        """What is here now."""
        folders = self._folders
        return storage_status(self.retention.mode, folders[Folder.LOG], folders[Folder.HISTORY], self._store)

    def close(self) -> None:
        """Give the files back."""
        self._log.close()

    # -- pieces -----------------------------------------------------------------------------------------

    def _blocks(self) -> bool:
        """Blocks leave the index; their headers stay, if the floor of headers is below."""
        lowest = self._index.lowest()
        if lowest.blocks < self._floors.blocks:
            end = min(lowest.blocks + PIECE_BLOCKS, self._floors.blocks)
            first = max(lowest.blocks, min(self._floors.headers, end))
            kept = self._kept_headers(first, end)
            headers = lowest.headers if first == lowest.blocks else first
            self._store.blocks.forget_below(Lowest(end, headers), kept)
            return True
        return not self._store.blocks.sweep_heights(PIECE_ENTRIES)

    def _headers(self) -> bool:
        lowest = self._index.lowest()
        if lowest.headers >= self._floors.headers:
            return False
        self._store.blocks.forget_below(Lowest(lowest.blocks, min(self._floors.headers, lowest.blocks)), {})
        return True

    def _fates(self) -> bool:
        if self._to_sweep <= 0:
            return False
        self._to_sweep = max(0, self._to_sweep - PIECE_ENTRIES)
        self._sweep_at = self._store.blocks.sweep_fates(self._sweep_at, PIECE_ENTRIES)
        return True

    def _files(self) -> bool:
        return self._file(Folder.HISTORY) or self._file(Folder.LOG)

    def _file(self, folder: Folder) -> bool:
        """The oldest segment goes when no restart reads it, and no block that stays has a record in it."""
        metas = self._store.checkpoints()
        if not metas:
            return False
        begins = [m.log_position if folder is Folder.LOG else m.history_position for m in metas]
        blocks = self._store.blocks
        oldest = self._oldest_segment(folder)
        if oldest is None or oldest >= min(split_position(at)[0] for at in begins):
            return False
        if blocks.segment_height(folder, oldest) >= self._index.lowest().blocks:
            return False
        if not self._in_use.remove(folder, oldest, self._folders[folder] / segment_name(oldest)):
            return False
        blocks.drop_segment(folder, oldest)
        self._oldest[folder] = oldest + 1
        return True

    def _oldest_segment(self, folder: Folder) -> int | None:
        if folder not in self._oldest:
            numbers = segments_in(Directory(self._folders[folder]))
            if not numbers:
                return None
            self._oldest[folder] = numbers[0]
        return self._oldest[folder]

    # -- headers ----------------------------------------------------------------------------------------

    def _kept_headers(self, first: int, end: int) -> dict[int, KeptHeader]:
        """Headers of blocks that are about to go, each proven by the parent's digest in the next."""
        kept: dict[int, KeptHeader] = {}
        following = self._header(end) if first < end else None
        for height in range(end - 1, first - 1, -1):
            header, place = self._header(height), self._index.block(height)
            if header is None or following is None or place is None or following.parent != header.digest:
                raise StorageFailed(f"the header of block {height} is not the one that block {height + 1} names")
            finalization = self._log.read(place.certificate)[1:] if place.certificate else b""
            kept[height] = KeptHeader(header.encode(), finalization)
            following = header
        return dict(sorted(kept.items()))

    def _header(self, height: int) -> Header | None:
        place = self._index.block(height)
        if place is not None:
            try:
                return decode_header(block_header(self._log.read_begin(place.block, BLOCK_BEGIN_BYTES)))
            except Refused as refused:
                raise StorageFailed(f"the header of block {height} in the log is damaged: {refused}") from refused
        kept = self._index.header(height)
        return None if kept is None else decode_header(kept.header)

    def _first_younger(self, lowest: int, newest: CheckpointMeta) -> int:
        """The lowest height whose block is younger than the period, as of the newest checkpoint's. By halving."""
        since = decode_header(newest.header).time_ms - self.retention.period_ms
        low, high = lowest, newest.height
        while low < high:
            middle = (low + high) // 2
            header = self._header(middle)
            if header is None or header.time_ms < since:
                low = middle + 1
            else:
                high = middle
        return low

    def _forget(self, folder: Folder, segment: int) -> None:
        if folder is Folder.LOG:
            self._log.forget(segment)
