"""The store of a home that does not run: older checkpoints are looked at, and may become the newest again."""

from collections.abc import Iterable

import lmdb
import numpy as np

from lockstep.ledger.changes import ChunkSet
from lockstep.ledger.manifest import parse_manifest
from lockstep.runtime.block_index import BlockPlace, FatePlace
from lockstep.runtime.checkpoint_tables import CheckpointTables
from lockstep.runtime.store import META, CheckpointMeta, Store


class StoppedStore(Store):
    """For a process that holds the home's lock."""

    def older_state(self, height: int) -> list[ChunkSet]:
        """The chunks of a kept checkpoint, to be put in this order. `checkpoints` says of which heights there are."""
        assert self._older is not None
        transaction, _, tables = self._begin_reading()
        try:
            return [*tables.sets(), *self._older.sets(transaction, height)]
        finally:
            tables.close()
            transaction.abort()

    def roll_back(
        self,
        base: int | None,
        meta: CheckpointMeta,
        changed: Iterable[ChunkSet],
        blocks: dict[int, BlockPlace],
        fates: dict[bytes, FatePlace],
    ) -> None:
        """Make `meta` the newest checkpoint: the kept one of height `base` (None: genesis), and what was `changed`
        since. Forget the blocks above it, add those that the index has not got yet. One transaction; raises
        `StorageFailed`."""
        assert self._older is not None
        is_folded = False
        with self._writing() as (transaction, tables):
            if base is None:
                self._older.forget_from(transaction, 0)
                transaction.delete(META, db=self._meta)
                tables.forget()
            else:
                self._restore(transaction, tables, base)
            self.blocks.cut_above(transaction, meta.height)
            if base == meta.height:
                self._put_base(transaction, tables, None)
            else:
                is_folded = self._put_state(transaction, tables, meta, changed)
            self._put_meta(transaction, meta, blocks, fates)
        if is_folded:
            self._staging = self._open_staging()

    def _restore(self, transaction: "lmdb.Transaction", tables: CheckpointTables, height: int) -> None:
        """A kept checkpoint becomes the newest."""
        assert self._older is not None and self._staging is not None
        self._staging.clear()
        raw = transaction.get(META, db=self._meta)
        newest = None if raw is None else self._decode(bytes(raw))
        metas = [meta for meta in map(self._decode, self._older.metas(transaction)) if meta.height == height]
        if newest is None or not metas:
            return
        for part in self._older.sets(transaction, height):
            tables.put(part.table, part.chunks.astype(np.int64), part.data)
        manifest = parse_manifest(metas[0].manifest)
        tables.end(manifest, parse_manifest(newest.manifest))
        tables.seal(manifest)
        self._older.forget_from(transaction, height)
        self._put_meta(transaction, metas[0], {}, {})
