"""Final blocks with their events, read back from the log and the history, for those who read events."""

import msgspec
import numpy as np

from lockstep.base.digest import digest
from lockstep.base.errors import StorageFailed
from lockstep.log.reader import LogReader
from lockstep.node.event_batch import FinalEvents
from lockstep.node.record import decode_record, stored_block
from lockstep.runtime.history import HistoryReader
from lockstep.runtime.index import Index
from lockstep.venue.event import EVENT
from lockstep.wire.certificate import Finalization
from lockstep.wire.message import ChainBlock

_blocks = msgspec.msgpack.Decoder(ChainBlock)


class EventReader:
    """Reads with the serving thread's readers. The last block is kept: large ones are asked for in parts."""

    def __init__(self, log: LogReader, history: HistoryReader, index: Index) -> None:
        self._log = log
        self._history = history
        self._index = index
        self._last: tuple[int, FinalEvents] | None = None

    def read(self, height: int) -> FinalEvents | None:
        """The block at this height; None when it is not here (yet). Clocks are not kept on disk: it is unsettled,
        unless it has no bundles."""
        if self._last is None or self._last[0] != height:
            place = self._index.block(height)
            if place is None or height < self._index.lowest().blocks:
                return None
            stored = stored_block(_blocks.decode(memoryview(self._log.read(place.block))[1:]))
            rows = self._history.events(place.history, height)
            finalization = self._finalization(place.certificate) if place.certificate else None
            events = np.frombuffer(rows, EVENT)
            self._last = height, FinalEvents(stored, events, digest(rows), (), not stored.bundles, finalization)
        return self._last[1]

    def _finalization(self, position: int) -> Finalization:
        record = decode_record(self._log.read(position))
        if not isinstance(record, Finalization):
            raise StorageFailed(f"the index says that a finalization is at position {position} of the log; it is not")
        return record
