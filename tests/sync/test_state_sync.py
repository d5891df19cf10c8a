"""Fetching a state: whole, as far as it differs, after a crash, from peers that move on, and from peers that lie."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.sync.checkpoint_server import CheckpointServer
from lockstep.wire.message import CheckpointOffer, FetchCheckpoint, FetchState, StatePart
from tests.support.state_peers import ROW, Fetcher, MadeSource, Peer, as_chunks, make_offer, random_tables

SIZES = [700 * 1024 + 5 * ROW, 1024, 0, ROW, 40 * 1024, 3 * 1024 + ROW]


def peers(count: int, tables: list[bytes], height: int = 10) -> list[Peer]:
    return [Peer(CheckpointServer(MadeSource(height, tables))) for _ in range(count)]


def lengths(tables: list[bytes]) -> list[int]:
    return [len(data) for data in tables]


def test_a_snapshot_is_every_byte_and_hardly_more() -> None:
    tables = random_tables(1, SIZES)
    fetcher = Fetcher(peers(3, tables))
    assert fetcher.run()
    assert fetcher.tables(lengths(tables)) == tables
    assert fetcher.bytes_in < 1.01 * sum(SIZES) + 8 * 1024
    assert all(peer.requests > 1 for peer in fetcher.peers)
    assert not fetcher.blamed


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 300_000).map(lambda n: n - n % ROW), min_size=1, max_size=3),
    st.lists(st.integers(0, 300_000).map(lambda n: n - n % ROW), min_size=1, max_size=3),
    st.lists(st.integers(0, 300), max_size=30),
    st.integers(0, 1000),
)
def test_whatever_was_here_the_target_is_reached(
    old_sizes: list[int], new_sizes: list[int], changed: list[int], seed: int
) -> None:
    """Tables that grew, shrank, are new, differ in places or entirely."""
    old = random_tables(seed, old_sizes)
    new = []
    for t, size in enumerate(new_sizes):
        data = bytearray((old[t] if t < len(old) else b"")[:size])
        data += random_tables(seed + 1 + t, [size - len(data)])[0]
        for chunk in changed:
            if chunk * 1024 < len(data):
                data[chunk * 1024] ^= 1
        new.append(bytes(data))
    fetcher = Fetcher(peers(2, new), chunks=as_chunks(old))
    assert fetcher.run()
    assert fetcher.tables(lengths(new)) == new


def test_a_difference_costs_what_differs() -> None:
    old = random_tables(3, [4096 * 1024])
    data = bytearray(old[0])
    for chunk in range(1000, 1040):
        data[chunk * 1024 + 7] ^= 255
    new = [bytes(data)]
    fetcher = Fetcher(peers(3, new), chunks=as_chunks(old))
    assert fetcher.run()
    assert fetcher.tables(lengths(new)) == new
    assert fetcher.bytes_in < 1.1 * 40 * 1024 + 0.02 * 4096 * 1024 / 16


def test_the_same_state_costs_nothing() -> None:
    tables = random_tables(4, SIZES)
    fetcher = Fetcher(peers(1, tables), chunks=as_chunks(tables))
    assert fetcher.run()
    assert fetcher.bytes_in == 0


def test_a_crash_costs_only_what_was_under_way() -> None:
    tables = random_tables(5, [4 << 20])
    first = Fetcher(peers(2, tables))
    assert not first.run(stop=lambda: first.bytes_in > 2 << 20)
    kept = sum(len(rows) for rows in first.chunks.values()) * 1024
    second = Fetcher(peers(2, tables), chunks=first.chunks)
    assert second.run()
    assert second.tables([4 << 20]) == tables
    assert second.bytes_in < (4 << 20) - kept + 64 * 1024


def test_the_target_moves_and_the_work_is_kept() -> None:
    """Both peers replace their checkpoint half way and serve only the new one."""
    tables = random_tables(6, [39 << 20])
    data = bytearray(tables[0])
    data[100] ^= 1
    newer = [bytes(data)]
    serving = peers(2, tables)
    fetcher = Fetcher(serving)
    assert not fetcher.run(stop=lambda: fetcher.bytes_in > 9 << 20)
    for peer in serving:
        peer.server = CheckpointServer(MadeSource(20, newer))
    assert fetcher.run()
    assert fetcher.sync.target is not None and fetcher.sync.target.header.height == 20
    assert fetcher.tables([39 << 20]) == newer
    assert fetcher.bytes_in < (39 << 20) + (10 << 20)


def test_some_rows_only() -> None:
    tables = random_tables(7, [900 * 1024, 2 << 20])
    fetcher = Fetcher(peers(2, tables), ranges={1: (700, 705)})
    assert fetcher.run()
    assert 0 not in fetcher.chunks and sorted(fetcher.chunks[1]) == list(range(700, 705))
    assert b"".join(fetcher.chunks[1][i] for i in range(700, 705)) == tables[1][700 * 1024 : 705 * 1024]
    assert fetcher.bytes_in < 5 * 1024 + 4 * 1024


def corrupt(now: int, request: object, answer: object) -> object:
    if isinstance(answer, StatePart) and answer.data:
        return StatePart(answer.request, answer.data[:-1] + bytes([answer.data[-1] ^ 1]))
    return answer


def silent(now: int, request: object, answer: object) -> object:
    return answer if isinstance(request, FetchCheckpoint) else None


def trickle(now: int, request: object, answer: object) -> object:
    return answer if isinstance(request, FetchCheckpoint) else (1_400_000, answer)


def longer(now: int, request: object, answer: object) -> object:
    return StatePart(answer.request, answer.data + b"x") if isinstance(answer, StatePart) else answer


def shorter(now: int, request: object, answer: object) -> object:
    return StatePart(answer.request, answer.data[:-1]) if isinstance(answer, StatePart) else answer


def gone(now: int, request: object, answer: object) -> object:
    return StatePart(request.request, b"") if isinstance(request, FetchState) else answer


def higher(now: int, request: object, answer: object) -> object:
    """It shows another state with a certificate of a lower height."""
    if isinstance(answer, CheckpointOffer):
        other = make_offer(99, random_tables(99, [1024]))
        return CheckpointOffer(other.header, answer.certificate, other.manifest)
    return answer


def forged(now: int, request: object, answer: object) -> object:
    if isinstance(answer, CheckpointOffer):
        import msgspec

        other = make_offer(99, random_tables(99, [1024]))
        signatures = bytes(len(other.certificate.signatures))
        return CheckpointOffer(
            other.header, msgspec.structs.replace(other.certificate, signatures=signatures), other.manifest
        )
    return answer


def stale(now: int, request: object, answer: object) -> object:
    """An old but true checkpoint, offered at once and served a bit at a time."""
    if isinstance(answer, CheckpointOffer):
        return 1, make_offer(5, random_tables(55, [1 << 20]))
    return 1_400_000, StatePart(answer.request, b"") if isinstance(answer, StatePart) else None


@pytest.mark.parametrize(
    ("mischief", "is_blamed"),
    [(corrupt, True), (silent, False), (trickle, False), (longer, True), (shorter, True), (gone, False),
     (higher, True), (forged, True), (stale, False)],
)  # fmt: skip
@pytest.mark.parametrize("liars", [1, 3])
def test_one_honest_peer_is_enough(mischief: object, is_blamed: bool, liars: int) -> None:
    tables = random_tables(8, [4 << 20, 5000 * ROW])
    clean = Fetcher(peers(1, tables))
    assert clean.run()
    fetcher = Fetcher(peers(liars + 1, tables))
    for peer in fetcher.peers[:liars]:
        peer.mischief = mischief  # type: ignore[assignment]
        peer.delay_us = 1
    assert fetcher.run()
    assert fetcher.tables(lengths(tables)) == tables
    assert fetcher.now_us < clean.now_us + 6_000_000
    assert sorted({peer for peer, _ in fetcher.blamed}) == (list(range(liars)) if is_blamed else [])


def test_no_rate_is_told_from_the_first_answers() -> None:
    """A few milliseconds and a few nodes once made a fetch look like taking an hour, and it was given up at once."""
    tables = random_tables(11, [8 << 20])
    fetcher = Fetcher(peers(1, tables))
    assert not fetcher.run(stop=lambda: fetcher.bytes_in > 0)
    assert fetcher.sync.rate(fetcher.now_us) == 0
    assert fetcher.sync.rate(fetcher.sync.began_us + 2_000_000) == fetcher.sync.bytes_fetched // 2


def test_a_peer_goes_away_and_comes_back() -> None:
    tables = random_tables(9, [4 << 20])
    fetcher = Fetcher(peers(2, tables))
    fetcher.call(3_000, lambda: fetcher.connected.remove(0))
    fetcher.call(4_000, lambda: fetcher.connected.remove(1))
    fetcher.call(5_000_000, lambda: fetcher.connected.append(1))
    assert fetcher.run()
    assert fetcher.tables(lengths(tables)) == tables
    assert fetcher.bytes_in < 1.5 * (4 << 20)


def test_nobody_but_liars_never_completes() -> None:
    tables = random_tables(10, [1 << 20])
    fetcher = Fetcher(peers(2, tables))
    for peer in fetcher.peers:
        peer.mischief = corrupt
    assert not fetcher.run(until_us=20_000_000)
    assert not fetcher.chunks


def test_what_is_not_stored_yet_is_bounded() -> None:
    tables = [np.zeros(100 << 20, np.uint8).tobytes()]
    fetcher = Fetcher(peers(3, tables), store_us=10_000_000_000)
    fetcher.run(until_us=3_000_000)
    assert 60 << 20 <= fetcher.bytes_in <= 66 << 20


def now_and_then(mischief: object) -> object:
    """Once in a while only."""
    count = 0

    def spoil(now: int, request: object, answer: object) -> object:
        nonlocal count
        count += 1
        return mischief(now, request, answer) if count % 5 == 0 else answer  # type: ignore[operator]

    return spoil


def honest(now: int, request: object, answer: object) -> object:
    return answer


@pytest.mark.parametrize("on_the_way", [corrupt, longer, shorter, gone, now_and_then(corrupt), silent, honest])
def test_what_happens_on_the_way_accuses_nobody(on_the_way: object) -> None:
    """All plain connections are spoilt: each is left at the first wrong part, and the rest comes with a peer's word."""
    tables = random_tables(12, [8 << 20, 5000 * ROW])
    clean = Fetcher(peers(3, tables))
    assert clean.run()
    fetcher = Fetcher(peers(3, tables))
    for peer in fetcher.peers:
        peer.on_the_way = on_the_way  # type: ignore[assignment]
    assert fetcher.run()
    assert fetcher.tables(lengths(tables)) == tables
    assert not fetcher.blamed and not any(peer.barred for peer in fetcher.sync.peers.peers.values())
    assert any(peer.on_the_way is None for peer in fetcher.peers) == (on_the_way is not honest)
    limit_us = clean.now_us + (3_000_000 if on_the_way is silent else 100_000)
    assert fetcher.now_us < limit_us


def test_a_liar_is_named_for_what_it_said_itself() -> None:
    """It lies on the plain connection, where it might have been another; and then where that can't be."""
    tables = random_tables(13, [16 << 20])
    fetcher = Fetcher(peers(3, tables))
    for peer in fetcher.peers:
        peer.on_the_way = honest  # type: ignore[assignment]
    fetcher.peers[1].mischief = corrupt
    assert fetcher.run()
    assert fetcher.tables(lengths(tables)) == tables
    assert [peer for peer, _ in fetcher.blamed] == [1]
    assert fetcher.peers[0].on_the_way is not None and fetcher.peers[1].on_the_way is None


def test_a_lost_plain_connection_costs_no_time_out() -> None:
    tables = random_tables(14, [8 << 20])
    fetcher = Fetcher(peers(1, tables))
    fetcher.peers[0].on_the_way = silent
    assert not fetcher.run(stop=lambda: bool(fetcher.sync.walk and fetcher.peers[0].requests > 3))
    before = fetcher.now_us
    fetcher.peers[0].on_the_way = None
    fetcher.sync.plain_lost(0, fetcher.now_us)
    assert fetcher.run()
    assert fetcher.now_us < before + 500_000 and not fetcher.sync.peers.of(0).stalls
