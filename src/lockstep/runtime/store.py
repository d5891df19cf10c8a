"""The checkpoint store: one committed state, and an index over everything final up to it.

Each checkpoint is one LMDB write transaction: the chunks that changed, what a restart needs, and the index entries of
the blocks since the last one. It is there in full, or not at all. Another process may read while the node writes: a
read transaction sees one checkpoint, however long it takes.

Keys sort by what they mean, so they are big-endian; values are little-endian.

    meta     "checkpoint"              → `CheckpointMeta`, MessagePack
             "base"                    → `Base`: the folder of flat files that lie under the chunks, if any
    chunks   table u16, chunk u32      → 1024 bytes, written since the flat files were
    leaves   table u16, page u32       → chaining values of 32 chunks, 32 bytes each; zeros for one that is not there
             table + 0x8000, page/32   → values of 32 pages, those of flat files too
    blocks, fates, headers, segments   see `BlockIndex`
    older, images                      see `OlderCheckpoints`

Beside LMDB's file there are folders `tables-N`: the one that "base" names, and the next number's for chunks of a newer
state that is being fetched (`staging`). A fetched state of which much is new becomes the base (`fold`); so does a
checkpoint of which much is in LMDB.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import lmdb
import msgspec
import numpy as np

from lockstep.base.errors import StorageFailed
from lockstep.ledger.changes import ChunkSet
from lockstep.ledger.manifest import Manifest, parse_manifest
from lockstep.runtime.block_index import BlockIndex, BlockPlace, FatePlace
from lockstep.runtime.checkpoint_tables import CheckpointTables, Databases, chunks_of
from lockstep.runtime.flat_tables import Base, FlatTables, Span
from lockstep.runtime.fold import fold, is_worth_folding
from lockstep.runtime.leaf_pages import LeafPages
from lockstep.runtime.older_checkpoints import OlderCheckpoints
from lockstep.runtime.staging import Staging
from lockstep.sync.local_state import LocalState
from lockstep.sync.local_table import LocalTable
from lockstep.sync.state_walk import Arrived
from lockstep.wire.certificate import Finalization
from lockstep.wire.codec import encode
from lockstep.wire.message import CheckpointOffer

MAP_BYTES: Final = 1 << 38
"""Address space reserved for the store; the file grows as it is filled."""
_finalization = msgspec.msgpack.Decoder(Finalization)
META: Final = b"checkpoint"
_BASE: Final = b"base"
_FOLDER: Final = "tables-"
_ATTEMPTS: Final = 5
"""Of reading a checkpoint whose flat files are replaced just then."""


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

    def __init__(self, folder: Path, read_only: bool = False, checkpoints_kept: int = 1) -> None:
        """Open the store in `folder` (made if absent, unless `read_only`); raises `StorageFailed`."""
        self.folder = folder
        self._kept = checkpoints_kept
        try:
            if not read_only:
                folder.mkdir(parents=True, exist_ok=True)
            self._env = lmdb.open(str(folder), map_size=MAP_BYTES, max_dbs=16, readonly=read_only, create=not read_only)
            self._meta, self._chunks = (self._env.open_db(n, create=not read_only) for n in (b"meta", b"chunks"))
            self.blocks = BlockIndex(self._env, self._meta, read_only)
            leaves = self._env.open_db(b"leaves", create=not read_only)
            self._databases = Databases(self._chunks, LeafPages(leaves))
            self._staging = None if read_only else self._open_staging()
            self._older = None if read_only else OlderCheckpoints(self._env)
        except (lmdb.Error, OSError) as error:
            raise self._failure("opening", error) from error

    def close(self) -> None:
        """Give the files back."""
        if self._staging is not None:
            self._staging.release()
        self._env.close()

    def _open_staging(self) -> Staging:
        """The staging area: the folder after the base's. Others are left from before a crash."""
        with self._env.begin() as transaction:
            base = self._base(transaction)
        current = 0 if base is None else int(base.name.removeprefix(_FOLDER))
        staging = self.folder / f"{_FOLDER}{current + 1}"
        for folder in self.folder.glob(f"{_FOLDER}*"):
            if folder != staging and (base is None or folder.name != base.name):
                shutil.rmtree(folder, ignore_errors=True)
        return Staging(staging)

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
        with self._writing() as (transaction, tables):
            if transaction.get(META, db=self._meta) is None and meta.height not in blocks:
                self.blocks.skip_to(transaction, meta.height)
            is_folded = self._put_state(transaction, tables, meta, changed)
            self._put_meta(transaction, meta, blocks, fates)
        if is_folded:
            self._staging = self._open_staging()

    def _put_state(
        self,
        transaction: "lmdb.Transaction",
        tables: CheckpointTables,
        meta: CheckpointMeta,
        changed: Iterable[ChunkSet],
    ) -> bool:
        """What has changed since the newest checkpoint, which becomes an older one; whether into flat files."""
        assert self._staging is not None and self._older is not None
        manifest = parse_manifest(meta.manifest)
        self._staging.clear()  # what a fetch that was given up left there
        raw = transaction.get(META, db=self._meta)
        before = None if raw is None else self._decode(bytes(raw))
        keeper = self._older.keeper(transaction, before, tables, self._kept - 1)
        for part in changed:
            keeper.save(part.table, part.chunks)
            tables.put(part.table, part.chunks.astype(np.int64), part.data)
        keeper.save_beyond(manifest)
        former = None if before is None else parse_manifest(before.manifest)
        tables.end(manifest, former)
        tables.fill(manifest, former)
        base = None
        if is_worth_folding(tables.changed_chunks(), manifest):
            base = fold(tables, self._staging, manifest, manifest)
        else:
            tables.seal(manifest)
        self._put_base(transaction, tables, base)
        return base is not None

    @contextmanager
    def _writing(self) -> "Iterator[tuple[lmdb.Transaction, CheckpointTables]]":
        """A write transaction; raises `StorageFailed`."""
        try:
            with self._env.begin(write=True) as transaction:
                tables = CheckpointTables(transaction, self._databases, self._flat(transaction))
                try:
                    yield transaction, tables
                finally:
                    tables.close()
        except (lmdb.Error, OSError) as error:
            raise self._failure("writing to", error) from error

    def _base(self, transaction: "lmdb.Transaction") -> Base | None:
        raw = transaction.get(_BASE, db=self._meta)
        return None if raw is None else msgspec.msgpack.decode(bytes(raw), type=Base)

    def _flat(self, transaction: "lmdb.Transaction") -> FlatTables | None:
        base = self._base(transaction)
        return None if base is None else FlatTables(self.folder / base.name, base.chunks)

    def _put_base(self, transaction: "lmdb.Transaction", tables: CheckpointTables, base: Base | None) -> None:
        """The flat files that count from now on: `base`, or those that counted, as far as they still do."""
        if base is None:
            before = self._base(transaction)
            if before is None:
                return
            base = Base(before.name, tables.limits)
        transaction.put(_BASE, encode(base), db=self._meta)

    def _put_meta(
        self,
        transaction: "lmdb.Transaction",
        meta: CheckpointMeta,
        blocks: dict[int, BlockPlace],
        fates: dict[bytes, FatePlace],
    ) -> None:
        self.blocks.add(transaction, blocks, fates)
        transaction.put(META, encode(meta), db=self._meta)

    # -- a state that is being fetched ----------------------------------------------------------------

    def stage(self, parts: Iterable[Arrived]) -> None:
        """Keep chunks of a newer state: a crash of the process doesn't lose them; raises `StorageFailed`."""
        assert self._staging is not None
        try:
            self._staging.put(parts)
        except OSError as error:
            raise self._failure("writing to", error) from error

    def local(self, manifest: Manifest) -> list[LocalTable | None]:
        """What is here of a state: the checkpoint's tables, and staged chunks before those; None for a table that is
        the same here."""
        with self._looking() as state:
            return state.tables(manifest)

    def local_leaves(self, manifest: Manifest, table: int, ranges: list[int]) -> "np.ndarray[Any, Any]":
        """The leaves of these ascending ranges of a table, (k, 8) uint32; zeros for a chunk that is not here."""
        with self._looking() as state:
            return state.leaves(manifest, table, ranges)

    @contextmanager
    def _looking(self) -> Iterator[LocalState]:
        assert self._staging is not None
        with self._reading() as (meta, here):
            yield LocalState(None if meta is None else parse_manifest(meta.manifest), here, self._staging)

    def install(
        self,
        meta: CheckpointMeta,
        blocks: dict[int, BlockPlace],
        fates: dict[bytes, FatePlace],
    ) -> "dict[int, np.ndarray[Any, Any]]":
        """Everything of `meta`'s state is here: make it the checkpoint. One transaction; raises `StorageFailed`.

        Returns table → numbers of the chunks that may be others than in the checkpoint before, ascending."""
        assert self._staging is not None and self._older is not None
        manifest = parse_manifest(meta.manifest)
        fetched = self._staging.numbers()
        with self._writing() as (transaction, tables):
            raw = transaction.get(META, db=self._meta)
            before = None if raw is None else parse_manifest(self._decode(bytes(raw)).manifest)
            base = None
            if before is None or is_worth_folding(sum(map(len, fetched.values())) + tables.changed_chunks(), manifest):
                base = fold(tables, self._staging, manifest, before)
            else:
                for part in self._staging.parts([chunks_of(entry) for entry in manifest.tables]):
                    tables.put(part.table, part.numbers, part.data, part.leaves)
                tables.cut(manifest)
                tables.end(manifest, before)
                tables.seal(manifest)
            self._put_base(transaction, tables, base)
            self._put_meta(transaction, meta, blocks, fates)
            self.blocks.skip_to(transaction, meta.height)
            self._older.forget_from(transaction, 0)
        if base is None:
            self._staging.clear()
        else:
            self._staging = self._open_staging()
        return fetched

    def pin(self) -> "PinnedCheckpoint | None":
        """The newest checkpoint, which stays readable as it is. For one thread."""
        transaction, meta, tables = self._begin_reading()
        if meta is None:
            tables.close()
            transaction.abort()
            return None
        return PinnedCheckpoint(meta, transaction, tables)

    # -- reading --------------------------------------------------------------------------------------

    def checkpoint(self) -> CheckpointMeta | None:
        """The newest checkpoint's meta, or None when there is none yet."""
        with self._env.begin(db=self._meta) as transaction:
            raw = transaction.get(META)
        return None if raw is None else self._decode(raw)

    def checkpoints(self) -> list[CheckpointMeta]:
        """Of all checkpoints that are kept, the newest last."""
        with self._env.begin() as transaction:
            older = [] if self._older is None else self._older.metas(transaction)
            newest = transaction.get(META, db=self._meta)
        return [self._decode(bytes(raw)) for raw in (*older, newest) if raw is not None]

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
        with self._reading() as (meta, tables):
            return None if meta is None else (meta, tables.sets())

    def _begin_reading(self) -> "tuple[lmdb.Transaction, CheckpointMeta | None, CheckpointTables]":
        """A read transaction and what it sees; raises `StorageFailed`."""
        for attempt in range(1, _ATTEMPTS + 1):
            transaction = self._env.begin(buffers=True)
            try:
                raw = transaction.get(META, db=self._meta)
                meta = None if raw is None else self._decode(bytes(raw))
                return transaction, meta, CheckpointTables(transaction, self._databases, self._flat(transaction))
            except OSError as error:
                transaction.abort()
                if attempt == _ATTEMPTS:
                    raise self._failure("reading", error) from error
        raise AssertionError("unreachable")

    @contextmanager
    def _reading(self) -> "Iterator[tuple[CheckpointMeta | None, CheckpointTables]]":
        transaction, meta, tables = self._begin_reading()
        try:
            yield meta, tables
        finally:
            tables.close()
            transaction.abort()

    def _decode(self, raw: bytes) -> CheckpointMeta:
        try:
            return msgspec.msgpack.decode(raw, type=CheckpointMeta)
        except msgspec.DecodeError as error:
            raise StorageFailed(f"the checkpoint in {self.folder} cannot be decoded: {error}") from error


class PinnedCheckpoint:
    """A checkpoint held by a read transaction, and by its flat files being open."""

    def __init__(self, meta: CheckpointMeta, transaction: "lmdb.Transaction", tables: CheckpointTables) -> None:
        self.height = meta.height
        self.offer = CheckpointOffer(meta.header, _finalization.decode(meta.certificate), meta.manifest)
        self._transaction = transaction
        self._tables = tables

    def leaves(self, table: int, first: int, count: int) -> "np.ndarray[Any, Any]":
        """Chaining values, (count, 8) uint32, of the chunks from `first` on; zeros of one that was never written."""
        return self._tables.leaves(table, first, count)

    def page_values(self, table: int, pages: int) -> "np.ndarray[Any, Any]":
        """The nodes on `PAGE_LEVEL` as they are kept, (pages, 8) uint32; zeros where none is."""
        return self._tables.page_values(table, pages)

    def read(self, table: int, first: int, count: int) -> bytes:
        """So many chunks of a table; one that was never written is zeros."""
        return self._tables.read(table, first, count)

    def spans(self, table: int, first: int, count: int) -> list[bytes | Span]:
        """The same, as far as possible as places in files."""
        return self._tables.spans(table, first, count)

    def close(self) -> None:
        """Let go of it."""
        self._tables.close()
        self._transaction.abort()
