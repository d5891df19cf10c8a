"""Merging streams: causal, complete, exactly once, whatever is lost, repeated, restarted or given up."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.sync.merge import (
    Again,
    BlockDelivered,
    Denied,
    Divergence,
    FinalBlock,
    Gap,
    Joined,
    Late,
    LocalDelivered,
    Merger,
    Output,
    Told,
)
from lockstep.wire.stream import LocalEvent, LocalKind, Point, clock_of
from tests.support.said import Said

NODES = 3
NODE = st.integers(0, NODES - 1)
STEP = st.one_of(
    st.tuples(st.just("take"), NODE, st.lists(st.booleans(), min_size=NODES, max_size=NODES), st.booleans()),
    st.tuples(st.just("take"), NODE, st.just([True] * NODES), st.just(True)),
    st.tuples(st.just("order"), st.integers(0, 3)),
    st.tuples(st.just("finalise"), NODE),
    st.tuples(st.just("finalise"), NODE),
    st.tuples(st.just("restart"), NODE),
    st.tuples(st.just("read"), NODE, st.integers(1, 4)),
    st.tuples(st.just("read"), NODE, st.integers(1, 4)),
    st.tuples(st.just("ask"), NODE, st.integers(1, 4)),
    st.tuples(st.just("arrive"), st.integers(0, 9), st.booleans()),
    st.tuples(st.just("give up"), NODE),
)


class Reader:
    """A merger whose questions and answers travel over a network that loses, delays and repeats."""

    def __init__(self, said: Said) -> None:
        self.said = said
        self.merger = Merger(list(range(NODES)), 1)
        self.flying: list[Told] = []
        self.out: list[Output] = []
        self.joined: dict[int, tuple[int, int]] = {}

    def step(self, step: tuple[Any, ...]) -> None:
        match step:
            case "take", node, reached, follows:
                self.said.take(node, reached, follows)
            case "order", count:
                self.said.order(count)
            case "finalise", node:
                self.said.finalise(node)
            case "restart", node:
                self.said.restart(node)
            case "read", node, limit:
                self.told(self.said.answer(node, self.merger.place(node), limit))
            case "ask", node, limit:
                self.flying.append(self.said.answer(node, self.merger.place(node), limit))
            case "arrive", which, again:
                if self.flying:
                    index = which % len(self.flying)
                    self.told(self.flying[index] if again else self.flying.pop(index))
            case "give up", node:
                self.out += self.merger.give_up(node)

    def told(self, told: Told) -> None:
        self.joined.setdefault(told.node, (told.epoch, told.sequence))
        self.out += self.merger.told(told)

    def drain(self) -> None:
        """Everybody catches up and is read to the end, without a loss."""
        for node in range(NODES):
            while self.said.nodes[node].height < len(self.said.blocks):
                self.said.finalise(node)
        for _ in range(60):
            for node in range(NODES):
                self.told(self.said.answer(node, self.merger.place(node), 4))


@settings(max_examples=500)
@given(st.lists(NODE, unique=True), st.lists(STEP, min_size=8, max_size=60))
def test_delivery_is_causal_complete_and_exactly_once(joined: list[int], steps: list[tuple[Any, ...]]) -> None:
    said = Said(NODES)
    reader = Reader(said)
    for node in joined:
        reader.step(("read", node, 1))
    for step in steps:
        reader.step(step)
    reader.drain()
    check(said, reader)


def test_a_taking_that_follows_a_block_elsewhere_does_not_hold_that_block_up() -> None:
    """Node 2 lags, and takes a bundle that follows what node 1 said after block 1; block 1 is settled nowhere. While an
    event's height was only its own node's, block 1 waited for that bundle, and the bundle for block 1."""
    said = Said(NODES)
    reader = Reader(said)
    for step in (
        *(("read", node, 1) for node in range(NODES)),
        ("take", 1, [False] * 3, False), ("take", 0, [False, False, True], True), ("order", 2), ("finalise", 1),
        ("take", 1, [False, True, True], False), ("take", 2, [True] * 3, True),
    ):  # fmt: skip
        reader.step(step)
    reader.drain()
    assert reader.merger.height == 1
    check(said, reader)


def check(said: Said, reader: Reader) -> None:
    """By brute force, from who said what when."""
    heights = [out.block.height for out in reader.out if isinstance(out, BlockDelivered)]
    assert heights == list(range(1, len(said.blocks) + 1))
    place_of_block = {out.block.height: at for at, out in enumerate(reader.out) if isinstance(out, BlockDelivered)}
    place: dict[tuple[int, int, int], int] = {}
    late: dict[tuple[int, int, int], None] = {}
    missing: dict[tuple[int, int, int], None] = {}
    newest = {node.number: node.epoch for node in said.nodes}
    for at, out in enumerate(reader.out):
        match out:
            case LocalDelivered() | Late():
                key = out.node, out.epoch, out.event.sequence
                assert key not in place and key not in late and said.everything[key] == out.event
                if isinstance(out, Late):
                    late[key] = None
                else:
                    place[key] = at
            case Gap():
                assert out.last or out.epoch < newest[out.node]
                inside = [k for k in said.everything if k[:2] == (out.node, out.epoch) and k[2] >= out.first]
                missing.update((k, None) for k in inside if not out.last or k[2] <= out.last)
            case Divergence() | Denied():
                raise AssertionError(out)
            case _:
                pass
    for key, event in said.everything.items():
        epochs_between = key[1] > reader.joined[key[0]][0] and not (key in place or key in late or key in missing)
        if key[1:] <= reader.joined[key[0]]:
            assert key not in place and key not in late
        else:
            skipped_epoch = epochs_between and not any(k[:2] == key[:2] for k in (*place, *late))
            assert (key in place) + (key in late) + (key in missing) == 1 or skipped_epoch, (key, event)
    order = [k[0] for k in sorted(place.items(), key=lambda item: item[1])]
    for node in range(NODES):
        own = [k for k in order if k[0] == node]
        assert own == sorted(own), "a node's own order"
    for key, at in place.items():
        event = said.everything[key]
        assert event.height == 0 or place_of_block[event.height] < at, "a block comes before what was said after it"
        for point in event.clock:
            cause = point.node, point.epoch, point.sequence
            assert cause not in place or place[cause] < at, "a cause comes before its effect"
    for height, bundles in enumerate(said.blocks, 1):
        for bundle in bundles:
            taken = said.taken[bundle]
            assert taken not in place or place[taken] < place_of_block[height], "taken before final"


def event(sequence: int, height: int = 0, clock: tuple[Point, ...] = ()) -> LocalEvent:
    return LocalEvent(sequence, LocalKind.TAKEN, height, clock, bytes(32), 0, 0, "")


def block(height: int, clock: tuple[Point, ...] = (), settled: bool = True, name: bytes = b"") -> FinalBlock:
    return FinalBlock(height, name or b"%d" % height, clock, settled)


def merger_of(count: int) -> Merger:
    """Nodes in epoch 1 that have said nothing, all heard once."""
    merger = Merger(list(range(count)), 1)
    for node in range(count):
        assert merger.told(Told(node, 1, 1, 0, 0)) == [Joined(node, 1, 0)]
    return merger


def test_an_effect_waits_for_its_cause_and_for_nothing_else() -> None:
    merger = merger_of(3)
    cause = Point(0, 1, 2)
    assert merger.told(Told(1, 1, 1, 0, 1, (block(1, (cause,)),))) == []
    assert merger.blocking() == [0]
    assert [type(out) for out in merger.told(Told(0, 1, 1, 1, 0, (), (event(1),)))] == [LocalDelivered]
    out = merger.told(Told(0, 1, 1, 2, 0, (), (event(2),)))
    assert [type(o) for o in out] == [LocalDelivered, BlockDelivered] and merger.blocking() == []
    assert merger.height == 1


def test_a_block_told_from_disk_waits_until_everybody_has_told_what_came_before() -> None:
    merger = merger_of(3)
    assert merger.told(Told(1, 1, 1, 0, 1, (block(1, settled=False),))) == []
    assert merger.blocking() == [0, 2]
    assert merger.told(Told(2, 1, 1, 0, 1)) == []
    out = merger.told(Told(0, 1, 1, 2, 1, (), (event(1, 0), event(2, 1))))
    assert [type(o) for o in out] == [LocalDelivered, BlockDelivered, LocalDelivered]


def test_two_nodes_that_tell_different_blocks_are_both_named_and_nothing_more_is_delivered() -> None:
    merger = merger_of(2)
    assert len(merger.told(Told(0, 1, 1, 0, 2, (block(1), block(2))))) == 2
    out = merger.told(Told(1, 1, 1, 0, 2, (block(1), block(2, name=b"other"), block(3))))
    assert out == [Divergence(2, (0, 1), (b"2", b"other"))]
    assert merger.told(Told(0, 1, 1, 0, 3, (block(3),))) == [] and merger.height == 2


def test_a_node_that_contradicts_itself_is_named_twice() -> None:
    merger = merger_of(2)
    merger.told(Told(0, 1, 1, 0, 1, (block(1),)))
    assert merger.told(Told(0, 1, 1, 0, 1, (block(1, name=b"x"),))) == [Divergence(1, (0, 0), (b"1", b"x"))]


def test_what_was_skipped_is_asked_for_again_and_what_is_gone_is_named() -> None:
    merger = merger_of(2)
    assert merger.told(Told(0, 1, 1, 3, 0, (), (event(3),))) == [Again(0)]
    assert merger.told(Told(0, 1, 1, 0, 9, (block(9),))) == [Again(0)]
    assert merger.place(0) == (1, 1, 0)
    out = merger.told(Told(0, 1, 3, 3, 0, (), (event(3),)))
    assert out[0] == Gap(0, 1, 1, 2) and isinstance(out[1], LocalDelivered)
    out = merger.told(Told(0, 5, 2, 2, 0, (), (event(2),)))
    assert out[:2] == [Gap(0, 1, 4, 0), Gap(0, 5, 1, 1)] and isinstance(out[2], LocalDelivered)


def test_who_is_given_up_holds_nobody_and_what_it_said_before_comes_late() -> None:
    merger = merger_of(2)
    assert merger.told(Told(1, 1, 1, 0, 1, (block(1, (Point(0, 1, 1),)),))) == []
    assert [type(o) for o in merger.give_up(0)] == [BlockDelivered]
    out = merger.told(Told(0, 1, 1, 2, 1, (), (event(1, 0), event(2, 1))))
    assert [type(o) for o in out] == [Late, LocalDelivered]


def test_a_clock_that_a_node_denies_holds_nobody_for_long() -> None:
    merger = merger_of(2)
    assert merger.told(Told(1, 1, 1, 0, 1, (block(1, (Point(0, 1, 1 << 60),)),))) == []
    assert merger.blocking() == [0]
    out = merger.give_up(0, is_answering=True)
    assert out[0] == Denied(0, (1, 0)) and isinstance(out[1], BlockDelivered)
    assert [type(o) for o in merger.told(Told(1, 1, 1, 0, 2, (block(2, (Point(0, 1, 1 << 60),)),)))] == [BlockDelivered]


@given(st.lists(st.builds(Point, NODE, st.integers(1, 3), st.integers(0, 9))))
def test_a_clock_keeps_the_latest_point_of_each_node(points: list[Point]) -> None:
    clock = clock_of(points)
    assert [p.node for p in clock] == sorted({p.node for p in points})
    for kept in clock:
        assert kept == max((p for p in points if p.node == kept.node), key=lambda p: (p.epoch, p.sequence))


@pytest.mark.parametrize("height", [1, 7])
def test_a_merged_stream_begins_where_it_is_asked_to(height: int) -> None:
    merger = Merger([0], height)
    assert merger.place(0) == (height, 0, 0)
    told = Told(0, 1, 1, 0, height, (block(height),))
    assert [o.block.height for o in merger.told(told) if isinstance(o, BlockDelivered)] == [height]
