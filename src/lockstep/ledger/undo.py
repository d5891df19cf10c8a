"""Pre-images: making room for them, and putting them back."""

from typing import Any, Final

import numpy as np

from lockstep.ledger.kernel import copy_chunk, entry_kernel
from lockstep.ledger.table import CHUNK_WORDS, Undo, page_aligned

SEGMENT_CHUNKS: Final = 8_192
"""Chunks of an epoch's first segment, 8 MiB of pre-images that cost nothing until written: what a block of a few
thousand commands writes, and room for the largest command."""
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
