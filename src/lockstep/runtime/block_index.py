"""What the checkpoint store says about final blocks: where their records are, and which of them are still here.

It is written in the checkpoint's transaction, and shortened by pruning, a little at a time. Keys are big-endian:

    blocks    height u64                → log position of the block u64, of its finalization u64 (0: it has none of its
                                          own), history position u64
    fates     bundle digest             → height u64, place in the block u32, first event u32, number of events u32
    headers   height u64                → header, 204 bytes, and the finalization (empty: it has none of its own), of
                                          blocks that were pruned
    segments  of u8, segment u32        → the highest height u64 that has a record in this segment of the log (0) or of
                                          the history (1)
    meta      "lowest"                  → lowest height with a block u64, with a header u64: all above are here
"""

import struct
from collections.abc import Iterable
from enum import IntEnum
from itertools import islice
from typing import Final, NamedTuple

import lmdb

from lockstep.log.segment import split_position
from lockstep.wire.block import HEADER_BYTES

PUTS_AT_ONCE: Final = 128
"""LMDB holds the interpreter lock during a call: between calls the event loop gets its turn."""
_BLOCK: Final = struct.Struct("<QQQ")
_FATE: Final = struct.Struct("<QIII")
_LOWEST: Final = struct.Struct("<QQ")
_SEGMENT: Final = struct.Struct(">BI")
_HEIGHT: Final = struct.Struct("<Q")
_LOWEST_KEY: Final = b"lowest"


class Folder(IntEnum):
    """Which log a segment is of."""

    LOG = 0
    HISTORY = 1


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


class Lowest(NamedTuple):
    """From these heights on, everything is here."""

    blocks: int = 1
    headers: int = 1


class KeptHeader(NamedTuple):
    """Of a block that was pruned; the finalization is empty when it has none of its own."""

    header: bytes
    finalization: bytes


class BlockIndex:
    """Reading is safe from any thread; writing belongs to the one that writes the store."""

    def __init__(self, env: "lmdb.Environment", meta: "lmdb._Database", read_only: bool) -> None:
        """Raises `lmdb.Error`."""
        self._env = env
        self._meta = meta
        self._blocks = env.open_db(b"blocks", create=not read_only)
        self._fates = env.open_db(b"fates", create=not read_only)
        self._headers = env.open_db(b"headers", create=not read_only)
        if read_only:
            return
        self._segments = env.open_db(b"segments")
        with env.begin(write=True) as transaction:
            if transaction.get(_LOWEST_KEY, db=meta) is None:  # a new store, or one from before anything was pruned
                entries = transaction.cursor(self._blocks).iternext()
                places = {_height(key): BlockPlace(*_BLOCK.unpack(value)) for key, value in entries}
                self._note_segments(transaction, places)
                self._set_lowest(transaction, Lowest())

    # -- reading --------------------------------------------------------------------------------------

    def block(self, height: int) -> BlockPlace | None:
        """Where the final block at this height is, if a checkpoint covers it."""
        with self._env.begin(db=self._blocks) as transaction:
            is_here = height >= self._lowest_in(transaction).blocks
            raw = transaction.get(_key(height)) if is_here else None
        return None if raw is None else BlockPlace(*_BLOCK.unpack(raw))

    def fate(self, bundle: bytes) -> FatePlace | None:
        """Where the outcome of this bundle is, if a checkpoint covers it."""
        with self._env.begin(db=self._fates) as transaction:
            raw = transaction.get(bundle)
            place = None if raw is None else FatePlace(*_FATE.unpack(raw))
            is_here = place is not None and place.height >= self._lowest_in(transaction).blocks
        return place if is_here else None

    def header(self, height: int) -> KeptHeader | None:
        """What is left of a pruned block."""
        with self._env.begin(db=self._headers) as transaction:
            is_here = height >= self._lowest_in(transaction).headers
            raw = transaction.get(_key(height)) if is_here else None
        return None if raw is None else KeptHeader(raw[:HEADER_BYTES], raw[HEADER_BYTES:])

    def lowest(self) -> Lowest:
        """From where on everything is here."""
        with self._env.begin() as transaction:
            return self._lowest_in(transaction)

    def segment_height(self, folder: Folder, segment: int) -> int:
        """The highest height that has a record there; 0 when none has."""
        with self._env.begin(db=self._segments) as transaction:
            raw = transaction.get(_SEGMENT.pack(folder, segment))
        return 0 if raw is None else int(_HEIGHT.unpack(raw)[0])

    # -- in the transaction of a checkpoint -----------------------------------------------------------

    def add(
        self, transaction: "lmdb.Transaction", blocks: dict[int, BlockPlace], fates: dict[bytes, FatePlace]
    ) -> None:
        """Blocks that the checkpoint covers."""
        _put(transaction.cursor(self._blocks), ((_key(h), _BLOCK.pack(*p)) for h, p in blocks.items()))
        _put(transaction.cursor(self._fates), ((d, _FATE.pack(*p)) for d, p in fates.items()))
        self._note_segments(transaction, blocks)

    def skip_to(self, transaction: "lmdb.Transaction", height: int) -> None:
        """The state of this height came without the blocks up to it."""
        self._set_lowest(transaction, Lowest(height + 1, height + 1))

    def cut_above(self, transaction: "lmdb.Transaction", height: int) -> None:
        """Forget the blocks above this height, and their bundles' fates."""
        cursor = transaction.cursor(self._blocks)
        there = cursor.set_range(_key(height + 1))
        while there:
            there = cursor.delete()
        fates = transaction.cursor(self._fates)
        there = fates.first()
        while there:
            there = fates.delete() if _fate_height(fates) > height else fates.next()

    def _note_segments(self, transaction: "lmdb.Transaction", blocks: dict[int, BlockPlace]) -> None:
        highest: dict[bytes, int] = {}
        for height, place in blocks.items():
            for folder, position in ((Folder.LOG, place.block), (Folder.LOG, place.certificate),
                                     (Folder.HISTORY, place.history)):  # fmt: skip
                if position:
                    key = _SEGMENT.pack(folder, split_position(position)[0])
                    highest[key] = max(highest.get(key, 0), height)
        for key, height in highest.items():
            raw = transaction.get(key, db=self._segments)
            if raw is None or _HEIGHT.unpack(raw)[0] < height:
                transaction.put(key, _HEIGHT.pack(height), db=self._segments)

    def _set_lowest(self, transaction: "lmdb.Transaction", lowest: Lowest) -> None:
        transaction.put(_LOWEST_KEY, _LOWEST.pack(*lowest), db=self._meta)

    # -- pruning: each call is a transaction, and small ------------------------------------------------

    def forget_below(self, lowest: Lowest, headers: dict[int, KeptHeader]) -> None:
        """From now on only this is here; of some pruned blocks, keep the headers. `sweep_heights` makes it true."""
        with self._env.begin(write=True) as transaction:
            _put(transaction.cursor(self._headers), ((_key(h), b"".join(kept)) for h, kept in headers.items()))
            self._set_lowest(transaction, lowest)

    def sweep_heights(self, count: int) -> bool:
        """Take away at most `count` entries of blocks and headers that are not to be here; whether all are gone."""
        with self._env.begin(write=True) as transaction:
            lowest = self._lowest_in(transaction)
            for database, height in ((self._blocks, lowest.blocks), (self._headers, lowest.headers)):
                cursor = transaction.cursor(database)
                there = cursor.first()
                while there and _height(cursor.key()) < height:
                    if count == 0:
                        return False
                    there, count = cursor.delete(), count - 1
            return True

    def sweep_fates(self, begin: bytes, count: int) -> bytes:
        """Look at `count` fates from a digest on, and forget those of pruned blocks. Where to go on: empty at the end.

        Digests have no order that heights have. Walking along them empties whole pages, where looking each one up would
        touch a page for it."""
        with self._env.begin(write=True) as transaction:
            lowest = self._lowest_in(transaction).blocks
            cursor = transaction.cursor(self._fates)
            there = cursor.set_range(begin) if begin else cursor.first()
            for _ in range(count):
                if not there:
                    return b""
                there = cursor.delete() if _fate_height(cursor) < lowest else cursor.next()
            return bytes(cursor.key()) if there else b""

    def drop_segment(self, folder: Folder, segment: int) -> None:
        """The file is gone."""
        with self._env.begin(write=True) as transaction:
            transaction.delete(_SEGMENT.pack(folder, segment), db=self._segments)

    def fates_count(self) -> int:
        """How many there are."""
        with self._env.begin() as transaction:
            return int(transaction.stat(self._fates)["entries"])

    def _lowest_in(self, transaction: "lmdb.Transaction") -> Lowest:
        raw = transaction.get(_LOWEST_KEY, db=self._meta)
        return Lowest() if raw is None else Lowest(*_LOWEST.unpack(raw))


def _key(height: int) -> bytes:
    return height.to_bytes(8, "big")


def _height(key: bytes | memoryview) -> int:
    return int.from_bytes(key, "big")


def _fate_height(cursor: "lmdb.Cursor") -> int:
    return int.from_bytes(cursor.value()[:8], "little")


def _put(cursor: "lmdb.Cursor", items: Iterable[tuple[bytes, bytes]]) -> None:
    remaining = iter(items)
    while batch := list(islice(remaining, PUTS_AT_ONCE)):
        cursor.putmulti(batch)
