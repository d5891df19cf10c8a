"""What a node says and hears: numbering, clocks of takings and of blocks, and lies about stamps."""

from dataclasses import dataclass

import numpy as np

from lockstep.base.keys import PrivateKey
from lockstep.node.directory import Directory
from lockstep.node.said import HEIGHT_AHEAD_MAX, RING_EVENTS_MAX, Said
from lockstep.node.tree import Tree
from lockstep.pool.fates import rejected
from lockstep.pool.pool import Pool
from lockstep.wire.block import Header, genesis_header
from lockstep.wire.bundle import Bundle, seal_bundle
from lockstep.wire.command import COMMAND
from lockstep.wire.roster import genesis_roster
from lockstep.wire.stream import LocalKind, Point
from tests.support.small_network import small_genesis

GENESIS = small_genesis()
CHAIN = GENESIS.chain_id
KEY = PrivateKey(b"\x05" * 32)
EPOCH = 1_000


@dataclass
class Voice:
    """One node's voice over an empty chain, and its pool."""

    said: Said
    pool: Pool
    tree: Tree


def voice(node: int = 0) -> Voice:
    tree, pool = Tree(genesis_header(CHAIN, 0), Directory([], [], []), genesis_roster(GENESIS)), Pool()
    return Voice(Said(node, 4, tree, pool, EPOCH), pool, tree)


def bundle(account: int, sequence: int) -> Bundle:
    return seal_bundle(KEY, CHAIN, account, sequence, 100, np.zeros(1, COMMAND))


def at(height: int) -> Header:
    return Header(CHAIN, height, height, 0, 0, 0, 0, 0, bytes(32), bytes(32))


def test_events_are_numbered_from_the_start_and_come_after_the_final_height() -> None:
    here = voice()
    one = bundle(1, 0)
    here.pool.add(one)
    assert here.said.taken(one, ()) == (EPOCH, 2, 0)
    here.tree.root = at(5)
    here.said.closed(rejected(one.digest, "replayed"), one)
    here.said.state("live")
    here.said.state("live")
    events = here.said.since(0, 9)
    assert [event.kind for event in events] == [
        LocalKind.STARTED, LocalKind.TAKEN, LocalKind.REJECTED, LocalKind.STATE,
    ]  # fmt: skip
    assert [event.sequence for event in events] == [1, 2, 3, 4] and [e.height for e in events] == [0, 0, 5, 5]
    assert (events[2].account, events[2].number, events[2].detail) == (1, 0, "replayed")
    assert here.said.since(3, 9) == events[3:] and here.said.since(4, 9) == () and here.said.since(0, 2) == events[:2]


def test_a_taking_comes_after_the_accounts_bundle_before_it_wherever_that_was_taken() -> None:
    here = voice(0)
    first, second = bundle(1, 7), bundle(1, 8)
    here.pool.add(first)
    here.said.heard(2, (50, 9, 3), first.digest)
    here.pool.add(second)
    here.said.taken(second, (Point(3, 60, 1),))
    event = here.said.since(1, 1)[0]
    assert event.clock == (Point(2, 50, 9), Point(3, 60, 1))
    assert event.height == 3, "what it names came after block 3"


def test_a_blocks_clock_is_made_of_its_bundles_stamps_and_is_settled_when_each_has_one() -> None:
    here = voice(1)
    mine, theirs, fetched = bundle(1, 0), bundle(2, 0), bundle(3, 0)
    for made in (mine, theirs, fetched):
        here.pool.add(made)
    here.said.taken(mine, ())
    here.said.heard(3, (50, 4, 0), theirs.digest)
    assert here.said.final(1, [mine, theirs]) == ((Point(1, EPOCH, 2), Point(3, 50, 4)), True)
    assert here.said.final(2, [fetched]) == ((), False)
    assert here.said.final(3, [mine]) == ((), False), "a stamp is used once"
    assert here.said.final(4, []) == ((), True)


def test_a_stamp_from_a_blocks_height_or_above_is_no_cause_of_it() -> None:
    here = voice()
    made = bundle(1, 0)
    here.pool.add(made)
    here.said.heard(1, (50, 4, 6), made.digest)
    assert here.said.final(6, [made]) == ((), False)


def test_stamps_from_far_ahead_or_from_strangers_are_not_believed() -> None:
    here = voice()
    made = bundle(1, 0)
    here.pool.add(made)
    here.said.heard(1, (50, 4, HEIGHT_AHEAD_MAX + 1), made.digest)
    here.said.heard(4, (50, 4, 0), made.digest)
    here.said.heard(-3, (50, 4, 0), made.digest)
    assert here.said.final(1, [made]) == ((), False)
    assert here.said.clock() == (Point(0, EPOCH, 1),)


def test_a_token_is_reached_when_each_of_its_points_was_heard() -> None:
    here = voice()
    here.said.heard(1, (50, 4, 0), bytes(32))
    assert here.said.has_heard((Point(0, EPOCH, 1), Point(1, 50, 4)))
    assert here.said.has_heard((Point(1, 40, 1_000),)), "an earlier epoch"
    for beyond in (Point(0, EPOCH, 2), Point(1, 50, 5), Point(1, 51, 1), Point(2, 1, 1)):
        assert not here.said.has_heard((beyond,))


def test_the_ring_forgets_the_oldest_and_says_so() -> None:
    here = voice()
    for number in range(RING_EVENTS_MAX):
        here.said.say(LocalKind.STATE, detail=str(number))
    assert (here.said.oldest, here.said.sequence) == (2, RING_EVENTS_MAX + 1)
    assert here.said.since(0, 1)[0].sequence == 2
