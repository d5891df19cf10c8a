"""What to ask for: the walk down the trees of a certified state, beside what is here already.

    - Begin at the hash of every table, which the manifest states. A table that is the same here is done.
    - Below a node that is not the same, look at the nodes four levels further down; skip those that are the same.
    - At a range of 256 chunks that is not the same, have the leaves that are here read (`take_reads`), and go on then.
    - Where nothing at all is here below a node of level 8 or less, or at a chunk, fetch the chunks.
    - Where most is here below such a node, send marks of what is here, and fetch the chunks that have others
      (`state_changes`). While the node's value does not come out, ask again with other marks, twice; and then look at
      the nodes below after all.

So with no state this is a snapshot in ranges of 256 chunks, and with an older one it fetches the difference. Every
answer is checked against a value that was proven before: the nodes against the one above them, chunks against their
node. What a node's value does not bear out waits, with the name of who sent it (`state_pending`). Work is taken depth
first, chunks before nodes, which keeps the list of what is known to be missing short. `ranges` restricts the walk to
some tables and chunks: what is fetched is proven all the same.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple

import numpy as np

from lockstep.base.errors import Reason, Refused
from lockstep.ledger.manifest import Manifest
from lockstep.ledger.subtree import leaf_values, table_hash, top_level, width
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.sync.local_table import LocalTable
from lockstep.sync.state_changes import MARK_BITS, marks, pack_marks, parse_changed
from lockstep.sync.state_hash import nodes_above
from lockstep.sync.state_pending import Pending
from lockstep.sync.state_request import RANGE_LEVEL, children_level, covered, places_below
from lockstep.wire.message import STATE_NODES_MAX

Array = np.ndarray[Any, Any]
CHANGED_AT_ONCE: Final = 256
"""Changed chunks that a request should bring, by what others brought,"""
CHANGED_NODES_MAX: Final = 64
"""below not more nodes than these."""
RANGES_AT_ONCE: Final = 128
"""Read here, so that the first can be asked about while the next are read."""


class Kind(IntEnum):
    """What is wanted of a node; in the order in which it is asked for."""

    CHUNKS = 0
    ONCE_MORE = 1
    AGAIN = 2
    CHANGED = 3
    NODES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """One request's worth: some nodes of one level, of which the chunks or the nodes below are wanted."""

    table: int
    level: int
    kind: Kind
    indices: list[int]
    values: list[bytes]
    """What each must hash to; for the root of a table, the table's hash."""
    size_bytes: int
    """Of the answer, about."""
    marks: bytes = b""
    leaves: Array | None = None
    """What the marks are of."""


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


class _Table(NamedTuple):
    used: int
    hash: bytes
    chunks: int
    local: LocalTable
    wanted: tuple[int, int]


class StateWalk:
    """One walk towards one manifest. `next` hands out pieces; `take` checks an answer; `give_back` returns a piece."""

    def __init__(
        self, manifest: Manifest, local: list[LocalTable | None], ranges: dict[int, tuple[int, int]] | None = None
    ) -> None:
        """`local` has an entry for every table of the manifest, None for one that is the same here; `ranges`: table →
        chunks [first, end) that are wanted (None: everything)."""
        self._work: dict[tuple[Kind, int, int], list[tuple[int, bytes]]] = {}
        self._tables: dict[int, _Table] = {}
        """Those that are not the same."""
        self._to_read: dict[int, list[int]] = {}
        self._reading: dict[tuple[int, int], bytes] = {}
        """Table and range whose leaves are read here, before it can be said what to ask for → its value."""
        self.state_chunks = sum(-(-entry.used_bytes // CHUNK_BYTES) for entry in manifest.tables)
        """Of the whole state."""
        self.open = 0
        """Pieces handed out, not taken yet."""
        self.done_chunks = 0
        self.same_chunks = 0
        """Found to be here already."""
        self.known_chunks = 0
        """Chunks fetched, or known to be missing."""
        self.pending = Pending()
        self._plain: dict[tuple[int, int], None] = {}
        """Table and range of chunks where marks did not help."""
        self._compared_nodes, self._changed_chunks = 1, 16
        for number, (entry, part) in enumerate(zip(manifest.tables, local, strict=True)):
            if part is None or not part.chunks or part.hash == entry.hash:
                self.same_chunks += -(-entry.used_bytes // CHUNK_BYTES)
                continue
            first, end = (0, part.chunks) if ranges is None else ranges.get(number, (0, 0))
            if first < end:
                table = _Table(entry.used_bytes, entry.hash, part.chunks, part, (first, end))
                self._tables[number] = table
                self._want(number, table, top_level(table.chunks), 0, table.hash)

    @property
    def is_done(self) -> bool:
        """Everything wanted is here."""
        return not self._work and not self.open and not self._reading

    def _want(self, number: int, table: _Table, level: int, index: int, value: bytes) -> None:
        first, end = covered(index, level, table.chunks)
        begin, stop = table.wanted
        if first >= stop or end <= begin:
            return
        whole = level <= RANGE_LEVEL and begin <= first and end <= stop
        if level == 0 or (whole and table.local.is_absent(level, index)):
            kind = Kind.CHUNKS
            self.known_chunks += end - first
        elif level == RANGE_LEVEL and not table.local.is_read(index):
            self._to_read.setdefault(number, []).append(index)
            self._reading[number, index] = value
            return
        else:
            is_plain = (number, first >> RANGE_LEVEL) in self._plain
            is_here = whole and not is_plain and table.local.is_mostly_here(level, index)
            kind = Kind.CHANGED if is_here else Kind.NODES
        self._work.setdefault((kind, level, number), []).append((index, value))

    # -- what is here ---------------------------------------------------------------------------------

    def take_reads(self) -> list[tuple[int, list[int]]]:
        """Tables and some of their ranges, ascending, of which the leaves are to be read here."""
        reads = [
            (number, sorted(indices)[first : first + RANGES_AT_ONCE])
            for number, indices in self._to_read.items()
            for first in range(0, len(indices), RANGES_AT_ONCE)
        ]
        self._to_read.clear()
        return reads

    def read(self, number: int, indices: list[int], leaves: Array) -> None:
        """The leaves of these ranges as they are here, one after the other."""
        table, at = self._tables[number], 0
        for index in indices:
            first, end = covered(index, RANGE_LEVEL, table.chunks)
            table.local.read(index, leaves[at : at + end - first])
            at += end - first
            self._want(number, table, RANGE_LEVEL, index, self._reading.pop((number, index)))

    # -- asking ---------------------------------------------------------------------------------------

    def next(self, chunks: int) -> Piece | None:
        """Something to ask for, whole chunks up to so many; or None."""
        if not self._work:
            return None
        key = min(self._work)  # chunks first, then the lowest nodes
        kind, level, number = key
        stack = self._work[key]
        count = STATE_NODES_MAX
        if kind is Kind.CHUNKS:
            count = min(count, max(1, chunks >> level))
        elif kind is not Kind.NODES:
            count = max(1, min(CHANGED_AT_ONCE * self._compared_nodes // self._changed_chunks, CHANGED_NODES_MAX))
        taken = sorted(stack[:count])  # from the front, for a store is quickest when it is filled in order
        del stack[:count]
        if not stack:
            del self._work[key]
        self.open += 1
        return self._piece(number, level, kind, [index for index, _ in taken], [value for _, value in taken])

    def _piece(self, number: int, level: int, kind: Kind, indices: list[int], values: list[bytes]) -> Piece:
        table = self._tables[number]
        if kind is Kind.NODES:
            below = children_level(level)
            places = places_below(indices, level - below, -(-table.chunks // (1 << below)))
            return Piece(number, level, kind, indices, values, 32 * len(places))
        places = places_below(indices, level, table.chunks)
        if kind is Kind.CHUNKS:
            return Piece(number, level, kind, indices, values, CHUNK_BYTES * len(places))
        leaves = self._leaves(number, level, indices, places)
        bits = MARK_BITS[Kind.CHANGED - kind]
        size = CHUNK_BYTES * (1 + len(indices) * self._changed_chunks // self._compared_nodes)
        return Piece(number, level, kind, indices, values, size, pack_marks(marks(leaves, bits), bits), leaves)

    def _leaves(self, number: int, level: int, indices: list[int], places: Array) -> Array:
        """What is here at these places below these nodes, with what came for them and is not proven."""
        leaves = self._tables[number].local.leaves(places)
        for index in indices:
            for chunk, received in self.pending.of(number, level, index).items():
                leaves[np.searchsorted(places, chunk)] = received.leaf
        return leaves

    def askers(self, piece: Piece) -> list[int]:
        """Peers whose answers about these nodes did not come out: rather somebody else is to be asked again."""
        return [peer for index in piece.indices for peer in self.pending.peers(piece.table, piece.level, index)]

    def give_back(self, piece: Piece) -> None:
        """Nobody answered: it is to be asked for again."""
        self.open -= 1
        self._put_back(piece, 0)

    def _put_back(self, piece: Piece, first: int) -> None:
        rest = list(zip(piece.indices[first:], piece.values[first:], strict=True))
        if rest:
            self._work.setdefault((piece.kind, piece.level, piece.table), []).extend(rest)

    # -- answers --------------------------------------------------------------------------------------

    def take(self, piece: Piece, data: bytes | memoryview, peer: int, leaves: Array | None = None) -> Arrived | None:
        """Check an answer, and go on from it; raises `Refused` for a lie (the piece is still open then). `leaves`: the
        chaining values of these chunks, taken as full, if this node has hashed them already."""
        arrived = None
        match piece.kind:
            case Kind.CHUNKS:
                arrived = self._take_chunks(piece, data, leaves)
            case Kind.NODES:
                self._take_nodes(piece, data)
            case _:
                arrived = self._take_changed(piece, data, peer)
        self.open -= 1
        return arrived

    def _take_chunks(self, piece: Piece, data: bytes | memoryview, leaves: Array | None) -> Arrived:
        table = self._tables[piece.table]
        numbers = places_below(piece.indices, piece.level, table.chunks)
        size = len(numbers) * CHUNK_BYTES - max(0, (int(numbers[-1]) + 1) * CHUNK_BYTES - table.used)
        if len(data) != size:
            raise Refused(Reason.BAD_PROOF, f"{len(data)} bytes of chunks came, not {size}")
        rows = _rows(data, len(numbers))
        if leaves is None or len(leaves) != len(numbers) or size != len(numbers) * CHUNK_BYTES:
            leaves = leaf_values(rows, numbers, table.used)
        self._check(piece, leaves, piece.level, rows[0].tobytes()[: table.used] if table.chunks == 1 else b"")
        self.done_chunks += len(numbers)
        return Arrived(piece.table, numbers, rows, leaves)

    def _take_changed(self, piece: Piece, data: bytes | memoryview, peer: int) -> Arrived | None:
        table = self._tables[piece.table]
        nodes, numbers, rows = parse_changed(data)
        indices = piece.indices[:nodes]
        places = places_below(indices, piece.level, table.chunks) if indices else np.zeros(0, np.int64)
        at = np.searchsorted(places, numbers)
        if not 1 <= nodes <= len(piece.indices) or (np.append(places, -1)[at] != numbers).any():
            raise Refused(Reason.BAD_PROOF, "what came about changed chunks is not what was asked for")
        leaves = leaf_values(rows, numbers, table.used)
        if len(numbers) and rows[-1, max(0, table.used - int(numbers[-1]) * CHUNK_BYTES) :].any():
            raise Refused(Reason.BAD_PROOF, f"chunk {numbers[-1]} has bytes beyond the end of table {piece.table}")
        assert piece.leaves is not None
        values = piece.leaves[: len(places)].copy()
        values[at] = leaves
        found = self._above(piece, values, piece.level, b"")
        proven = np.array([one == other for one, other in zip(found, piece.values, strict=False)])
        self._put_back(piece, nodes)
        self._compared_nodes += nodes
        self._changed_chunks += len(numbers)
        is_plain = [
            bool(proven[i]) and not self.pending.waits(piece.table, piece.level, x) for i, x in enumerate(indices)
        ]
        plain = np.array(is_plain)[np.searchsorted(indices, numbers >> piece.level)]
        parts = [(numbers[plain], rows[plain], leaves[plain])]
        for place in [place for place in range(nodes) if not is_plain[place]]:
            self.pending.note((piece.table, piece.level, indices[place]), peer, (numbers, rows, leaves))
            parts += self._settle(piece, place, bool(proven[place]))
        numbers, rows, leaves = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        self._found_same(table, piece.level, np.array(indices, np.int64)[proven])
        self.same_chunks -= len(numbers)
        if not len(numbers):
            return None
        self.known_chunks += len(numbers)
        self.done_chunks += len(numbers)
        order = np.argsort(numbers)
        return Arrived(piece.table, numbers[order], rows[order], leaves[order])

    def _settle(self, piece: Piece, place: int, is_proven: bool) -> "list[tuple[Array, Array, Array]]":
        """What came for a node: all of it, if the node's value came out; else it waits, and more is asked for."""
        index, value = piece.indices[place], piece.values[place]
        if is_proven:
            return [self.pending.prove(piece.table, piece.level, index, self._tables[piece.table].local.leaves)]
        then = Kind(piece.kind - 1)
        if piece.kind is Kind.ONCE_MORE:
            then = Kind.NODES
            self.pending.doubt(piece.table, piece.level, index)
            self._plain[piece.table, index << piece.level >> RANGE_LEVEL] = None
        self._work.setdefault((then, piece.level, piece.table), []).append((index, value))
        return []

    def _take_nodes(self, piece: Piece, data: bytes | memoryview) -> None:
        table, below = self._tables[piece.table], children_level(piece.level)
        places = places_below(piece.indices, piece.level - below, width(table.chunks, below))
        if len(data) != 32 * len(places):
            raise Refused(Reason.BAD_PROOF, f"{len(data)} bytes of nodes came, not {32 * len(places)}")
        values = np.frombuffer(data, np.uint32).reshape(-1, 8)
        self._check(piece, values, piece.level - below, b"")
        same = (values == table.local.nodes(below, places)).all(axis=1)
        self._found_same(table, below, places[same])
        if self.pending.doubted and below < RANGE_LEVEL:  # what is doubted lies in ranges that were read
            for place in same.nonzero()[0].tolist():
                numbers = np.arange(*covered(int(places[place]), below, table.chunks))
                self.pending.judge(piece.table, int(numbers[0]), table.local.leaves(numbers))
            if below == 0:
                for place, number in enumerate(places.tolist()):
                    self.pending.judge(piece.table, number, values[place : place + 1])
        for place in np.logical_not(same).nonzero()[0].tolist():
            self._want(piece.table, table, below, int(places[place]), values[place].tobytes())

    def _found_same(self, table: _Table, level: int, places: Array) -> None:
        self.same_chunks += int((np.minimum(places + 1 << level, table.chunks) - (places << level)).sum())

    def _check(self, piece: Piece, values: Array, levels: int, chunk: bytes) -> None:
        """What the values lie below must be what was asked for."""
        if self._above(piece, values, levels, chunk) != piece.values:
            raise Refused(Reason.BAD_PROOF, f"what came is not what table {piece.table} has there")

    def _above(self, piece: Piece, values: Array, levels: int, chunk: bytes) -> list[bytes]:
        """The piece's nodes, from values so many levels below."""
        if piece.level == top_level(self._tables[piece.table].chunks):
            return [table_hash(nodes_above(values, max(levels - 1, 0)), chunk)]
        return [value.tobytes() for value in nodes_above(values, levels)]


def _rows(data: bytes | memoryview, count: int) -> Array:
    """Chunks as rows, filled up with zeros: where they are, if the kernels can hash them there, or copied."""
    flat = np.frombuffer(data, np.uint8)
    if flat.flags.writeable and len(flat) == count * CHUNK_BYTES and flat.ctypes.data % 8 == 0:
        return flat.reshape(count, CHUNK_BYTES)
    rows = np.zeros((count, CHUNK_BYTES), np.uint8)
    rows.reshape(-1)[: len(flat)] = flat
    return rows
