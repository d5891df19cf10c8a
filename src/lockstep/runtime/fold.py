"""Completing a staging area to a whole state, which then lies in flat files under the checkpoint.

So a fetched snapshot is installed by writing what is missing of it (often nothing); and a checkpoint of which much is
in LMDB becomes quick to serve and to start from, since files are read a megabyte at a time, and not by the chunk.
"""

from typing import Any, Final

import numpy as np

from lockstep.ledger.manifest import Manifest
from lockstep.ledger.subtree import known, leaf_values
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.runtime.checkpoint_tables import CheckpointTables, chunks_of, edges
from lockstep.runtime.flat_tables import Base
from lockstep.runtime.flat_writer import FlatWriter
from lockstep.runtime.staging import AT_ONCE, Staging
from lockstep.sync.state_hash import nodes_above
from lockstep.sync.state_request import PAGE_LEVEL

Array = np.ndarray[Any, Any]
FOLD_CHUNKS_MIN: Final = 65_536
"""Less than this stays in LMDB,"""
LEAVES_AT_ONCE: Final = 32_768
"""A power of two: nodes below the tree's top pair within such a part."""
FOLD_SHARE: Final = 4
"""and so does less than this part of the state: a chunk is copied a few times in all, however the state grows."""


def is_worth_folding(chunks: int, manifest: Manifest) -> bool:
    """Whether so many chunks that are not in flat files are too many."""
    return chunks >= FOLD_CHUNKS_MIN and chunks * FOLD_SHARE >= sum(chunks_of(entry) for entry in manifest.tables)


def fold(here: CheckpointTables, staging: Staging, manifest: Manifest, before: Manifest | None) -> Base:
    """Fill the staging area with what it doesn't have of the state that `manifest` is of and `here` has; `before` is
    the state of `here`. All is durable when this returns; the staging area is empty, its folder the new base; what
    `here` has in LMDB is replaced by the nodes on `PAGE_LEVEL`."""
    values = []
    for table, entry in enumerate(manifest.tables):
        chunks = chunks_of(entry)
        leaves = staging.leaves(table, chunks)
        fetched = staging.present(table, chunks)
        renewed = np.array(edges(table, manifest, before), np.int64)
        if not fetched.all():
            _copy(here, staging, table, fetched)
            missing = np.flatnonzero(np.logical_not(fetched))
            leaves[missing] = here.leaves(table, 0, chunks)[missing]
            renewed = np.union1d(renewed, missing[np.logical_not(known(leaves[missing]))])
        staging.writer.end(table, entry.used_bytes)
        for first in range(0, len(renewed), AT_ONCE):
            numbers = renewed[first : first + AT_ONCE]
            data = b"".join([staging.read(table, number, 1) for number in numbers.tolist()])
            rows = np.frombuffer(data, np.uint8).reshape(-1, CHUNK_BYTES)
            leaves[numbers] = leaf_values(rows, numbers, entry.used_bytes)
        values.append(_write_leaves(staging.writer, table, leaves))
    staging.settle()
    staging.writer.sync()
    staging.release()
    here.clear()
    for table, nodes in enumerate(values):
        here.put_values(table, nodes)
    return Base(staging.folder.name, tuple(chunks_of(entry) for entry in manifest.tables))


def _write_leaves(writer: FlatWriter, table: int, leaves: Array) -> Array:
    """Write a table's leaves, some here and some there at a time; returns the nodes on `PAGE_LEVEL`."""

    def write(first: int) -> Array:
        part = leaves[first : first + LEAVES_AT_ONCE]
        writer.put_leaves(table, first, part)
        return nodes_above(part, PAGE_LEVEL)

    return np.concatenate(writer.side_by_side(write, range(0, max(len(leaves), 1), LEAVES_AT_ONCE)))


def _copy(here: CheckpointTables, staging: Staging, table: int, fetched: Array) -> None:
    """What was not fetched of a table, and is not zeros."""
    for first in range(0, len(fetched), AT_ONCE):
        wanted = np.logical_not(fetched[first : first + AT_ONCE])
        if wanted.any():
            rows = np.frombuffer(here.read(table, first, len(wanted)), np.uint8).reshape(-1, CHUNK_BYTES)
            wanted &= rows.any(axis=1)
            staging.writer.put(table, first + np.flatnonzero(wanted), rows[wanted])
