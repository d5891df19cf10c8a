"""The checkpoint store, in LMDB: one committed state, and an index over everything final up to it.

Each checkpoint is one write transaction: the chunks that changed, what a restart needs, and the index entries of the
blocks since the last one. It is there in full, or not at all. Another process may read while the node writes: a read
transaction sees one checkpoint, however long it takes.

Keys sort by what they mean, so they are big-endian; values are little-endian.

    meta     "checkpoint"              → `CheckpointMeta`, MessagePack
    chunks   table u16, chunk u32      → 1024 bytes
    blocks   height u64                → log position of the block u64, of its finalization u64 (0: it has none of its
                                         own), history position u64
    fates    bundle digest             → height u64, place in the block u32, first event u32, number of events u32
    staged   as chunks                 → chunks of a newer state that is being fetched; not part of the checkpoint

While there is no checkpoint at all, chunks that are fetched go where they will stay. Without `meta` they mean nothing.
"""

import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import lmdb
import msgspec
import numpy as np

from lockstep.base.errors import StorageFailed
from lockstep.ledger.changes import ChunkSet
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.wire.certificate import Finalization
from lockstep.wire.codec import encode
from lockstep.wire.message import CheckpointOffer

MAP_BYTES: Final = 1 << 38
"""Address space reserved for the store; the file grows as it is filled."""
PUTS_AT_ONCE: Final = 128
"""LMDB holds the interpreter lock during a call: between calls the event loop gets its turn."""
_CHUNK_KEY: Final = struct.Struct(">HI")
_BLOCK: Final = struct.Struct("<QQQ")
_FATE: Final = struct.Struct("<QIII")
_finalization = msgspec.msgpack.Decoder(Finalization)
_META: Final = b"checkpoint"
_ZEROS: Final = bytes(CHUNK_BYTES)


class CheckpointMeta(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a restart needs besides the chunks."""

    height: int
    header: bytes
    certificate: bytes
    manifest: bytes
    state_root: bytes
    log_position: int
    """Where to begin to read the log."""
    history_position: int
    """The history record of the checkpoint's block."""
    is_rebuilt: bool = False
    """This state was fetched by a home that was empty: whether its validator voted before is not known."""


class BlockPlace(NamedTuple):
    """Where a final block's records are."""

    block: int
    certificate: int
    history: int


class FatePlace(NamedTuple):
    """Where a final bundle's outcome is."""

    height: int
    place: int
    first: int
    events: int


class Store:
    """The store. Reading is safe from any thread; writing belongs to one."""

    def __init__(self, folder: Path, read_only: bool = False) -> None:
        """Open the store in `folder` (made if absent, unless `read_only`); raises `StorageFailed`."""
        self.folder = folder
        try:
            if not read_only:
                folder.mkdir(parents=True, exist_ok=True)
            self._env = lmdb.open(str(folder), map_size=MAP_BYTES, max_dbs=5, readonly=read_only, create=not read_only)
            names = (b"meta", b"chunks", b"blocks", b"fates")
            self._meta, self._chunks, self._blocks, self._fates = (
                self._env.open_db(name, create=not read_only) for name in names
            )
            self._staged = self._chunks if read_only else self._env.open_db(b"staged")
        except (lmdb.Error, OSError) as error:
            raise self._failure("opening", error) from error

    def close(self) -> None:
        """Give the files back."""
        self._env.close()

    def _failure(self, doing: str, error: Exception) -> StorageFailed:
        full = isinstance(error, lmdb.MapFullError) or "No space left" in str(error)
        advice = ": the disk is full; free some space, then start the node again" if full else f": {error}"
        return StorageFailed(f"{doing} the checkpoint store in {self.folder} failed{advice}")

    # -- writing --------------------------------------------------------------------------------------

    def write(
        self,
        meta: CheckpointMeta,
        changed: Iterable[ChunkSet],
        blocks: dict[int, BlockPlace],
        fates: dict[bytes, FatePlace],
    ) -> None:
        """One checkpoint, durable when this returns; raises `StorageFailed`."""
        try:
            with self._env.begin(write=True) as transaction:
                if transaction.get(_META, db=self._meta) is None:
                    transaction.drop(self._chunks, delete=False)  # what a fetch that was given up left there
                transaction.drop(self._staged, delete=False)
                for chunks in changed:
                    _put(transaction.cursor(self._chunks), _chunk_items(chunks))
                self._put_meta(transaction, meta, blocks, fates)
        except (lmdb.Error, OSError) as error:
            raise self._failure("writing to", error) from error

    def _put_meta(
        self,
        transaction: "lmdb.Transaction",
        meta: CheckpointMeta,
        blocks: dict[int, BlockPlace],
        fates: dict[bytes, FatePlace],
    ) -> None:
        _put(transaction.cursor(self._blocks), ((_height_key(h), _BLOCK.pack(*p)) for h, p in blocks.items()))
        _put(transaction.cursor(self._fates), ((d, _FATE.pack(*p)) for d, p in fates.items()))
        transaction.put(_META, encode(meta), db=self._meta)

    # -- a state that is being fetched ----------------------------------------------------------------

    def stage(self, sets: Iterable[ChunkSet]) -> None:
        """Keep chunks of a newer state, durably; raises `StorageFailed`."""
        try:
            with self._env.begin(write=True) as transaction:
                fresh = transaction.get(_META, db=self._meta) is None
                for chunks in sets:
                    _put(transaction.cursor(self._chunks if fresh else self._staged), _chunk_items(chunks))
        except (lmdb.Error, OSError) as error:
            raise self._failure("writing to", error) from error

    def local(self, table: int, first: int, count: int) -> tuple[list[int], bytes]:
        """Chunks that are here, staged ones before the checkpoint's: their numbers, and their bytes."""
        with self._env.begin(buffers=True) as transaction:
            found = dict(_range(transaction.cursor(self._chunks), table, first, count))
            found.update(_range(transaction.cursor(self._staged), table, first, count))
            numbers = sorted(found)
            return numbers, b"".join([found[number] for number in numbers])

    def install(
        self,
        meta: CheckpointMeta,
        used_bytes: list[int],
        blocks: dict[int, BlockPlace],
        fates: dict[bytes, FatePlace],
    ) -> None:
        """Everything of `meta`'s state is here: make it the checkpoint, of tables of so many bytes. One transaction;
        raises `StorageFailed`."""
        try:
            with self._env.begin(write=True) as transaction:
                chunks = transaction.cursor(self._chunks)
                _put(chunks, transaction.cursor(self._staged).iternext())
                transaction.drop(self._staged, delete=False)
                for table, used in enumerate(used_bytes):
                    _cut(transaction.cursor(self._chunks), table, used)
                self._put_meta(transaction, meta, blocks, fates)
        except (lmdb.Error, OSError) as error:
            raise self._failure("writing to", error) from error

    def pin(self) -> "PinnedCheckpoint | None":
        """The newest checkpoint, which stays readable as it is. For one thread."""
        transaction = self._env.begin(buffers=True)
        raw = transaction.get(_META, db=self._meta)
        if raw is None:
            transaction.abort()
            return None
        return PinnedCheckpoint(self._decode(bytes(raw)), transaction, self._chunks)

    # -- reading --------------------------------------------------------------------------------------

    def checkpoint(self) -> CheckpointMeta | None:
        """The newest checkpoint's meta, or None when there is none yet."""
        with self._env.begin(db=self._meta) as transaction:
            raw = transaction.get(_META)
        return None if raw is None else self._decode(raw)

    def state(self) -> tuple[CheckpointMeta, list[ChunkSet]] | None:
        """The newest checkpoint with all its chunks, from one transaction; None when there is none yet."""
        with self._env.begin() as transaction:
            raw = transaction.get(_META, db=self._meta)
            if raw is None:
                return None
            meta = self._decode(raw)
            return meta, _sets(transaction.cursor(self._chunks))

    def block(self, height: int) -> BlockPlace | None:
        """Where the final block at this height is, if a checkpoint covers it."""
        with self._env.begin(db=self._blocks) as transaction:
            raw = transaction.get(_height_key(height))
        return None if raw is None else BlockPlace(*_BLOCK.unpack(raw))

    def fate(self, bundle: bytes) -> FatePlace | None:
        """Where the outcome of this bundle is, if a checkpoint covers it."""
        with self._env.begin(db=self._fates) as transaction:
            raw = transaction.get(bundle)
        return None if raw is None else FatePlace(*_FATE.unpack(raw))

    def _decode(self, raw: bytes) -> CheckpointMeta:
        try:
            return msgspec.msgpack.decode(raw, type=CheckpointMeta)
        except msgspec.DecodeError as error:
            raise StorageFailed(f"the checkpoint in {self.folder} cannot be decoded: {error}") from error


class PinnedCheckpoint:
    """A checkpoint held by a read transaction."""

    def __init__(self, meta: CheckpointMeta, transaction: "lmdb.Transaction", chunks: "lmdb._Database") -> None:
        self.height = meta.height
        self.offer = CheckpointOffer(meta.header, _finalization.decode(meta.certificate), meta.manifest)
        self._transaction = transaction
        self._chunks = chunks

    def read(self, table: int, first: int, count: int) -> bytes:
        """So many chunks of a table; one that was never written is zeros."""
        found = _range(self._transaction.cursor(self._chunks), table, first, count)
        if len(found) == count:
            return b"".join([value for _, value in found])
        here = dict(found)
        return b"".join([here.get(number, _ZEROS) for number in range(first, first + count)])

    def close(self) -> None:
        """Let go of it."""
        self._transaction.abort()


def _range(cursor: "lmdb.Cursor", table: int, first: int, count: int) -> "list[tuple[int, bytes | memoryview]]":
    """The chunks of a table from `first` on that are there, by number."""
    found: list[tuple[int, bytes | memoryview]] = []
    if cursor.set_range(_CHUNK_KEY.pack(table, first)):
        for key, value in islice(cursor.iternext(), count):
            at, number = _CHUNK_KEY.unpack(key)
            if at != table or number >= first + count:
                break
            found.append((number, value))
    return found


def _cut(cursor: "lmdb.Cursor", table: int, used: int) -> None:
    """Take away what lies beyond a table's used bytes."""
    last, rest = divmod(used, CHUNK_BYTES)
    key = _CHUNK_KEY.pack(table, last)
    if rest:
        value = cursor.get(key)
        if value is not None:
            cursor.put(key, bytes(value[:rest]).ljust(CHUNK_BYTES, b"\0"))
        key = _CHUNK_KEY.pack(table, last + 1)
    there = cursor.set_range(key)
    while there and cursor.key()[:2] == key[:2]:
        there = cursor.delete()


def _sets(cursor: "lmdb.Cursor") -> list[ChunkSet]:
    """All chunks, by table. Joined in one go: one array row at a time would take seconds."""
    numbers: dict[int, list[int]] = {}
    rows: dict[int, list[bytes]] = {}
    for key, value in cursor:
        table, number = _CHUNK_KEY.unpack(key)
        numbers.setdefault(table, []).append(number)
        rows.setdefault(table, []).append(bytes(value))
    return [
        ChunkSet(
            table, np.array(numbers[table], np.int32),
            np.frombuffer(b"".join(rows[table]), np.uint8).reshape(-1, CHUNK_BYTES),
        )
        for table in numbers
    ]  # fmt: skip


def _height_key(height: int) -> bytes:
    return height.to_bytes(8, "big")


def _chunk_items(chunks: ChunkSet) -> Iterator[tuple[bytes, memoryview]]:
    data = np.ascontiguousarray(chunks.data).reshape(-1).data
    for place, number in enumerate(chunks.chunks.tolist()):
        yield _CHUNK_KEY.pack(chunks.table, number), data[place * CHUNK_BYTES : (place + 1) * CHUNK_BYTES]


def _put(cursor: "lmdb.Cursor", items: Iterable[tuple[bytes, bytes | memoryview]]) -> None:
    remaining = iter(items)
    while batch := list(islice(remaining, PUTS_AT_ONCE)):
        cursor.putmulti(batch)
