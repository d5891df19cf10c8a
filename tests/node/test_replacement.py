"""A venue that goes on in place from a fetched state is the venue of one that never left."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.base.errors import StorageFailed
from lockstep.ledger.changes import Checkpoint
from lockstep.ledger.manifest import parse_manifest
from lockstep.ledger.subtree import leaf_values
from lockstep.node import replacement
from lockstep.node.replacement import Standing, replaced
from lockstep.runtime.store import CheckpointMeta, Store
from lockstep.simulator import simulated_node
from lockstep.sync.state_walk import Arrived
from lockstep.venue.schema import ACCOUNTS
from lockstep.venue.venue import Venue
from lockstep.wire.certificate import Finalization
from lockstep.wire.codec import encode
from tests.node.test_state_sync import agree, catches_up, far_behind, noted, replay_is_slow
from tests.support.small_network import small_genesis
from tests.support.stored_state import local_leaves
from tests.venue.test_rollback import execute

__all__ = ["replay_is_slow"]  # a fixture
HIGHEST = 9
FORK = 1_000
"""Blocks from this height on are of another chain than the one that becomes final."""


def meta(height: int, point: Checkpoint) -> CheckpointMeta:
    certificate = encode(Finalization(height, height, bytes(32), bytes(32), bytes(32), b"", b""))
    return CheckpointMeta(height, b"header", certificate, point.manifest, point.root, 0, 0)


def committed(height: int) -> Venue:
    """That of a node that executed everything."""
    venue = Venue(small_genesis())
    for number in range(1, height + 1):
        execute(venue, number)
        venue.commit()
    return venue


def fetch(store: Store, venue: Venue) -> None:
    """Stage what the store lacks of a venue's state."""
    manifest = parse_manifest(venue.ledger.manifest())
    rows, leaves = [], []
    for number, entry in enumerate(manifest.tables):
        numbers = np.arange(-(-entry.used_bytes // 1024))
        data = venue.ledger.committed_bytes(number).ljust(len(numbers) * 1024, b"\0")
        rows.append(np.frombuffer(data, np.uint8).reshape(-1, 1024))
        leaves.append(leaf_values(rows[-1], numbers, entry.used_bytes))
    for number, local in enumerate(local_leaves(store, manifest, leaves)):
        wanted = np.flatnonzero((leaves[number] != local).any(axis=1))
        if len(wanted):
            store.stage([Arrived(number, wanted, rows[number][wanted], leaves[number][wanted])])


def whole(venue: Venue) -> list[bytes]:
    """All memory of all tables, also beyond their rows."""
    return [table.words.tobytes() for table in venue.ledger.tables]


@given(
    saved=st.integers(0, HIGHEST), executed=st.integers(0, 3), speculative=st.integers(0, 3),
    target=st.integers(1, HIGHEST), is_saved=st.booleans(),
)  # fmt: skip
@settings(deadline=None, max_examples=20)
def test_in_place_it_is_the_state_of_one_that_never_left(
    saved: int, executed: int, speculative: int, target: int, is_saved: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        venue, other = committed(saved), committed(target)
        if is_saved:
            point = venue.ledger.checkpoint()
            store.write(meta(max(saved, 1), point), point.sets, {}, {})
        for number in range(saved + 1, saved + executed + 1):
            execute(venue, number)
            venue.commit()
        for number in range(FORK, FORK + speculative):
            execute(venue, number)
        fetch(store, other)
        fetched = store.install(meta(target, other.ledger.checkpoint()), {}, {})
        pinned = store.pin()
        assert pinned is not None
        assert replaced(Standing(venue, fetched), pinned.offer.manifest, pinned.read) is venue
        pinned.close()
        state = store.state()
        assert state is not None
        loaded = Venue(small_genesis(), (state[0].manifest, state[1]))
        assert venue.ledger.root == loaded.ledger.root == other.ledger.root
        assert whole(venue) == whole(loaded)
        assert venue.ledger.checkpoint().changed_chunks == 0, "memory is at the newest checkpoint"
        for number in range(target + 1, target + 4):
            assert execute(venue, number) == execute(other, number)
            venue.commit()
        point = venue.ledger.checkpoint()
        store.write(meta(target + 3, point), point.sets, {}, {})
        state = store.state()
        assert state is not None
        assert Venue(small_genesis(), (state[0].manifest, state[1])).ledger.root == other.ledger.root
        store.close()


def test_what_does_not_come_out_is_not_used(tmp_path: Path) -> None:
    store, venue, other = Store(tmp_path), committed(3), committed(6)
    point = venue.ledger.checkpoint()
    store.write(meta(3, point), point.sets, {}, {})
    fetch(store, other)
    fetched = store.install(meta(6, other.ledger.checkpoint()), {}, {})
    fetched[ACCOUNTS] = fetched[ACCOUNTS][1:]  # one chunk is forgotten
    pinned = store.pin()
    assert pinned is not None
    with pytest.raises(StorageFailed, match="do not have the hashes"):
        replaced(Standing(venue, fetched), pinned.offer.manifest, pinned.read)
    pinned.close()
    store.close()


def test_only_what_differs_is_read(tmp_path: Path) -> None:
    store, venue, other = Store(tmp_path), committed(8), committed(9)
    point = venue.ledger.checkpoint()
    store.write(meta(8, point), point.sets, {}, {})
    fetch(store, other)
    fetched = store.install(meta(9, other.ledger.checkpoint()), {}, {})
    read: list[int] = []
    pinned = store.pin()
    assert pinned is not None
    manifest, reader = pinned.offer.manifest, pinned.read
    replaced(Standing(venue, fetched), manifest, lambda t, first, n: (read.append(n), reader(t, first, n))[1])
    assert sum(read) == sum(map(len, fetched.values())) <= point.changed_chunks, "never written chunks aren't fetched"
    pinned.close()
    store.close()


def test_a_simulated_node_goes_on_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    world = far_behind(2, rebuilt=False)
    node = world.nodes[3]

    def checked(standing: Standing, manifest: bytes, read: replacement.Read) -> Venue:
        venue = replaced(standing, manifest, read)
        loaded = Venue(node.genesis, node.home.store.state())
        assert whole(venue) == whole(loaded) and venue.ledger.root == loaded.ledger.root
        compared.append(venue.ledger.root)
        return venue

    monkeypatch.setattr(simulated_node, "replaced", checked)
    node.start()
    assert catches_up(world, 3) and noted(world, 3, "is installed") and compared
    agree(world)
