"""Who is asked for parts of a state, and who is left alone."""

import pytest

from lockstep.ledger.table import CHUNK_BYTES
from lockstep.sync.state_peers import (
    EXPECTED_US_MAX,
    PART_CHUNKS_MIN,
    SUSPENDED_US,
    TIMEOUT_US,
    WINDOW_CHUNKS_MAX,
    StatePeer,
    StatePeers,
)
from lockstep.sync.state_request import RANGE_LEVEL
from lockstep.wire.message import STATE_CHUNKS_MAX

HEIGHT = 7


def serving(*peers: int) -> StatePeers:
    found = StatePeers()
    for peer in peers:
        found.of(peer).height = HEIGHT
    return found


def test_who_stalls_is_left_alone_while_another_answers() -> None:
    peers = serving(1, 2)
    peers.of(1).asked += 1
    peers.of(1).stalled(TIMEOUT_US)
    assert peers.ready(HEIGHT, TIMEOUT_US) == [2]
    assert peers.ready(HEIGHT, TIMEOUT_US + SUSPENDED_US) == [1, 2]


def test_where_nobody_answers_one_is_asked_at_a_time_all_the_same() -> None:
    peers, now, asked = serving(1, 2), 0, []
    for _ in range(6):
        for index in peers.ready(HEIGHT, now):
            peers.of(index).asked += 1
            asked.append(index)
        assert peers.ready(HEIGHT, now) in ([], [1, 2], [2, 1]), "while somebody may answer, the others rest"
        now += TIMEOUT_US
        for peer in peers.peers.values():
            while peer.asked:
                peer.stalled(now)
    assert len(asked) >= 6 and set(asked) == {1, 2}


def test_a_liar_is_not_asked_even_when_nobody_else_is_there() -> None:
    peers = serving(1)
    peers.of(1).barred = "a wrong chunk"
    assert peers.ready(HEIGHT, 0) == []


def after_answers(bytes_per_second: int) -> StatePeer:
    peer = serving(1).of(1)
    for _ in range(50):
        size = peer.part_chunks * 1024
        peer.asked += 1
        peer.answered(size, size * peer.window * 1_000_000 // bytes_per_second)
        assert peer.window >= 2 and peer.window * peer.part_chunks <= WINDOW_CHUNKS_MAX + peer.part_chunks
    return peer


def test_who_is_quick_is_asked_for_larger_parts_and_not_for_more_in_all() -> None:
    slow, medium, quick = map(after_answers, (5_000_000, 100_000_000, 1_000_000_000))
    assert slow.part_chunks == PART_CHUNKS_MIN < medium.part_chunks < quick.part_chunks == STATE_CHUNKS_MAX
    assert quick.window == WINDOW_CHUNKS_MAX // STATE_CHUNKS_MAX


def test_who_seems_slow_owes_no_more_requests_than_others() -> None:
    """Its requests are small by its rate, and a range all the same: many of them would be more than it may owe."""
    peer = serving(1).of(1)
    for _ in range(100):
        peer.asked += 1
        peer.answered(32, 1_000)
        peer.rate = 1
    assert peer.part_chunks == 1 and peer.window == WINDOW_CHUNKS_MAX // PART_CHUNKS_MIN


@pytest.mark.parametrize("bytes_per_second", [25_000, 80_000, 300_000, 1_000_000])
@pytest.mark.parametrize("thought", [0, 700, 1_000_000_000])
def test_a_slow_link_is_soon_asked_for_what_it_can_send_in_time(bytes_per_second: int, thought: int) -> None:
    """It was asked for half a mebibyte again and again, and each answer came after its time-out: seed 46009."""
    peer, now, late, in_time = serving(1).of(1), 0, 0, 0
    peer.rate, peer.answers = thought, int(thought > 0)
    for _ in range(30):
        chunks = max(peer.part_chunks, 1 << RANGE_LEVEL)  # a piece of whole chunks is one range at least
        took_us = chunks * CHUNK_BYTES * 1_000_000 // bytes_per_second
        peer.asked += 1
        now = max(now, peer.resting_until_us)
        if took_us <= peer.allowed_us(chunks * CHUNK_BYTES):
            in_time += 1
            peer.window = 1
            peer.answered(chunks * CHUNK_BYTES, took_us)
        else:
            late += 1
            peer.stalled(now + took_us)
    assert late <= 16 and in_time >= 14
    assert peer.allowed_us(1 << 30) <= 3 * TIMEOUT_US + EXPECTED_US_MAX, "and whoever trickles is waited for no longer"
