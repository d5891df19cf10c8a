"""One test a rule of Plumtree's prose, what a liar gets, and whole overlays."""

import pytest

from lockstep.base.digest import digest
from lockstep.base.errors import Refused
from lockstep.gossip import plumtree as plumtree_module
from lockstep.gossip.plumtree import BROKEN_PROMISES_MAX, Config, Deliver, Effect, Misbehaved, Plumtree, SendTo, Verdict
from lockstep.simulator.latency import load
from lockstep.simulator.overlay import Overlay, random_graph
from lockstep.wire.gossip import (
    BODY_BYTES_MAX,
    KEYS_PER_MESSAGE_MAX,
    GossipMessage,
    Graft,
    IHave,
    Prune,
    Push,
    decode_gossip,
    encode_gossip,
)

BODY = b"a block"
KEY = digest(BODY)
CONFIG = Config(graft_us=500, retry_us=200, announce_us=20)


def judge(peer: int, body: bytes) -> Verdict:
    return {b"rubbish": Verdict.LIE, b"unknown": Verdict.KEPT_BACK}.get(body, Verdict.SPREAD)


def tree(*peers: int) -> Plumtree:
    return Plumtree(peers or (1, 2, 3), judge, CONFIG)


def sent(effects: list[Effect]) -> list[tuple[int, GossipMessage]]:
    return [(effect.peer, effect.message) for effect in effects if isinstance(effect, SendTo)]


def test_a_new_body_is_handed_up_and_pushed_along_the_other_eager_links() -> None:
    effects = tree().said(2, Push(0, BODY), 0)
    assert effects[0] == Deliver(KEY, BODY, 2)
    assert sent(effects) == [(1, Push(0, BODY)), (3, Push(0, BODY))]


def test_a_body_that_is_here_already_prunes_its_link() -> None:
    node = tree()
    node.said(2, Push(0, BODY), 0)
    assert sent(node.said(3, Push(0, BODY), 1)) == [(3, Prune(0))]
    assert (node.eager(0), node.lazy(0), node.duplicates) == ([1, 2], [3], 1)


def test_the_link_that_a_body_came_along_is_not_pruned_when_it_comes_along_it_again() -> None:
    node = tree()
    node.said(2, Push(0, BODY), 0)
    assert sent(node.said(2, Push(0, BODY), 1)) == []
    assert node.lazy(0) == []


def test_a_link_is_kept_when_the_one_that_a_body_came_along_first_is_lazy() -> None:
    node = tree()
    node.said(2, Push(0, BODY), 0)
    node.said(2, Prune(0), 1)
    assert sent(node.said(3, Push(0, BODY), 2)) == []
    assert node.lazy(0) == [2]


def test_nothing_goes_to_sources_but_what_a_tree_needs() -> None:
    node = tree(1)
    node.link_up(9, is_source=True)
    assert sent(node.said(1, Push(0, BODY), 0)) == []
    assert sent(node.said(9, Push(0, BODY), 0)) == [(9, Prune(0))]
    assert (node.eager(0), node.lazy(0)) == ([1], [])
    assert sent(node.said(9, Push(1, b"another"), 0)) == [(1, Push(1, b"another"))]
    assert node.deadline() is None, "nothing is announced to a source"
    node.link_down(9)
    node.link_up(9)
    assert 9 in node.eager(0)


def test_what_cannot_be_judged_is_kept_back_and_remembered() -> None:
    node = tree()
    assert node.said(1, Push(0, b"unknown"), 0) == []
    assert node.has_seen(digest(b"unknown"))
    assert sent(node.said(2, IHave(0, digest(b"unknown")), 1)) == [] and node.deadline() is None


def test_each_publisher_has_a_tree_of_its_own() -> None:
    node = tree()
    node.said(2, Push(0, BODY), 0)
    node.said(3, Push(0, BODY), 1)
    node.said(1, Prune(5), 2)
    assert (node.eager(0), node.eager(5), node.eager(7)) == ([1, 2], [2, 3], [1, 2, 3])


def test_lazy_links_get_announcements_gathered_for_a_while() -> None:
    node = tree()
    node.said(1, Prune(0), 0)
    bodies = [bytes([number]) * 9 for number in range(KEYS_PER_MESSAGE_MAX + 1)]
    for body in bodies:
        assert all(peer != 1 for peer, _ in sent(node.publish(0, body, 5)))
    assert node.deadline() == 25
    announced = [message for peer, message in sent(node.tick(25)) if peer == 1]
    keys = [digest(body) for body in bodies]
    assert announced == [IHave(0, b"".join(keys[:KEYS_PER_MESSAGE_MAX])), IHave(0, keys[-1])]
    assert node.deadline() is None


def test_what_was_announced_and_does_not_come_is_asked_for_round_and_round() -> None:
    node = tree()
    for peer in (1, 2):
        node.said(peer, Prune(0), 0)
        node.said(peer, IHave(0, KEY), 10)
    assert sent(node.tick(509)) == []
    assert sent(node.tick(510)) == [(1, Graft(0, KEY))]
    assert 1 in node.eager(0) and 2 in node.lazy(0)
    assert sent(node.tick(710)) == [(2, Graft(0, KEY))]
    assert sent(node.tick(910)) == [(1, Graft(0, KEY))]
    node.said(1, Push(0, BODY), 911)
    assert node.deadline() is None or sent(node.tick(2_000)) == []


def test_what_is_here_or_comes_in_time_is_not_asked_for() -> None:
    node = tree()
    node.said(1, IHave(0, KEY), 0)
    node.said(2, Push(0, BODY), 400)
    node.said(3, IHave(0, KEY), 450)
    assert all(not isinstance(message, Graft) for _, message in sent(node.tick(10_000)))


def test_a_graft_makes_the_link_eager_and_gets_what_it_asks_for() -> None:
    node = tree()
    node.publish(0, BODY, 0)
    node.said(3, Prune(0), 1)
    assert sent(node.said(3, Graft(0, KEY + bytes(32)), 2)) == [(3, Push(0, BODY))]
    assert 3 in node.eager(0)


def test_a_lost_link_is_forgotten_with_its_promises_and_a_new_one_is_eager() -> None:
    node = tree()
    node.said(1, IHave(0, KEY), 0)
    node.link_down(1)
    assert node.deadline() is None and node.eager(0) == [2, 3]
    node.link_up(4)
    assert node.eager(0) == [2, 3, 4]
    assert node.said(1, Push(0, BODY), 5) == [], "who is not linked is not listened to"


def test_rubbish_is_neither_handed_up_nor_passed_on() -> None:
    assert tree().said(1, Push(0, b"rubbish"), 0) == [Misbehaved(1, "pushed a body that is not valid")]


def test_who_announces_and_never_sends_is_told_on() -> None:
    node, now = tree(), 0
    told: list[Effect] = []
    for number in range(BROKEN_PROMISES_MAX + 1):
        node.said(1, IHave(0, digest(bytes([number]))), now)
        now += 500
        told += [effect for effect in node.tick(now) if isinstance(effect, Misbehaved)]
        node.link_up(1)
        for key in list(node._missing):
            del node._missing[key]
    assert told == [Misbehaved(1, f"announced {BROKEN_PROMISES_MAX + 1} bodies and sent none")]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit in (("SEEN_MAX", 8), ("BODIES_BYTES_MAX", 40), ("MISSING_MAX", 4)):
        monkeypatch.setattr(plumtree_module, name, limit)
    node = tree()
    for number in range(50):
        node.publish(0, bytes([number]) * 10, 0)
        node.said(1, IHave(0, digest(b"missing" + bytes([number]))), 0)
    assert (len(node._seen), len(node._bodies), len(node._missing)) == (8, 4, 4)


def test_messages_round_trip_and_what_is_out_of_bounds_is_refused() -> None:
    for message in (Push(0, BODY), IHave(0, KEY * 3), Graft(0, b""), Prune(0)):
        assert decode_gossip(encode_gossip(message)) == message
    for wrong in (
        Prune(128),
        IHave(0, b"short"),
        Graft(0, KEY * (KEYS_PER_MESSAGE_MAX + 1)),
        Push(0, bytes(BODY_BYTES_MAX + 1)),
    ):
        with pytest.raises(Refused):
            decode_gossip(encode_gossip(wrong))


# -- overlays ------------------------------------------------------------------------------------------


def spread(overlay: Overlay, rounds: int) -> None:
    for number in range(rounds):
        overlay.publish(number % 4, overlay.now_us.to_bytes(8, "little") * 300)
        overlay.run(3_000_000)


def test_a_random_graph_is_connected_and_its_links_go_both_ways() -> None:
    from random import Random

    for seed in range(20):
        peers = random_graph(60, 3, Random(seed))
        assert all(index in peers[peer] and peer != index for index in range(60) for peer in peers[index])
        reached, front = {0}, [0]
        while front:
            front = [peer for index in front for peer in peers[index] if peer not in reached and not reached.add(peer)]  # type: ignore[func-returns-value]
        assert len(reached) == 60


def test_after_one_flood_a_tree_is_left_and_everything_reaches_everybody() -> None:
    overlay = Overlay(load("cities"), 80, seed=3)
    spread(overlay, 5)
    before = sum(node.tree.duplicates for node in overlay.nodes)
    spread(overlay, 20)
    assert all(len(node.arrived_us) == 25 for node in overlay.nodes)
    duplicates = sum(node.tree.duplicates for node in overlay.nodes) - before
    assert duplicates <= 20 * 80 // 10, "at most one body in ten comes twice"
    assert overlay.misbehaved == []


def test_the_tree_is_repaired_when_a_tenth_of_all_nodes_is_gone() -> None:
    overlay = Overlay(load("cities"), 80, seed=4)
    spread(overlay, 5)
    for index in range(10, 18):
        overlay.crash(index)
    spread(overlay, 10)
    up = [node for node in overlay.nodes if node.is_up]
    assert len(up) == 72 and all(len(node.arrived_us) == 15 for node in up)
    assert overlay.misbehaved == []


def test_the_same_seed_gives_the_same_network() -> None:
    first, second = (Overlay(load("cities"), 40, seed=9) for _ in range(2))
    for overlay in (first, second):
        spread(overlay, 3)
    assert [node.arrived_us for node in first.nodes] == [node.arrived_us for node in second.nodes]
