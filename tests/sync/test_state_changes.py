"""Fetching what differs by marks: what it costs in both directions, and that whoever lies about it is named."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.base.errors import Refused
from lockstep.sync.checkpoint_server import CheckpointServer
from lockstep.sync.state_changes import MARK_BITS, changed_data, marks, pack_marks, parse_changed, unpack_marks
from lockstep.wire.message import FetchState, StatePart
from tests.support.state_peers import Fetcher, MadeSource, Peer, as_chunks, random_tables

CHUNKS = 8192


def scattered(seed: int, every: int) -> tuple[list[bytes], list[bytes], int]:
    """A table, the same with one chunk in so many changed, and how many those are."""
    (old,) = random_tables(seed, [CHUNKS * 1024 - 640])
    data = bytearray(old)
    places = np.random.default_rng(seed).permutation(CHUNKS)[: CHUNKS // every]
    for place in places.tolist():
        data[place * 1024] ^= 1
    return [old], [bytes(data)], len(places)


@given(st.integers(2, 300), st.sampled_from(MARK_BITS), st.integers(0, 99))
def test_marks_arrive_as_they_were_sent(count: int, bits: int, seed: int) -> None:
    leaves = np.random.default_rng(seed).integers(0, 1 << 32, (count, 8), dtype=np.uint32)
    packed = pack_marks(marks(leaves, bits), bits)
    found, found_bits = unpack_marks(packed, count)
    assert len(packed) == -(-count * bits // 8)
    assert (found.tolist(), found_bits) == (marks(leaves, bits).tolist(), bits)


@pytest.mark.parametrize("packed", [b"", b"\0" * 4, b"\0" * 6, b"\0\0\x10"])
def test_marks_that_do_not_fit_are_refused(packed: bytes) -> None:
    with pytest.raises(Refused):
        unpack_marks(packed, 5)


@pytest.mark.parametrize("data", [b"", b"\1\0\0\0\1\0\0\0", changed_data(1, np.array([3, 3]), bytes(2048))])
def test_an_answer_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        parse_changed(data)


def test_one_chunk_in_a_hundred_anywhere_costs_hardly_more_than_those_chunks() -> None:
    old, new, count = scattered(1, 100)
    fetcher = Fetcher([Peer(CheckpointServer(MadeSource(10, new))) for _ in range(3)], chunks=as_chunks(old))
    assert fetcher.run()
    assert fetcher.tables([len(new[0])]) == new
    assert fetcher.bytes_in + fetcher.bytes_out < 1.1 * count * 1024
    assert not fetcher.blamed


def test_everything_changed_is_fetched_once() -> None:
    old, new = random_tables(2, [3 << 20]), random_tables(3, [3 << 20])
    fetcher = Fetcher([Peer(CheckpointServer(MadeSource(10, new)))], chunks=as_chunks(old))
    assert fetcher.run()
    assert fetcher.tables([3 << 20]) == new
    assert fetcher.bytes_in + fetcher.bytes_out < 1.05 * (3 << 20)


def rewritten(request: FetchState, answer: StatePart, change: Callable[[int, np.ndarray, np.ndarray], bytes]) -> object:
    if not request.marks or not answer.data:
        return answer
    return StatePart(answer.request, change(*parse_changed(answer.data)))


def corrupt(nodes: int, numbers: np.ndarray, rows: np.ndarray) -> bytes:
    """Every chunk is another."""
    rows[:, 5] ^= 1
    return changed_data(nodes, numbers, rows.tobytes())


def corrupt_one(nodes: int, numbers: np.ndarray, rows: np.ndarray) -> bytes:
    rows[:1, 5] ^= 1
    return changed_data(nodes, numbers, rows.tobytes())


def omit(nodes: int, numbers: np.ndarray, rows: np.ndarray) -> bytes:
    """Nothing has changed, it says."""
    return changed_data(nodes, numbers[:0], b"")


def invent(nodes: int, numbers: np.ndarray, rows: np.ndarray) -> bytes:
    """A chunk that was not changed, with other bytes."""
    if not len(numbers) or numbers[0] % 256 == 0:
        return changed_data(nodes, numbers, rows.tobytes())
    before = numbers[:1] - 1
    return changed_data(nodes, np.concatenate((before, numbers)), bytes(1024) + rows.tobytes())


def more_nodes(nodes: int, numbers: np.ndarray, rows: np.ndarray) -> bytes:
    return changed_data(nodes + 100, numbers, rows.tobytes())


@pytest.mark.parametrize("change", [corrupt, corrupt_one, omit, invent, more_nodes])
def test_who_lies_about_changes_is_named(change: Callable[[int, np.ndarray, np.ndarray], bytes]) -> None:
    old, new, count = scattered(4, 50)
    honest = [Peer(CheckpointServer(MadeSource(10, new))) for _ in range(2)]
    liar = Peer(CheckpointServer(MadeSource(10, new)))
    liar.mischief = lambda _, request, answer: (
        rewritten(request, answer, change) if isinstance(request, FetchState) else answer  # type: ignore[arg-type]
    )
    fetcher = Fetcher([liar, *honest], chunks=as_chunks(old))
    assert fetcher.run()
    assert fetcher.tables([len(new[0])]) == new
    assert [peer for peer, _ in fetcher.blamed] == [0]
    assert fetcher.bytes_in < 3 * count * 1024


@pytest.mark.parametrize("change", [corrupt, omit, invent])
def test_alone_with_a_liar_about_changes_the_nodes_below_tell(
    change: Callable[[int, np.ndarray, np.ndarray], bytes],
) -> None:
    """It answers three times for each node; then hashes prove it wrong, or bring what it left out."""
    old, new, _ = scattered(5, 200)
    liar = Peer(CheckpointServer(MadeSource(10, new)))
    liar.mischief = lambda _, request, answer: (
        rewritten(request, answer, change) if isinstance(request, FetchState) else answer  # type: ignore[arg-type]
    )
    fetcher = Fetcher([liar], chunks=as_chunks(old))
    complete = fetcher.run(until_us=20_000_000)
    assert complete == (not fetcher.blamed)
    if complete:
        assert change is omit
        assert fetcher.tables([len(new[0])]) == new
