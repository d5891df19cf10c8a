"""Going on from a state that was fetched, in the memory that held the one before.

The store has the new state whole. Memory differs from it where the fetch brought chunks, and where blocks were executed
since the store's last checkpoint: only that is read and hashed, so it takes as long as the difference is large. The
root of what comes out must be the certified one.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lockstep.ledger.changes import ChunkSet
from lockstep.ledger.ledger import Ledger
from lockstep.ledger.manifest import parse_manifest
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.sync.state_request import runs
from lockstep.venue.venue import Venue

Array = np.ndarray[Any, Any]
Chunks = Mapping[int, Array]
"""Table → (k,) numbers of chunks, ascending."""
Read = Callable[[int, int, int], bytes]
"""(table, first chunk, how many) → their bytes, in the store."""
_AT_ONCE: Final = 1_024


@dataclass(frozen=True, slots=True)
class Standing:
    """What memory still holds when a fetched state has become the checkpoint."""

    venue: Venue
    """No thread uses it any more."""
    fetched: Chunks
    """Where the new checkpoint differs from the one before."""


def replaced(standing: Standing, manifest: bytes, read: Read) -> Venue:
    """The venue, at the stored state that `manifest` is of. Raises `StorageFailed` when that does not come out; the
    venue is then of no use."""
    replace(standing.venue.ledger, standing.fetched, manifest, read)
    return standing.venue


def replace(ledger: Ledger, fetched: Chunks, manifest: bytes, read: Read) -> None:
    """The same for the tables alone."""
    while ledger.depth:
        ledger.rollback()
    ledger.replace(manifest, _sets(manifest, fetched, ledger.changed_chunks(), read))


def _sets(manifest: bytes, fetched: Chunks, changed: Chunks, read: Read) -> Iterator[ChunkSet]:
    """The stored chunks that memory may not have, a few at a time."""
    nothing = np.zeros(0, np.int64)
    for table, entry in enumerate(parse_manifest(manifest).tables):
        numbers = np.union1d(fetched.get(table, nothing), changed.get(table, nothing)).astype(np.int64)
        numbers = numbers[numbers < -(-entry.used_bytes // CHUNK_BYTES)]
        for first in range(0, len(numbers), _AT_ONCE):
            some = numbers[first : first + _AT_ONCE]
            data = b"".join([read(table, begin, end - begin) for begin, end in runs(some)])
            yield ChunkSet(table, some.astype(np.int32), np.frombuffer(data, np.uint8).reshape(-1, CHUNK_BYTES))
