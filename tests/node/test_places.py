"""Where a restart begins: not always at the checkpoint's block."""

import pytest

from lockstep.base.digest import digest
from lockstep.base.errors import InvariantBroken
from lockstep.node.places import Places
from lockstep.node.record import StoredBlock
from lockstep.wire.block import Block, Header, Payload
from lockstep.wire.certificate import Finalization
from lockstep.wire.vote import Nullify

CHAIN = bytes(32)


def stored(height: int, view: int) -> StoredBlock:
    payload = Payload(b"", (), ())
    header = Header(CHAIN, height, view, view - 1, 0, 0, 0, 0, bytes(32), digest(payload.encode()))
    return StoredBlock(Block(header, payload), ())


def final(block: StoredBlock) -> Finalization:
    header = block.block.header
    return Finalization(header.view, header.height, header.digest, bytes(32), bytes(32), b"\x07", bytes(192))


def test_a_restart_begins_at_the_block_when_all_later_views_follow_it() -> None:
    places, block = Places(), stored(1, 5)
    places.note(Nullify(4, 0, bytes(64)), 10)
    places.note(block, 20)
    places.note(final(block), 30)
    places.note(Nullify(6, 0, bytes(64)), 40)
    assert places.final(block.block.digest, 1) == (20, 30)
    assert places.start_after(5) == 20


def test_an_own_nullify_written_before_the_block_was_fetched_is_read_again() -> None:
    """Trap: a validator's own nullify lost at restart could be contradicted by a finalise vote in the same view."""
    places, block = Places(), stored(1, 5)
    places.note(Nullify(6, 0, bytes(64)), 10)
    places.note(block, 20)
    assert places.final(block.block.digest, 1) == (20, 0)
    assert places.start_after(5) == 10


def test_a_later_block_written_before_an_earlier_one_is_kept() -> None:
    places, child, parent = Places(), stored(2, 6), stored(1, 5)
    places.note(child, 10)
    places.note(parent, 20)
    places.final(parent.block.digest, 1)
    assert places.start_after(5) == 10
    assert places.final(child.block.digest, 2) == (10, 0)
    assert places.start_after(6) == 10


def test_a_final_block_that_was_never_written_stops_the_node() -> None:
    places = Places()
    with pytest.raises(InvariantBroken, match="is not in the log"):
        places.final(bytes(32), 1)


def test_blocks_that_lost_are_forgotten() -> None:
    places, winner, loser = Places(), stored(1, 5), stored(1, 4)
    places.note(loser, 10)
    places.note(winner, 20)
    places.final(winner.block.digest, 1)
    with pytest.raises(InvariantBroken):
        places.final(loser.block.digest, 1)
