"""Serving a checkpoint to peers that fetch the state: which one, its trees' nodes, its chunks.

A checkpoint that somebody is fetching must stay as it is while newer ones are written, so it is *pinned*; at most two
are at a time. A pin that nobody has asked for since `IDLE_US`, or that is older than `PIN_US`, gives way when another
checkpoint is asked for; requests for one that is gone are answered with nothing, and the asker moves on to a newer.

Upon `FetchCheckpoint`: the checkpoint of exactly that height if it is pinned or is the newest; else the newest.
Upon `FetchState`: nodes, chunks, or the chunks that differ below the named nodes, read from the pinned checkpoint. A
request that asks for more than an answer may carry, or for nodes that don't exist, is a lie (`Refused`): the manifest
told the asker the shape.

The upper part of a table's tree is read from the store when it is first asked for, and stays as long as the pin: 2
bytes a chunk. Leaves are read where they are asked for.
"""

from typing import Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np

from lockstep.base.errors import Reason, Refused
from lockstep.base.limits import VALIDATORS_MAX
from lockstep.ledger.manifest import Manifest, parse_manifest
from lockstep.ledger.subtree import top_level, width
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.sync.state_changes import changed_data, marks, unpack_marks
from lockstep.sync.state_request import RANGE_LEVEL, children_level, covered, places_below, runs
from lockstep.sync.stored_table import KeptTables, StoredTable
from lockstep.venue import schema
from lockstep.venue.roster_rows import set_in_force
from lockstep.wire.message import STATE_CHUNKS_MAX, CheckpointOffer, FetchState, StatePart

PINS_MAX: Final = 2
IDLE_US: Final = 10_000_000
CHANGED_CHUNKS_MAX: Final = 1_000
"""In an answer with their numbers, which has no more room than one without."""
PIN_US: Final = 120_000_000


class PinnedState(KeptTables, Protocol):
    """One checkpoint, which stays as it is until `close`."""

    offer: CheckpointOffer
    height: int

    def close(self) -> None:
        """It is not needed any more."""


class CheckpointSource(Protocol):
    """Where checkpoints come from."""

    def newest_height(self) -> int | None:
        """Height of the newest checkpoint; None when there is none."""

    def pin(self) -> PinnedState | None:
        """The newest checkpoint, held."""


class _Pin:
    """A pinned checkpoint with its trees, which are made when they are first looked at."""

    def __init__(self, state: PinnedState, now_us: int) -> None:
        self.state = state
        self.manifest: Manifest = parse_manifest(state.offer.manifest)
        self.began_us = self.asked_us = now_us
        self.offer = self._with_validators(state.offer)
        self._tables: dict[int, StoredTable] = {}

    def _with_validators(self, offer: CheckpointOffer) -> CheckpointOffer:
        """With the set that signed it, which is the one that its state tells: no epoch ends at a checkpoint."""
        rows = [self._rows(table) for table in (schema.VENUE, schema.VALIDATORS)]
        if any(found is None for found in rows):
            return offer  # a state of something else than a venue
        venue, validators = rows
        assert venue is not None and validators is not None
        keys, stakes = set_in_force(venue, validators)
        return msgspec.structs.replace(offer, keys=keys, stakes=stakes)

    def _rows(self, table: int) -> "np.ndarray[Any, Any] | None":
        name, dtype = schema.ROWS[table]
        if table >= len(self.manifest.tables) or self.manifest.tables[table].name != name:
            return None
        used = self.manifest.tables[table].used_bytes
        if used % dtype.itemsize or used > VALIDATORS_MAX * 1024:
            return None
        return np.frombuffer(self.state.read(table, 0, -(-used // CHUNK_BYTES))[:used], dtype)

    def table(self, number: int) -> StoredTable:
        if number not in self._tables:
            entry = self.manifest.tables[number]
            self._tables[number] = StoredTable(self.state, number, entry.used_bytes, entry.hash)
        return self._tables[number]


class CheckpointServer:
    """Answers requests for the state. One thread at a time."""

    def __init__(self, source: CheckpointSource) -> None:
        self._source = source
        self._pins: dict[int, _Pin] = {}

    def offer(self, height: int, now_us: int) -> CheckpointOffer | None:
        """The checkpoint to be fetched by somebody who would like this height; None when there is none at all."""
        pin = self._pins.get(height) or self._pin_newest(now_us)
        if pin is None:
            return None
        pin.asked_us = now_us
        return pin.offer

    def part(self, request: FetchState, now_us: int) -> StatePart:
        """Nodes or chunks; raises `Refused` for a request that no honest peer makes."""
        pin = self._pins.get(request.height)
        if pin is None:
            return StatePart(request.request, b"")
        indices, chunks = self._asked(pin, request, now_us)
        if request.marks:
            data = _changed(pin, request, indices, chunks)
        elif request.chunks:
            state, table, ranges, size = _wanted(pin, request, indices, chunks)
            data = b"".join([state.read(table, first, end - first) for first, end in ranges])
            data = data if len(data) == size else data[:size]
        else:
            data = _nodes(pin, request, indices, chunks)
        return StatePart(request.request, data)

    def wanted(self, request: FetchState, now_us: int) -> "Wanted | None":
        """What a request for whole chunks is to be answered with; None when it is another request, or is to be answered
        with nothing. Raises `Refused` as `part` does."""
        pin = self._pins.get(request.height)
        if pin is None or request.marks or not request.chunks:
            return None
        return _wanted(pin, request, *self._asked(pin, request, now_us))

    @staticmethod
    def _asked(pin: _Pin, request: FetchState, now_us: int) -> "tuple[np.ndarray[Any, Any], int]":
        """The nodes that are asked for, and how many chunks the table has."""
        pin.asked_us = now_us
        if request.table >= len(pin.manifest.tables):
            raise Refused(Reason.MALFORMED, f"there is no table {request.table}")
        chunks = -(-pin.manifest.tables[request.table].used_bytes // CHUNK_BYTES)
        indices = np.frombuffer(request.indices, "<u4").astype(np.int64)
        if request.level > top_level(chunks) or indices[-1] >= width(chunks, request.level):
            raise Refused(Reason.MALFORMED, f"there is no node {indices[-1]} on level {request.level}")
        if (np.diff(indices) <= 0).any():
            raise Refused(Reason.NON_CANONICAL, "the nodes asked for are not in ascending order")
        return indices, chunks

    def release(self, now_us: int) -> None:
        """Unpin what nobody has asked for in `PIN_US`, or what is held for ten times as long: its pages can't be used
        again meanwhile, and the blocks above it stay."""
        for height, pin in list(self._pins.items()):
            if now_us - pin.asked_us > PIN_US or now_us - pin.began_us > 10 * PIN_US:
                self._drop(height)

    @property
    def lowest(self) -> int | None:
        """Height of the lowest checkpoint that somebody may be fetching: he will ask for the blocks above it."""
        return min(self._pins, default=None)

    def close(self) -> None:
        """Let go of everything."""
        for pin in self._pins.values():
            pin.state.close()
        self._pins.clear()

    def _pin_newest(self, now_us: int) -> _Pin | None:
        newest = self._source.newest_height()
        if newest is None or newest in self._pins:
            return None if newest is None else self._pins[newest]
        for height, pin in list(self._pins.items()):
            if now_us - pin.asked_us > IDLE_US or now_us - pin.began_us > PIN_US:
                self._drop(height)
        if len(self._pins) >= PINS_MAX:
            return max(self._pins.values(), key=lambda pin: pin.state.height)
        state = self._source.pin()
        if state is None:
            return None
        self._pins[state.height] = _Pin(state, now_us)
        return self._pins[state.height]

    def _drop(self, height: int) -> None:
        self._pins.pop(height).state.close()


class Wanted(NamedTuple):
    """Chunks that a request names."""

    state: PinnedState
    table: int
    ranges: list[tuple[int, int]]
    """First and end of each run of them."""
    size: int
    """Of the answer, in bytes; a table's last chunk may be shorter."""


def _wanted(pin: _Pin, request: FetchState, indices: "np.ndarray[Any, Any]", chunks: int) -> Wanted:
    if len(indices) << request.level > 2 * STATE_CHUNKS_MAX:
        raise Refused(Reason.OVERSIZE, f"an answer has at most {STATE_CHUNKS_MAX} chunks")
    ranges = [
        (covered(first, request.level, chunks)[0], covered(end - 1, request.level, chunks)[1])
        for first, end in runs(indices)
    ]
    count = sum(end - first for first, end in ranges)
    if count > STATE_CHUNKS_MAX:
        raise Refused(Reason.OVERSIZE, f"an answer has at most {STATE_CHUNKS_MAX} chunks")
    beyond = max(0, ranges[-1][1] * CHUNK_BYTES - pin.manifest.tables[request.table].used_bytes)
    return Wanted(pin.state, request.table, ranges, count * CHUNK_BYTES - beyond)


def _changed(pin: _Pin, request: FetchState, indices: "np.ndarray[Any, Any]", chunks: int) -> bytes:
    """The chunks below these nodes whose marks differ, of as many nodes as fit, but of one at least."""
    if request.level > RANGE_LEVEL:
        raise Refused(Reason.OVERSIZE, f"marks are compared below nodes of level {RANGE_LEVEL} or less")
    ranges = [covered(int(index), request.level, chunks) for index in indices]
    numbers = np.concatenate([np.arange(first, end) for first, end in ranges])
    theirs, bits = unpack_marks(request.marks, len(numbers))
    ours = marks(pin.table(request.table).leaves(numbers), bits)
    wanted = numbers[ours != theirs]
    ends = np.searchsorted(wanted, [end for _, end in ranges])
    nodes = max(1, int(np.searchsorted(ends, CHANGED_CHUNKS_MAX, "right")))
    wanted = wanted[: ends[nodes - 1]]
    data = b"".join([pin.state.read(request.table, first, end - first) for first, end in runs(wanted)])
    return changed_data(nodes, wanted, data)


def _nodes(pin: _Pin, request: FetchState, indices: "np.ndarray[Any, Any]", chunks: int) -> bytes:
    if request.level == 0:
        raise Refused(Reason.MALFORMED, "there are no nodes below a chunk")
    below = children_level(request.level)
    places = places_below(indices, request.level - below, width(chunks, below))
    return pin.table(request.table).nodes(below, places).tobytes()
