"""Pre-images: making room for them, putting them back, and reading through them to the committed state."""

from typing import Any, Final

import numpy as np

from lockstep.ledger.kernel import Int, copy_chunk, entry_kernel
from lockstep.ledger.table import CHUNK_WORDS, Undo, page_aligned

SEGMENT_CHUNKS: Final = 4096
"""Chunks of an epoch's first segment, 4 MiB of pre-images that cost nothing until written."""
SEGMENT_CHUNKS_MAX: Final = 65_536


def new_undo(chunks: int) -> Undo:
    """An empty segment with room for `chunks` pre-images."""
    return Undo(
        epoch=np.zeros(1, np.uint32),
        images=page_aligned(chunks * CHUNK_WORDS * 8).view(np.uint64).reshape(-1, CHUNK_WORDS)[:chunks],
        places=page_aligned(chunks * 8).view(np.int32).reshape(-1, 2)[:chunks],
        used=np.zeros(1, np.int64),
    )


@entry_kernel
def restore(memory: Any, first: Any, undo: Undo) -> None:
    """Put every pre-image back. `memory` is the whole state, (chunks, 128) uint64; `first` (T,) each table's start."""
    for i in range(undo.used[0]):
        copy_chunk(memory, first[undo.places[i, 0]] + undo.places[i, 1], undo.images, i)


@entry_kernel
def note_changed(slot: Any, changed: Any, count: Int, first: Any, undo: Undo) -> Int:
    """Add a segment's chunks to the `count` ones in `changed`, each once: `slot` is its place there plus one."""
    for i in range(undo.used[0]):
        chunk = first[undo.places[i, 0]] + undo.places[i, 1]
        if slot[chunk] == 0:
            changed[count] = chunk
            count += 1
            slot[chunk] = count
    return count


@entry_kernel
def gather(memory: Any, chunks: Any, slot: Any, out: Any) -> None:
    """Copy `chunks` of `memory` to `out`; afterwards `slot` of each is its place in `out` plus one."""
    for i in range(len(chunks)):
        copy_chunk(out, i, memory, chunks[i])
        slot[chunks[i]] = i + 1


@entry_kernel
def overlay(out: Any, slot: Any, first: Any, undo: Undo) -> None:
    """Replace gathered chunks by their pre-images. From the newest epoch to the oldest, the oldest image stays."""
    for i in range(undo.used[0]):
        place = slot[first[undo.places[i, 0]] + undo.places[i, 1]]
        if place:
            copy_chunk(out, place - 1, undo.images, i)
