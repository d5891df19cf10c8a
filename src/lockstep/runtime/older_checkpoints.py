"""Checkpoints before the newest one, kept as what the newer ones overwrote.

When a checkpoint is written, the chunks that it changes are copied first, under the height of the one before: what
that one costs is its changed chunks, not its state. An older state is the newest with these images put back, from the
newest checkpoint to the oldest.

    older     height u64                           → `CheckpointMeta`, MessagePack
    images    height u64, table u16, chunk u32     → 1024 bytes; none: zeros

Part of the store's transactions; see `Store`.
"""

import struct
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import TYPE_CHECKING, Final

import lmdb
import numpy as np

from lockstep.ledger.changes import ChunkSet
from lockstep.ledger.manifest import Manifest, parse_manifest
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.runtime.block_index import PUTS_AT_ONCE
from lockstep.runtime.checkpoint_tables import CheckpointTables, chunks_of
from lockstep.wire.codec import encode

if TYPE_CHECKING:
    from lockstep.runtime.store import CheckpointMeta

_HEIGHT: Final = struct.Struct(">Q")
_IMAGE: Final = struct.Struct(">QHI")
_ZEROS: Final = bytes(CHUNK_BYTES)
_SET_CHUNKS: Final = 4_096


class OlderCheckpoints:
    """In the store's environment."""

    def __init__(self, env: "lmdb.Environment") -> None:
        """Raises `lmdb.Error`."""
        self._older = env.open_db(b"older")
        self._images = env.open_db(b"images")

    def metas(self, transaction: "lmdb.Transaction") -> list[bytes]:
        """Encoded, the oldest first."""
        return [bytes(value) for _, value in transaction.cursor(self._older)]

    def keeper(
        self, transaction: "lmdb.Transaction", newest: "CheckpointMeta | None", tables: CheckpointTables, count: int
    ) -> "Keeper":
        """The newest checkpoint is about to become an older one, of which `count` are kept in all."""
        if newest is not None and count > 0:
            transaction.put(_HEIGHT.pack(newest.height), encode(newest), db=self._older)
        heights = self._heights(transaction)
        for old in heights[: max(0, len(heights) - count)]:
            self._drop(transaction, old)
        return Keeper(transaction, self._images, newest if count > 0 else None, tables)

    def sets(self, transaction: "lmdb.Transaction", height: int) -> Iterator[ChunkSet]:
        """What to put into the newest state, in this order, to have that of this height."""
        for newer in reversed([h for h in self._heights(transaction) if h >= height]):
            for table, images in groupby(self._images_of(transaction, newer), lambda image: image[0]):
                while batch := list(islice(images, _SET_CHUNKS)):
                    data = np.frombuffer(b"".join([chunk for *_, chunk in batch]), np.uint8).reshape(-1, CHUNK_BYTES)
                    yield ChunkSet(table, np.array([number for _, number, _ in batch], np.int32), data)

    def forget_from(self, transaction: "lmdb.Transaction", height: int) -> None:
        """Those of this height and above are older ones no more."""
        for old in self._heights(transaction):
            if old >= height:
                self._drop(transaction, old)

    def _heights(self, transaction: "lmdb.Transaction") -> list[int]:
        keys = transaction.cursor(self._older).iternext(values=False)
        return [int(_HEIGHT.unpack(key)[0]) for key in keys]

    def _images_of(self, transaction: "lmdb.Transaction", height: int) -> Iterator[tuple[int, int, bytes]]:
        cursor = transaction.cursor(self._images)
        if cursor.set_range(_HEIGHT.pack(height)):
            for key, value in cursor:
                at, table, number = _IMAGE.unpack(key)
                if at != height:
                    return
                yield table, number, bytes(value) or _ZEROS

    def _drop(self, transaction: "lmdb.Transaction", height: int) -> None:
        transaction.delete(_HEIGHT.pack(height), db=self._older)
        cursor = transaction.cursor(self._images)
        there = cursor.set_range(_HEIGHT.pack(height))
        while there and bytes(cursor.key()[:8]) == _HEIGHT.pack(height):
            there = cursor.delete()


class Keeper:
    """Copies what is about to be overwritten, for one checkpoint; or nothing, if none is to be kept."""

    def __init__(
        self, transaction: "lmdb.Transaction", images: "lmdb._Database", of: "CheckpointMeta | None",
        tables: CheckpointTables,
    ) -> None:  # fmt: skip
        self._cursor = transaction.cursor(images)
        self._of = of
        self._tables = tables

    def save(self, table: int, chunks: "Iterable[int]") -> None:
        """These are about to be put."""
        if self._of is None:
            return
        items = (
            (_IMAGE.pack(self._of.height, table, int(number)), self._image(table, int(number))) for number in chunks
        )
        while batch := list(islice(items, PUTS_AT_ONCE)):
            self._cursor.putmulti(batch, overwrite=False)

    def save_beyond(self, manifest: Manifest) -> None:
        """Tables are about to be cut to what this one says."""
        if self._of is None:
            return
        for table, (old, new) in enumerate(
            zip(parse_manifest(self._of.manifest).tables, manifest.tables, strict=False)
        ):
            self.save(table, range(chunks_of(new), chunks_of(old)))

    def _image(self, table: int, number: int) -> bytes:
        chunk = self._tables.read(table, number, 1)
        return b"" if chunk == _ZEROS else chunk
