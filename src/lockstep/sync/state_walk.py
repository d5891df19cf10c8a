"""What to ask for: the walk down the trees of a certified state, beside what is here already.

    - Begin at the hash of every table, which the manifest states. A table that is the same here is done.
    - Below a node that is not the same, look at the nodes four levels further down; skip those that are the same.
    - Where nothing at all is here below a node of level 8 or less, or at a chunk, fetch the chunks.

So with no state this is a snapshot in ranges of 256 chunks, and with an older one it fetches the difference. Every
answer is checked by itself against a value that was proven before: the nodes against the one above them, a range of
chunks against its node. Work is taken depth first, chunks before nodes, which keeps the list of what is known to be
missing short. `ranges` restricts the walk to some tables and chunks: what is fetched is proven all the same.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from lockstep.base.errors import Reason, Refused
from lockstep.ledger.manifest import Manifest
from lockstep.ledger.subtree import ChunkTree, leaf_values, reduce_values, table_hash, top_level
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.sync.state_request import children_level, covered
from lockstep.wire.message import STATE_CHUNKS_MAX, STATE_NODES_MAX

Array = np.ndarray[Any, Any]
RANGE_LEVEL: Final = 8
"""Chunks are fetched in ranges of at most 1 << 8."""


@dataclass(slots=True)
class LocalTable:
    """What is here of a table: leaves under the shape of the state that is fetched."""

    leaves: Array
    """(chunks, 8) uint32; of a chunk that is not here, zeros."""
    present: Array
    """(chunks,) bool."""
    first_chunk: bytes = b""
    """The used bytes of a table that has a single chunk, if that is here."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """One request's worth: some nodes of one level, of which the chunks or the nodes below are wanted."""

    table: int
    level: int
    chunks: bool
    indices: list[int]
    values: list[bytes]
    """What each must hash to; for the root of a table, the table's hash."""
    size_bytes: int
    """Of the answer."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """Chunks that are what they should be."""

    table: int
    numbers: Array
    """(k,) int64, ascending."""
    data: Array
    """(k, 1024) uint8."""
    leaves: Array
    """(k, 8) uint32: their chaining values."""


@dataclass(slots=True, eq=False)
class _Table:
    used: int
    hash: bytes
    local: LocalTable
    wanted: tuple[int, int]
    levels: list[Array] = field(default_factory=list)
    counted: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    """Number of present chunks below each index: present[a:b].any() without looking."""

    @property
    def chunks(self) -> int:
        return len(self.local.leaves)

    def is_absent(self, level: int, index: int) -> bool:
        first, end = covered(index, level, self.chunks)
        return bool(self.counted[end] == self.counted[first])


class StateWalk:
    """One walk towards one manifest. `next` hands out pieces; `take` checks an answer; `give_back` returns a piece."""

    def __init__(
        self, manifest: Manifest, local: list[LocalTable], ranges: dict[int, tuple[int, int]] | None = None
    ) -> None:
        """`local` has an entry for every table of the manifest; `ranges`: table → chunks [first, end) that are wanted
        (None: everything)."""
        self._work: dict[tuple[bool, int, int], list[tuple[int, bytes]]] = {}
        self._tables: list[_Table] = []
        self.open = 0
        """Pieces handed out, not taken yet."""
        self.done_chunks = 0
        self.known_chunks = 0
        """Chunks fetched, or known to be missing."""
        for number, (entry, part) in enumerate(zip(manifest.tables, local, strict=True)):
            chunks = len(part.leaves)
            wanted = (0, chunks) if ranges is None else ranges.get(number, (0, 0))
            table = _Table(entry.used_bytes, entry.hash, part, wanted)
            self._tables.append(table)
            if chunks:
                self._begin(number, table)

    def _begin(self, number: int, table: _Table) -> None:
        part = table.local
        tree = ChunkTree(part.leaves, part.first_chunk)
        table.levels = tree.levels
        table.counted = np.concatenate(([0], np.cumsum(part.present)))
        if tree.hash != table.hash and table.wanted[0] < table.wanted[1]:
            self._want(number, table, top_level(table.chunks), 0, table.hash)

    @property
    def is_done(self) -> bool:
        """Everything wanted is here."""
        return not self._work and not self.open

    @property
    def state_chunks(self) -> int:
        """Chunks of the whole state."""
        return sum(table.chunks for table in self._tables)

    def _want(self, number: int, table: _Table, level: int, index: int, value: bytes) -> None:
        first, end = covered(index, level, table.chunks)
        begin, stop = table.wanted
        if first >= stop or end <= begin:
            return
        whole = begin <= first and end <= stop
        chunks = level == 0 or (level <= RANGE_LEVEL and whole and table.is_absent(level, index))
        self._work.setdefault((not chunks, level, number), []).append((index, value))
        if chunks:
            self.known_chunks += end - first

    # -- asking ---------------------------------------------------------------------------------------

    def next(self) -> Piece | None:
        """Something to ask for, or None."""
        if not self._work:
            return None
        key = min(self._work)  # chunks first, then the lowest nodes
        nodes, level, number = key
        stack, table = self._work[key], self._tables[number]
        if nodes:
            count = STATE_NODES_MAX
        else:
            count = min(STATE_NODES_MAX, STATE_CHUNKS_MAX >> level)
        taken = sorted(stack[:count])  # from the front, for a store is quickest when it is filled in order
        del stack[:count]
        if not stack:
            del self._work[key]
        self.open += 1
        indices = [index for index, _ in taken]
        values = [value for _, value in taken]
        below = children_level(level) if nodes else 0
        size = len(_places(indices, level - below, -(-table.chunks // (1 << below)))) * (32 if nodes else CHUNK_BYTES)
        return Piece(number, level, not nodes, indices, values, size)

    def give_back(self, piece: Piece) -> None:
        """Nobody answered: it is to be asked for again."""
        self.open -= 1
        key = (not piece.chunks, piece.level, piece.table)
        self._work.setdefault(key, []).extend(zip(piece.indices, piece.values, strict=True))

    # -- answers --------------------------------------------------------------------------------------

    def take(self, piece: Piece, data: bytes | memoryview) -> Arrived | None:
        """Check an answer, and go on from it; raises `Refused` for a lie (the piece is still open then)."""
        arrived = None
        if piece.chunks:
            arrived = self._take_chunks(piece, data)
        else:
            self._take_nodes(piece, data)
        self.open -= 1
        return arrived

    def _take_chunks(self, piece: Piece, data: bytes | memoryview) -> Arrived:
        table = self._tables[piece.table]
        numbers = _places(piece.indices, piece.level, table.chunks)
        size = len(numbers) * CHUNK_BYTES - max(0, (int(numbers[-1]) + 1) * CHUNK_BYTES - table.used)
        if len(data) != size:
            raise Refused(Reason.BAD_PROOF, f"{len(data)} bytes of chunks came, not {size}")
        rows = _rows(data, len(numbers))
        leaves = leaf_values(rows, numbers, table.used)
        self._check(piece, leaves, piece.level, rows[0].tobytes()[: table.used] if table.chunks == 1 else b"")
        table.local.leaves[numbers] = leaves
        table.local.present[numbers] = True
        if table.chunks == 1:
            table.local.first_chunk = bytes(data)
        self.done_chunks += len(numbers)
        return Arrived(piece.table, numbers, rows, leaves)

    def _take_nodes(self, piece: Piece, data: bytes | memoryview) -> None:
        table, below = self._tables[piece.table], children_level(piece.level)
        places = _places(piece.indices, piece.level - below, len(table.levels[below]))
        if len(data) != 32 * len(places):
            raise Refused(Reason.BAD_PROOF, f"{len(data)} bytes of nodes came, not {32 * len(places)}")
        values = np.frombuffer(data, np.uint32).reshape(-1, 8)
        self._check(piece, values, piece.level - below, b"")
        differ = (values != table.levels[below][places]).any(axis=1).nonzero()[0]
        for place in differ.tolist():
            self._want(piece.table, table, below, int(places[place]), values[place].tobytes())

    def _check(self, piece: Piece, values: Array, levels: int, chunk: bytes) -> None:
        """What the values lie below must be what was asked for."""
        table = self._tables[piece.table]
        if piece.level == top_level(table.chunks):
            found = [table_hash(reduce_values(values, max(levels - 1, 0)), chunk)]
        else:
            found = [value.tobytes() for value in reduce_values(values, levels)]
        if found != piece.values:
            raise Refused(Reason.BAD_PROOF, f"what came is not what table {piece.table} has there")


def _rows(data: bytes | memoryview, count: int) -> Array:
    """Chunks as rows, filled up with zeros: where they are, if the kernels can hash them there, or copied."""
    flat = np.frombuffer(data, np.uint8)
    if flat.flags.writeable and len(flat) == count * CHUNK_BYTES and flat.ctypes.data % 8 == 0:
        return flat.reshape(count, CHUNK_BYTES)
    rows = np.zeros((count, CHUNK_BYTES), np.uint8)
    rows.reshape(-1)[: len(flat)] = flat
    return rows


def _places(indices: list[int], levels: int, size: int) -> Array:
    """All places so many levels below these nodes, where there are `size`."""
    spread = (np.array(indices, np.int64)[:, None] << levels) + np.arange(1 << levels)
    flat = spread.reshape(-1)
    return flat[flat < size]
