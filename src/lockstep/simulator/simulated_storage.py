"""What a simulated node has on its disk, and the storage thread's work on it: the production log, with group commit.

While one sync runs, what comes meanwhile gathers; then it is written in one go and synced once. A commit finds its
block's place in the log; a checkpoint is written when everything before it is durable. All as in `runtime.storage`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lockstep.base.errors import Refused, StorageFailed
from lockstep.base.marks import reached
from lockstep.ledger.changes import Checkpoint as State
from lockstep.log.log import Log, open_log
from lockstep.log.reader import LogReader
from lockstep.node.effects import Checkpoint, Commit, Effect, InstallState, Persist, ReadLeaves, ReadState, StoreChunks
from lockstep.node.events import ChunksStored, LeavesRead, StateRead
from lockstep.node.old_blocks import read_chain
from lockstep.node.places import Places
from lockstep.node.record import BLOCK_BEGIN_BYTES, Record, block_header, decode_record, encode_record
from lockstep.node.retention import Mode, Needs, floors
from lockstep.simulator.chance import draw
from lockstep.simulator.disk import Disk
from lockstep.simulator.history import Durable, Loss
from lockstep.simulator.simulated_store import BlockPlace, FatePlace, Meta, SimulatedStore
from lockstep.wire.block import decode_header
from lockstep.wire.codec import encode
from lockstep.wire.message import Chain

if TYPE_CHECKING:
    from lockstep.simulator.simulated_node import SimulatedNode

CHECKPOINT_US: Final = 3_000
PRUNE_US: Final = 1_000
Released = Callable[[list[Effect]], None]
_SYNCED: Final = (tuple, InstallState)
"""Pieces that begin when everything before them is durable."""
Piece = Persist | Commit | tuple[Checkpoint, State] | ReadState | ReadLeaves | StoreChunks | InstallState


class SimulatedStorage:
    """One process's use of a disk. `Released` gets what waited for a sync; `failed` hears why the node must stop."""

    def __init__(
        self,
        node: "SimulatedNode",
        disk: Disk,
        store: SimulatedStore,
        released: Released,
        failed: Callable[[Exception], None],
    ) -> None:
        self._node = node
        self._world = node.world
        self._disk = disk
        self._store = store
        self._history = node.history
        self._released = released
        self._failed = failed
        self._queue: list[Piece] = []
        self._is_busy = False
        self._is_closed = False
        self._written: list[tuple[bytes, int]] = []
        """Records and their positions, not synced yet."""
        self.places = Places()
        self.log: Log
        self.reader = LogReader(disk)

    def open(self) -> list[Record]:
        """Read the log; returns its records. Raises `StorageFailed`."""
        records: list[Record] = []
        found: list[tuple[int, bytes]] = []

        def visit(position: int, payload: bytes) -> None:
            record = decode_record(payload)
            self.places.note(record, position)
            records.append(record)
            found.append((position, payload))

        meta = self._store.meta
        start = None if meta is None else meta.log_position
        self.log = open_log(self._disk, start, visit, self._node.machine.segment_bytes)
        self._note_durable(start, found)
        return records

    def close(self) -> None:
        """The process is gone: nothing more comes back."""
        self._is_closed = True

    @property
    def waiting(self) -> int:
        """Pieces in the queue."""
        return len(self._queue)

    def _note_durable(self, start: int | None, found: list[tuple[int, bytes]]) -> None:
        """Compare with what was durable before, and note what only now is."""
        history, now = self._history, self._world.now_us
        known = history.durable
        kept = sum(1 for d in known if d.position < (start or 0)) + sum(
            1 for d, (position, payload) in zip(
                (d for d in known if d.position >= (start or 0)), found, strict=False
            ) if d.position == position and d.record == payload
        )  # fmt: skip
        if history.starts > 1:
            history.losses.append(Loss(now, "restart", kept, len(known)))
        del known[kept:]
        first = kept - sum(1 for d in known if d.position < (start or 0))
        known.extend(Durable(now, payload, position) for position, payload in found[first:])

    # -- writing ----------------------------------------------------------------------------------------

    def put(self, piece: Piece) -> None:
        """Take a piece of work, in order."""
        if type(piece) is InstallState:  # not isinstance, which takes long to say no to a msgspec structure
            self._queue.append(Persist((piece.target.certificate,)))
        self._queue.append(piece)
        if not self._is_busy:
            self._is_busy = True
            self._world.call(0, self._begin)

    def _begin(self) -> None:
        """Write everything that waits, then sync it if anybody waits for that."""
        if self._is_closed:
            return
        batch, self._queue = self._queue, []
        records: list[Record] = []
        is_synced = False
        for piece in batch:
            if isinstance(piece, Persist):
                records += piece.records
                if piece.then:
                    is_synced = True
            elif isinstance(piece, _SYNCED):
                is_synced = True
        encoded = [encode_record(record) for record in records]
        try:
            positions = self.log.append(encoded)
        except StorageFailed as error:
            self._failed(error)
            return
        for record, raw, position in zip(records, encoded, positions, strict=True):
            self.places.note(record, position)
            self._written.append((raw, position))
        delay_us = self._sync_us() if is_synced else 50
        self._world.call(delay_us, self._finish, batch, is_synced)

    def _sync_us(self) -> int:
        """How long a sync takes this time."""
        machine = self._node.machine
        return draw(self._world.disk_random, *machine.sync_us) + self._node.sync_extra_us if machine.is_synced else 50

    def _finish(self, batch: list[Piece], is_synced: bool) -> None:
        if self._is_closed:
            return
        if is_synced:
            try:
                if self._node.machine.is_synced:
                    self.log.sync()
            except StorageFailed as error:
                self._failed(error)
                return
            now = self._world.now_us
            self._history.durable += [Durable(now, raw, position) for raw, position in self._written]
            self._written.clear()
        then: list[Effect] = []
        for piece in batch:
            if type(piece) is Persist:
                then += piece.then
            elif type(piece) is Commit:
                self._commit(piece)
            elif isinstance(piece, tuple):
                self._checkpoint(*piece)
            elif isinstance(piece, InstallState):
                self._install(piece)
            elif isinstance(piece, ReadState | ReadLeaves | StoreChunks):
                self._world.call(CHECKPOINT_US, self._fetching, piece)
        self._is_busy = bool(self._queue)
        if self._is_busy:
            self._world.call(0, self._begin)
        if then:
            self._released(then)

    def _commit(self, commit: Commit) -> None:
        block, finalization = self.places.final(commit.block, commit.height)
        self._store.fresh_blocks[commit.height] = BlockPlace(block, finalization)
        for digest, place, first, events in commit.fates:
            self._store.fresh_fates[digest] = FatePlace(commit.height, place, first, events)

    def _checkpoint(self, effect: Checkpoint, state: State) -> None:
        position = self.places.start_after(decode_header(effect.header).view)
        meta = Meta(effect.height, effect.header, state.manifest, position, effect.certificate)

        def write() -> None:
            if not self._is_closed:
                self._store.write(meta, state)
                self._world.call(PRUNE_US, self._prune)

        self._world.call(CHECKPOINT_US, write)

    def _fetching(self, piece: ReadState | ReadLeaves | StoreChunks) -> None:
        """What concerns the store takes as long as a checkpoint, so it happens in order with those."""
        if self._is_closed:
            return
        if isinstance(piece, ReadState):
            self._node.take(StateRead(piece.target, self._store.local(piece.target.manifest)))
        elif isinstance(piece, ReadLeaves):
            leaves = self._store.local_leaves(piece.target.manifest, piece.table, piece.ranges)
            self._node.take(LeavesRead(piece.target, piece.table, piece.ranges, leaves))
        else:
            self._store.stage(piece.chunks)
            self._node.take(ChunksStored(piece.chunks.data.nbytes, piece.effort))

    def _install(self, effect: InstallState) -> None:
        """The log has the certificate already: it came with the piece."""
        target = effect.target
        position = self.places.installed(target.certificate)
        meta = Meta(
            target.header.height, target.offer.header, target.offer.manifest, position, encode(target.certificate),
            effect.is_rebuilt,
        )  # fmt: skip

        def install() -> None:
            if not self._is_closed:
                fetched = self._store.install(meta)
                self._history.installed.append(meta.height)
                self._node.begin_anew(fetched)

        self._world.call(CHECKPOINT_US, install)

    # -- pruning ----------------------------------------------------------------------------------------

    def _prune(self) -> None:
        """Let go of what this node does not keep, a little after each checkpoint, as `runtime.pruning` does."""
        meta, retention = self._store.meta, self._node.machine.retention
        if self._is_closed or meta is None or retention.mode is Mode.ARCHIVE:
            return
        try:
            aged = self._first_younger(meta, retention.period_ms)
        except StorageFailed as error:
            self._failed(error)
            return
        needs = Needs(meta.height, meta.height, self._node.served_checkpoint(), aged)
        if self._store.forget_below(floors(retention, needs)):
            reached("simulated storage: a node prunes by its retention")

    def _first_younger(self, newest: Meta, period_ms: int) -> int:
        """The lowest height whose block is younger than the period, as of the newest checkpoint's. By halving."""
        since = decode_header(newest.header).time_ms - period_ms
        low, high = self._store.lowest_header, newest.height
        while low < high:
            middle = (low + high) // 2
            place = self._store.header(middle)
            if place is None or self._time_ms(place) < since:
                low = middle + 1
            else:
                high = middle
        return low

    def _time_ms(self, place: BlockPlace) -> int:
        begin = self.reader.read_begin(place.block, BLOCK_BEGIN_BYTES)
        try:
            return decode_header(block_header(begin)).time_ms
        except Refused as refused:
            raise StorageFailed(f"the header of a block in the log is damaged: {refused}") from refused

    # -- reading ----------------------------------------------------------------------------------------

    def chain(self, from_height: int, final_height: int) -> Chain:
        """Old blocks, out of the log; raises `StorageFailed`."""
        return read_chain(self.reader, self._store.block, from_height, final_height, self._store.lowest)
