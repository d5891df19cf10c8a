"""Compact blocks: complete at once, after one fetch, or after asking others; bounded."""

import pytest

from lockstep.base.digest import digest
from lockstep.gossip import compact as compact_module
from lockstep.gossip.compact import CompactBlocks, Complete, Fetch

BUNDLES = [bytes([number]) * 50 for number in range(4)]
KEYS = [digest(bundle) for bundle in BUNDLES]
BLOCK = digest(b"block")


def blocks(*here: int) -> CompactBlocks:
    pool = {KEYS[number]: BUNDLES[number] for number in here}
    return CompactBlocks(pool.get, retry_us=100)


def test_a_block_whose_bundles_are_all_here_is_complete_at_once_and_in_its_order() -> None:
    compact = blocks(3, 2, 1, 0)
    assert compact.block(BLOCK, KEYS, 7, 0) == [Complete(BLOCK, tuple(BUNDLES))]
    assert compact.deadline() is None
    assert compact.block(BLOCK, [], 7, 0) == [Complete(BLOCK, ())]


def test_what_is_missing_is_fetched_from_who_sent_the_block_in_one_round_trip() -> None:
    compact = blocks(0, 2)
    assert compact.block(BLOCK, KEYS, 7, 0) == [Fetch(7, (KEYS[1], KEYS[3]))]
    assert compact.bundle(BUNDLES[3]) == []
    assert compact.bundle(b"something else") == []
    assert compact.bundle(BUNDLES[1]) == [Complete(BLOCK, tuple(BUNDLES))]
    assert compact.deadline() is None


def test_others_that_sent_the_block_too_are_asked_next() -> None:
    compact = blocks()
    compact.block(BLOCK, KEYS[:1], 7, 0)
    assert compact.block(BLOCK, KEYS[:1], 8, 10) == []
    assert compact.tick(99) == []
    assert compact.tick(100) == [Fetch(8, (KEYS[0],))]
    assert compact.tick(200) == [Fetch(7, (KEYS[0],))]


def test_one_bundle_may_complete_several_blocks() -> None:
    compact, other = blocks(), digest(b"other")
    compact.block(BLOCK, KEYS[:1], 7, 0)
    compact.block(other, KEYS[:1], 7, 0)
    assert [effect.block for effect in compact.bundle(BUNDLES[0]) if isinstance(effect, Complete)] == [BLOCK, other]


def test_blocks_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact_module, "INCOMPLETE_MAX", 3)
    compact = blocks()
    for number in range(10):
        compact.block(digest(bytes([number])), KEYS, 7, 0)
    assert len(compact._blocks) == 3


def test_what_is_awaited_is_known_and_what_is_forgotten_is_not_asked_for_again() -> None:
    compact = blocks(0)
    compact.block(BLOCK, KEYS[:2], 7, 0)
    assert compact.awaits(KEYS[1]) and not compact.awaits(KEYS[0]) and not compact.awaits(KEYS[2])
    compact.forget(BLOCK)
    assert not compact.awaits(KEYS[1]) and compact.tick(10_000) == [] and compact.bundle(BUNDLES[1]) == []


def test_a_peer_that_is_gone_is_not_asked_while_there_is_another() -> None:
    compact = blocks()
    compact.block(BLOCK, KEYS[:1], 7, 0)
    compact.block(BLOCK, KEYS[:1], 8, 0)
    compact.peer_lost(8)
    assert compact.tick(100) == [Fetch(7, (KEYS[0],))]
    compact.peer_lost(7)
    assert compact.tick(200) == [Fetch(7, (KEYS[0],))]
