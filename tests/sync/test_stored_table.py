"""What a store keeps of a table's tree is used where it leads to the certified hash, and nowhere else."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.base import marks
from lockstep.ledger.subtree import ChunkTree, leaf_values
from lockstep.sync.state_request import PAGE_LEVEL
from lockstep.sync.stored_table import StoredTable
from tests.support.state_peers import MadeState, make_offer, random_tables

CHUNKS = 3_500
DATA = random_tables(1, [CHUNKS * 1024 - 16])[0]
HASH = blake3(DATA).digest()
PADDED = np.frombuffer(DATA.ljust(CHUNKS * 1024, b"\0"), np.uint8).reshape(-1, 1024)
TREE = ChunkTree(leaf_values(PADDED, np.arange(CHUNKS), len(DATA)))


@dataclass
class Kept(MadeState):
    """A store with damage."""

    wrong_values: list[int] = field(default_factory=list)
    wrong_leaves: list[int] = field(default_factory=list)
    lost_leaves: list[int] = field(default_factory=list)
    leaves_read: int = 0
    chunks_read: int = 0

    def read(self, table: int, first: int, count: int) -> bytes:
        self.chunks_read += count
        return super().read(table, first, count)

    def leaves(self, table: int, first: int, count: int) -> np.ndarray:
        self.leaves_read += count
        found = TREE.levels[0][first : first + count].copy()
        for number in self.wrong_leaves:
            if first <= number < first + count:
                found[number - first, 3] ^= 1
        for number in self.lost_leaves:
            if first <= number < first + count:
                found[number - first] = 0
        return found

    def page_values(self, table: int, pages: int) -> np.ndarray:
        found = TREE.levels[PAGE_LEVEL].copy()
        found[self.wrong_values, 0] ^= 1
        return found


def kept(**damage: list[int]) -> Kept:
    return Kept(make_offer(9, [DATA]), 9, [DATA], **damage)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def marked() -> Iterator[dict[str, int]]:
    counts: dict[str, int] = {}
    marks.collect(counts)
    yield counts
    marks.collect(None)


def check(stored: StoredTable) -> None:
    for level, nodes in enumerate(TREE.levels):
        assert (stored.nodes(level, np.arange(len(nodes))) == nodes).all()


def test_without_damage_only_what_is_looked_at_is_read(marked: dict[str, int]) -> None:
    state = kept()
    stored = StoredTable(state, 0, len(DATA), HASH)
    assert stored.tree.hash == HASH and not state.leaves_read
    places = np.array([3, 40, 41, CHUNKS - 1])
    assert (stored.leaves(places) == TREE.levels[0][places]).all()
    assert state.leaves_read == 2 * 32 + CHUNKS % 32 and not state.chunks_read
    check(stored)
    assert not marked


def test_a_wrong_value_is_worked_out_from_leaves(marked: dict[str, int]) -> None:
    state = kept(wrong_values=[4])
    check(StoredTable(state, 0, len(DATA), HASH))
    assert not state.chunks_read and list(marked) == ["stored table: kept nodes are worked out again"]


def test_a_wrong_leaf_is_hashed_again_with_its_page(marked: dict[str, int]) -> None:
    state = kept(wrong_leaves=[CHUNKS - 1], lost_leaves=[77])
    check(StoredTable(state, 0, len(DATA), HASH))
    assert list(marked) == ["stored table: a page of leaves is hashed again"]
    assert state.chunks_read == PAGE_LEVEL * (CHUNKS % 32 + 32), "two pages, for each level below them"


def test_wrong_values_and_leaves_are_hashed_again(marked: dict[str, int]) -> None:
    check(StoredTable(kept(wrong_values=[0, 3], wrong_leaves=[5, 300]), 0, len(DATA), HASH))
    assert "stored table: leaves are hashed again" in marked


@given(size=st.integers(1, 80_000), level=st.integers(0, 7), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_any_nodes_of_any_table(size: int, level: int, seed: int) -> None:
    data = bytes(size * 16)
    stored = StoredTable(MadeState(make_offer(1, [data]), 1, [data]), 0, len(data), blake3(data).digest())
    assert stored.tree.hash == blake3(data).digest()
    width = -(-stored.chunks >> level)
    random = np.random.default_rng(seed)
    places = np.sort(random.choice(width, min(width, 9), replace=False))
    rows = np.zeros((stored.chunks, 1024), np.uint8)
    whole = ChunkTree(leaf_values(rows, np.arange(stored.chunks), len(data)), data if stored.chunks == 1 else b"")
    if level < len(whole.levels):
        assert (stored.nodes(level, places) == whole.levels[level][places]).all()
