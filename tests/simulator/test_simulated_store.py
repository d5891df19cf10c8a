"""A contract: what is here of a state that is fetched is the same in the simulator's store and in the real one, and is
what the bytes say."""

from pathlib import Path

import numpy as np
import pytest

from lockstep.ledger.changes import Checkpoint, ChunkSet
from lockstep.ledger.manifest import parse_manifest
from lockstep.ledger.subtree import leaf_values
from lockstep.runtime.store import Store
from lockstep.simulator.simulated_store import Meta, SimulatedStore
from lockstep.sync.state_walk import Arrived
from tests.runtime.test_store_tables import ROW, manifest, meta, rows_of
from tests.support.stored_state import local_leaves

SIZES = [(0, 3_000), (700_000, 700_000), (300_000, 900_000), (900_000, 270_000), (40_000, 90_000), (1_000, 900)]
"""Bytes of a table in the checkpoint here, and in the state that is fetched."""


def cut(size: int) -> int:
    return size // ROW * ROW


def made(random: np.random.Generator, is_new: bool) -> list[bytes]:
    """Tables with long stretches of zeros."""
    tables = []
    for sizes in SIZES:
        size = cut(sizes[is_new])
        data = random.integers(0, 256, size, dtype=np.uint8)
        data[size // 3 : size // 2] = 0
        tables.append(data.tobytes())
    return tables


def written(tables: list[bytes]) -> list[ChunkSet]:
    """What a ledger writes: chunks that were ever touched."""
    sets = []
    for number, data in enumerate(tables):
        chunks = -(-len(data) // 1024)
        touched = [n for n in range(chunks) if any(data[n * 1024 : n * 1024 + 1024])]
        if touched:
            sets.append(ChunkSet(number, np.array(touched, np.int32), rows_of(data, touched)))
    return sets


def staged(random: np.random.Generator, tables: list[bytes]) -> list[Arrived]:
    """Some chunks of another state, now and then zeros."""
    parts = []
    for number, data in enumerate(tables):
        chunks = -(-len(data) // 1024)
        some = np.flatnonzero(random.random(chunks) < 0.05)
        if number == 2:
            some = np.union1d(some, np.arange(500, 600))
        if len(some):
            rows = rows_of(data, some.tolist())
            parts.append(Arrived(number, some, rows, leaf_values(rows, some, 1 << 62)))
    return parts


@pytest.mark.parametrize("seed", range(4))
def test_both_stores_tell_the_same_of_what_is_here(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    own, new = made(random, is_new=False), made(random, is_new=True)
    own[4] = own[4][:5_000] if seed % 2 else own[4]
    new[1] = own[1] if seed < 2 else new[1]  # one that is the same
    parts = [part for part in staged(random, new) if part.table != 1 or seed != 1]
    real, simulated = Store(tmp_path), SimulatedStore()
    if seed != 3:
        real.write(meta(5, own), written(own), {}, {})
        encoded = manifest(own)
        simulated.write(Meta(5, b"header", encoded, 0), Checkpoint(bytes(32), encoded, tuple(written(own))))
    else:
        own = [b""] * len(own)
    real.stage(parts)
    for part in parts:
        simulated.stage(part)
    target = parse_manifest(manifest(new))
    counts = [np.arange(-(-len(data) // 1024)) for data in new]
    wanted = [leaf_values(rows_of(data, n.tolist()), n, len(data)) for data, n in zip(new, counts, strict=True)]
    told, also = local_leaves(real, target, wanted), local_leaves(simulated, target, wanted)
    same = [table is None for table in real.local(target)]
    assert same == [table is None for table in simulated.local(target)] and any(same) == (seed == 1)
    here = {(part.table, n): row for part in parts for n, row in zip(part.numbers.tolist(), part.data, strict=True)}
    for number, data in enumerate(new):
        expected = np.zeros_like(wanted[number])
        for chunk in counts[number].tolist():
            old = own[number][chunk * 1024 : chunk * 1024 + 1024]
            row = here[number, chunk].tobytes() if (number, chunk) in here else old.ljust(1024, b"\0")
            if old or (number, chunk) in here:
                used = min(1024, len(data) - chunk * 1024)
                as_row = np.frombuffer(row[:used].ljust(1024, b"\0"), np.uint8).reshape(1, -1)
                expected[chunk] = leaf_values(as_row, np.array([chunk]), len(data))[0]
        assert (told[number] == expected).all() and (also[number] == expected).all(), f"table {number}"
    real.close()
