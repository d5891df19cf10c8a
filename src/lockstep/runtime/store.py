"""The checkpoint store, in LMDB: one committed state, and an index over everything final up to it.

Each checkpoint is one write transaction: the chunks that changed, what a restart needs, and the index entries of the
blocks since the last one. It is there in full, or not at all. Another process may read while the node writes: a read
transaction sees one checkpoint, however long it takes.

Keys sort by what they mean, so they are big-endian; values are little-endian.

    meta     "checkpoint"              → `CheckpointMeta`, MessagePack
    chunks   table u16, chunk u32      → 1024 bytes
    blocks, fates, headers, segments   see `BlockIndex`
    leaves   table u16, page u32       → chaining values of 32 chunks, 32 bytes each; zeros for one that is not there
    staged   as chunks                 → chunks of a newer state that is being fetched; not part of the checkpoint

While there is no checkpoint at all, chunks that are fetched go where they will stay. Without `meta` they mean nothing.
"""

import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import lmdb
import msgspec
import numpy as np

from lockstep.base.errors import StorageFailed
from lockstep.ledger.changes import ChunkSet
from lockstep.ledger.manifest import Manifest, parse_manifest
from lockstep.ledger.subtree import leaf_values
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.runtime.block_index import PUTS_AT_ONCE, BlockIndex, BlockPlace, FatePlace
from lockstep.runtime.leaf_pages import LeafPages
from lockstep.sync.local_state import local_table
from lockstep.sync.state_walk import LocalTable
from lockstep.wire.certificate import Finalization
from lockstep.wire.codec import encode
from lockstep.wire.message import CheckpointOffer

MAP_BYTES: Final = 1 << 38
"""Address space reserved for the store; the file grows as it is filled."""
_CHUNK_KEY: Final = struct.Struct(">HI")
_finalization = msgspec.msgpack.Decoder(Finalization)
_META: Final = b"checkpoint"
_ZEROS: Final = bytes(CHUNK_BYTES)
_FULL: Final = 1 << 62
"""More bytes than any table has."""
_MOVED_AT_ONCE: Final = 4_096


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


class Store:
    """The store. Reading is safe from any thread; writing belongs to one."""

    def __init__(self, folder: Path, read_only: bool = False) -> None:
        """Open the store in `folder` (made if absent, unless `read_only`); raises `StorageFailed`."""
        self.folder = folder
        try:
            if not read_only:
                folder.mkdir(parents=True, exist_ok=True)
            self._env = lmdb.open(str(folder), map_size=MAP_BYTES, max_dbs=16, readonly=read_only, create=not read_only)
            self._meta, self._chunks = (self._env.open_db(n, create=not read_only) for n in (b"meta", b"chunks"))
            self.blocks = BlockIndex(self._env, self._meta, read_only)
            self._staged = self._chunks if read_only else self._env.open_db(b"staged")
            self._leaves = LeafPages(self._env.open_db(b"leaves", create=not read_only))
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
                    self._clear(transaction)  # what a fetch that was given up left there
                    if meta.height not in blocks:
                        self.blocks.skip_to(transaction, meta.height)
                transaction.drop(self._staged, delete=False)
                for chunks in changed:
                    self._put_chunks(transaction, chunks)
                self._end_tables(transaction, meta.manifest)
                self._put_meta(transaction, meta, blocks, fates)
        except (lmdb.Error, OSError) as error:
            raise self._failure("writing to", error) from error

    def _clear(self, transaction: "lmdb.Transaction") -> None:
        transaction.drop(self._chunks, delete=False)
        self._leaves.clear(transaction)

    def _put_chunks(self, transaction: "lmdb.Transaction", chunks: ChunkSet) -> None:
        """Chunks of the checkpoint, and their leaves as if all were full: see `_end_tables`."""
        _put_set(transaction.cursor(self._chunks), chunks)
        numbers = chunks.chunks.astype(np.int64)
        self._leaves.write(transaction, chunks.table, numbers, leaf_values(chunks.data, numbers, _FULL))

    def _end_tables(self, transaction: "lmdb.Transaction", manifest: bytes) -> None:
        """The leaf of a table's last chunk says how much of it is used, which may change without a write to it. And the
        chunk before was the last one, perhaps."""
        for table, entry in enumerate(parse_manifest(manifest).tables):
            chunks = -(-entry.used_bytes // CHUNK_BYTES)
            self._leaves.cut(transaction, table, chunks)
            for number in range(max(0, chunks - 2), chunks):
                value = transaction.get(_CHUNK_KEY.pack(table, number), db=self._chunks)
                if value is not None:
                    data, at = np.frombuffer(value, np.uint8).reshape(1, -1), np.array([number])
                    self._leaves.write(transaction, table, at, leaf_values(data, at, entry.used_bytes))

    def _put_meta(
        self,
        transaction: "lmdb.Transaction",
        meta: CheckpointMeta,
        blocks: dict[int, BlockPlace],
        fates: dict[bytes, FatePlace],
    ) -> None:
        self.blocks.add(transaction, blocks, fates)
        transaction.put(_META, encode(meta), db=self._meta)

    # -- a state that is being fetched ----------------------------------------------------------------

    def stage(self, sets: Iterable[ChunkSet]) -> None:
        """Keep chunks of a newer state, durably; raises `StorageFailed`."""
        try:
            with self._env.begin(write=True) as transaction:
                fresh = transaction.get(_META, db=self._meta) is None
                for chunks in sorted(sets, key=lambda part: (part.table, int(part.chunks[0]))):
                    if fresh:
                        self._put_chunks(transaction, chunks)
                    else:
                        _put_set(transaction.cursor(self._staged), chunks)
        except (lmdb.Error, OSError) as error:
            raise self._failure("writing to", error) from error

    def local(self, manifest: Manifest) -> list[LocalTable]:
        """What is here of a state: the checkpoint's leaves, and staged chunks before those."""
        with self._env.begin(buffers=True) as transaction:
            meta = transaction.get(_META, db=self._meta)
            own = () if meta is None else parse_manifest(self._decode(bytes(meta)).manifest).tables
            tables = []
            for number, entry in enumerate(manifest.tables):
                chunks = -(-entry.used_bytes // CHUNK_BYTES)
                leaves = self._leaves.read(transaction, number, chunks)
                cursor = transaction.cursor(self._staged)
                found = dict(_range(cursor, number, 0, chunks))
                edges = [chunks - 1]  # its leaf depends on how much of it is used: there, and in the state here
                if number < len(own):
                    edges.append(-(-own[number].used_bytes // CHUNK_BYTES) - 1)
                for edge in edges:
                    value = transaction.get(_CHUNK_KEY.pack(number, max(edge, 0)), db=self._chunks)
                    if value is not None and 0 <= edge < chunks:
                        found.setdefault(edge, value)
                tables.append(local_table(entry.used_bytes, leaves, found))
            return tables

    def install(
        self,
        meta: CheckpointMeta,
        blocks: dict[int, BlockPlace],
        fates: dict[bytes, FatePlace],
    ) -> None:
        """Everything of `meta`'s state is here: make it the checkpoint. One transaction; raises `StorageFailed`."""
        try:
            with self._env.begin(write=True) as transaction:
                for chunks in _sets_of(transaction.cursor(self._staged)):
                    self._put_chunks(transaction, chunks)
                transaction.drop(self._staged, delete=False)
                for table, entry in enumerate(parse_manifest(meta.manifest).tables):
                    _cut(transaction.cursor(self._chunks), table, entry.used_bytes)
                self._end_tables(transaction, meta.manifest)
                self._put_meta(transaction, meta, blocks, fates)
                self.blocks.skip_to(transaction, meta.height)
        except (lmdb.Error, OSError) as error:
            raise self._failure("writing to", error) from error

    def pin(self) -> "PinnedCheckpoint | None":
        """The newest checkpoint, which stays readable as it is. For one thread."""
        transaction = self._env.begin(buffers=True)
        raw = transaction.get(_META, db=self._meta)
        if raw is None:
            transaction.abort()
            return None
        return PinnedCheckpoint(self._decode(bytes(raw)), transaction, self._chunks, self._leaves)

    # -- reading --------------------------------------------------------------------------------------

    def checkpoint(self) -> CheckpointMeta | None:
        """The newest checkpoint's meta, or None when there is none yet."""
        with self._env.begin(db=self._meta) as transaction:
            raw = transaction.get(_META)
        return None if raw is None else self._decode(raw)

    def checkpoints(self) -> list[CheckpointMeta]:
        """Of all checkpoints that are kept, the newest last."""
        newest = self.checkpoint()
        return [] if newest is None else [newest]

    def used_bytes(self) -> int:
        """Of the file, without the pages that are free to be used again."""
        pages = 0
        with self._env.begin() as transaction:
            for name in [None, *(key for key, _ in transaction.cursor())]:
                stat = transaction.stat(None if name is None else self._env.open_db(bytes(name), transaction))
                pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return int(pages * self._env.stat()["psize"])

    def state(self) -> tuple[CheckpointMeta, list[ChunkSet]] | None:
        """The newest checkpoint with all its chunks, from one transaction; None when there is none yet."""
        with self._env.begin() as transaction:
            raw = transaction.get(_META, db=self._meta)
            if raw is None:
                return None
            meta = self._decode(raw)
            return meta, _sets(transaction.cursor(self._chunks))

    def _decode(self, raw: bytes) -> CheckpointMeta:
        try:
            return msgspec.msgpack.decode(raw, type=CheckpointMeta)
        except msgspec.DecodeError as error:
            raise StorageFailed(f"the checkpoint in {self.folder} cannot be decoded: {error}") from error


class PinnedCheckpoint:
    """A checkpoint held by a read transaction."""

    def __init__(
        self, meta: CheckpointMeta, transaction: "lmdb.Transaction", chunks: "lmdb._Database", leaves: LeafPages
    ) -> None:
        self.height = meta.height
        self.offer = CheckpointOffer(meta.header, _finalization.decode(meta.certificate), meta.manifest)
        self._transaction = transaction
        self._chunks = chunks
        self._leaves = leaves

    def leaves(self, table: int, used: int) -> "np.ndarray[Any, Any]":
        """Chaining values of all chunks of a table with so many used bytes."""
        leaves = self._leaves.read(self._transaction, table, -(-used // CHUNK_BYTES))
        absent = np.flatnonzero(np.logical_not(leaves.any(axis=1)))
        if len(absent):  # never written: zeros
            leaves[absent] = leaf_values(np.zeros((len(absent), CHUNK_BYTES), np.uint8), absent, used)
        return leaves

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


def _sets_of(cursor: "lmdb.Cursor") -> Iterator[ChunkSet]:
    """All chunks, so many at a time."""
    remaining = iter(cursor.iternext())
    while batch := list(islice(remaining, _MOVED_AT_ONCE)):
        keys = [_CHUNK_KEY.unpack(key) for key, _ in batch]
        for table in sorted({table for table, _ in keys}):
            part = [(number, value) for (at, number), (_, value) in zip(keys, batch, strict=True) if at == table]
            data = np.frombuffer(b"".join([value for _, value in part]), np.uint8).reshape(-1, CHUNK_BYTES)
            yield ChunkSet(table, np.array([number for number, _ in part], np.int32), data)


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


def _chunk_items(chunks: ChunkSet) -> Iterator[tuple[bytes, memoryview]]:
    data = np.ascontiguousarray(chunks.data).reshape(-1).data
    for place, number in enumerate(chunks.chunks.tolist()):
        yield _CHUNK_KEY.pack(chunks.table, number), data[place * CHUNK_BYTES : (place + 1) * CHUNK_BYTES]


def _put_set(cursor: "lmdb.Cursor", chunks: ChunkSet) -> None:
    """Chunks, ascending. What comes behind everything that is there fills its pages."""
    if len(chunks.chunks):
        first = _CHUNK_KEY.pack(chunks.table, int(chunks.chunks[0]))
        _put(cursor, _chunk_items(chunks), is_behind=not cursor.last() or bytes(cursor.key()) < first)


def _put(cursor: "lmdb.Cursor", items: Iterable[tuple[bytes, bytes | memoryview]], is_behind: bool = False) -> None:
    remaining = iter(items)
    while batch := list(islice(remaining, PUTS_AT_ONCE)):
        cursor.putmulti(batch, append=is_behind)
