"""Following changes of validators with peers: a set is trusted when certificates lead to it, and only then."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.base.keys import PrivateKey
from lockstep.sync.bisection import ANSWERS_MAX
from lockstep.sync.light_rule import DAY_MS, Anchor, Rule
from lockstep.sync.succession import TIMEOUT_US, WALK_US, WALKS_MAX, Succession, anchor_at
from lockstep.wire.light import AskLight, LightReply
from tests.support.light_chain import CHAIN, LightChain, Served, keys_of, set_of

A, B, C, D = (keys_of(first, 4) for first in (1, 11, 21, 31))
FORGED = keys_of(91, 4)


def chain_of(changes: dict[int, list[PrivateKey]], height: int, gaps: tuple[int, ...] = ()) -> LightChain:
    """`changes`: from these heights on, these decide."""
    return LightChain(A, changes=changes, gaps=gaps).grow(height)


def begun(chain: LightChain, own_height: int = 3) -> Succession:
    succession = Succession(CHAIN)
    succession.begin(anchor_at(chain.headers[own_height], set_of(chain.keys_at(own_height + 1))))
    return succession


def drive(succession: Succession, peers: dict[int, Served], now_us: int) -> None:
    """Answer everything at once."""
    while succession.asks:
        peer, ask = succession.asks.pop(0)
        succession.answered(peer, peers[peer].answer(ask), now_us)


def walked(chain: LightChain, shown: LightChain, height: int, own_height: int = 3) -> tuple[Succession, Served]:
    """A node of `chain` is offered a checkpoint of `shown`."""
    succession, peer = begun(chain, own_height), Served(shown)
    now_us = shown.now_ms() * 1000
    succession.offered(7, peer.offer(height), now_us)
    drive(succession, {7: peer}, now_us)
    return succession, peer


def named(chain: LightChain, height: int) -> bytes:
    return set_of(chain.keys_at(height)).hash


def test_two_changes_that_leave_nothing_in_common_are_followed() -> None:
    chain = chain_of({0: A, 40: B, 70: C}, 200)
    succession, peer = walked(chain, chain, 190)
    assert [source for source, _ in succession.trusted] == [7] and not succession.blamed
    for height in (190, 60):
        assert succession.known(named(chain, height)) == set_of(chain.keys_at(height))
    assert len(peer.asked) < 40 and set(peer.asked) >= {39, 69}, "the last blocks of both epochs"
    before = len(peer.asked)
    succession.offered(8, peer.offer(195), chain.now_ms() * 1000)
    drive(succession, {8: peer}, chain.now_ms() * 1000)
    assert len(peer.asked) == before, "what was trusted once is where the next begins"


def test_a_set_is_forgotten_when_the_trusting_period_is_over() -> None:
    chain = chain_of({0: A, 40: B}, 100)
    succession, _ = walked(chain, chain, 90)
    period_us, set_hash = Rule().period_ms * 1000, named(chain, 90)
    succession.tick([7], chain.now_ms() * 1000)
    assert succession.known(set_hash) is not None
    succession.tick([7], chain.now_ms() * 1000 + period_us)
    assert succession.known(set_hash) is None


def test_a_change_that_leaves_more_than_a_third_needs_no_header_between() -> None:
    chain = chain_of({0: A, 40: [*A[:3], B[0]]}, 100)
    succession, peer = walked(chain, chain, 90)
    assert succession.trusted and not peer.asked


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_an_honest_peer_leads_there_whatever_certificates_it_has(data: st.DataObject) -> None:
    """As long as an epoch's last block has its own, which it always has; and never to a forged set."""
    heights = sorted(data.draw(st.sets(st.integers(8, 280), min_size=1, max_size=5)))
    sets = [A, B, C, D]
    changes = {0: A} | {height: sets[(i + 1) % 4] for i, height in enumerate(heights)}
    goal = heights[-1] + data.draw(st.integers(1, 60))
    bare = data.draw(st.sets(st.integers(4, goal + 5), max_size=goal + 5))
    if data.draw(st.booleans()):
        bare = set(range(4, goal + 5))  # as bare as can be
    gaps = tuple(sorted(bare - {height - 1 for height in heights} - {goal, goal + 6}))
    chain = chain_of(changes, goal + 6, gaps)
    succession, _ = walked(chain, chain, goal)
    assert succession.trusted and not succession.blamed
    assert succession.known(named(chain, goal)) == set_of(chain.keys_at(goal))
    assert succession.known(set_of(FORGED).hash) is None


@settings(max_examples=60, deadline=None)
@given(
    change=st.integers(5, 150), forged=st.integers(5, 150), beyond=st.integers(1, 60),
    bare=st.sets(st.integers(1, 200)), keys=st.integers(0, 1),
)  # fmt: skip
def test_a_set_that_no_certificates_lead_to_is_never_trusted(
    change: int, forged: int, beyond: int, bare: set[int], keys: int
) -> None:
    """The liar's chain is the real one up to some height, and then its own validators': one of four is a real one,
    who is no more than a quarter of any set. It holds back whatever certificates it likes."""
    mine = [*FORGED[:3], A[0]] if keys else FORGED
    real = chain_of({0: A, change: B}, 200)
    changes = {h: k for h, k in {0: A, change: B}.items() if h < forged} | {forged: mine}
    lie = LightChain(A, changes=changes, headers=list(real.headers[:forged]), salt=b"lie")
    goal = max(forged, 4) + beyond
    lie.grow(goal + 1)
    # Nobody of the set before signs that the liar's is next: so the last honest block is shown as it was.
    lie.gaps = tuple(sorted((bare | {forged - 1}) - {goal, goal + 1}))
    succession, _ = walked(real, lie, goal)
    assert succession.known(set_of(mine).hash) is None and not succession.trusted
    assert not succession.asks and (succession.blamed or succession.deadline() is None)


def test_who_invents_a_change_is_blamed() -> None:
    """Its headers link from the trusted one on, but nobody signed the block that names its validators."""
    real = chain_of({0: A}, 60)
    lie = LightChain(A, changes={0: A, 20: FORGED}, salt=b"lie").grow(60)
    lie.gaps = tuple(range(1, 20))
    succession, _ = walked(real, lie, 50)
    assert [source for source, _ in succession.blamed] == [7] and not succession.trusted
    assert "no certificates lead" in succession.blamed[0][1]


@pytest.mark.parametrize("what", ["signature", "set", "height", "quorum"])
def test_an_answer_that_does_not_hold_is_a_lie(what: str) -> None:
    chain = chain_of({0: A, 40: B}, 100)
    succession, peer = begun(chain), Served(chain)
    succession.offered(7, peer.offer(90), chain.now_ms() * 1000)
    ((_, ask),) = succession.asks
    reply = peer.answer(ask)
    assert reply.finalization is not None
    if what == "signature":
        signatures = bytes(64) + reply.finalization.signatures[64:]
        reply = msgspec.structs.replace(
            reply, finalization=msgspec.structs.replace(reply.finalization, signatures=signatures)
        )
    elif what == "set":
        reply = msgspec.structs.replace(reply, stakes=(1, 1, 1, 2))
    elif what == "height":
        reply = msgspec.structs.replace(peer.answer(AskLight(0, ask.height + 1)), token=ask.token)
    else:
        alone = chain.certify(ask.height, 1)
        reply = msgspec.structs.replace(reply, finalization=alone)
    succession.answered(7, reply, chain.now_ms() * 1000)
    assert [source for source, _ in succession.blamed] == [7] and succession.deadline() is None


def test_silence_and_pruned_headers_cost_time_and_no_blame() -> None:
    chain = chain_of({0: A, 40: B}, 100)
    now_us = chain.now_ms() * 1000
    succession, honest, pruned = begun(chain), Served(chain), Served(chain, lowest=60)
    for peer in (5, 6):
        succession.offered(peer, honest.offer(90), now_us)
    (_, (_, ask)) = succession.asks
    succession.asks.clear()
    succession.answered(6, pruned.answer(ask), now_us)
    assert succession.deadline() == now_us + TIMEOUT_US
    succession.tick([5, 6, 7], now_us + TIMEOUT_US)
    assert succession.deadline() is None
    for peer in (5, 6):
        succession.offered(peer, honest.offer(90), now_us + 1)
    assert not succession.asks, "both rest"
    succession.offered(7, honest.offer(90), now_us + 1)
    drive(succession, {7: honest}, now_us + 1)
    assert [source for source, _ in succession.trusted] == [7] and not succession.blamed


def test_a_few_are_asked_at_a_time_and_none_for_ever() -> None:
    chain = chain_of({0: A, 40: B}, 100)
    now_us = chain.now_ms() * 1000
    succession, honest = begun(chain), Served(chain)
    for peer in range(2 * WALKS_MAX):
        succession.offered(peer, honest.offer(90), now_us)
    assert len(succession.asks) == WALKS_MAX
    _, ask = succession.asks[0]
    succession.asks.clear()
    far = Anchor(1 << 50, None, bytes(32), None)  # room to lead somebody astray
    walk = succession._walks[0]
    walk.path.waiting[0].low = far.height
    for _ in range(ANSWERS_MAX + 1):
        succession.answered(0, LightReply(ask.token, (), None, b"", (), 1), now_us)
        ask = succession.asks.pop()[1] if succession.asks else ask
    assert 0 not in succession._walks and not succession.blamed


def test_who_trickles_is_left_after_a_while() -> None:
    chain = chain_of({0: A, 40: B}, 100)
    now_us = chain.now_ms() * 1000
    succession, honest = begun(chain), Served(chain)
    succession.offered(5, honest.offer(90), now_us)
    for step in range(1, WALK_US // TIMEOUT_US + 2):
        _, ask = succession.asks[-1]
        succession._walks[5].path.waiting[0].low = 1 << 50  # as if there were many headers to be shown
        succession.answered(5, LightReply(ask.token, (), None, b"", (), 1), now_us + step * (TIMEOUT_US - 1))
        succession.tick([5], now_us + step * (TIMEOUT_US - 1))
        if succession.deadline() is None:
            break
    assert succession.deadline() is None and step >= 10 and not succession.blamed


def test_after_the_trusting_period_nothing_is_trusted_and_the_operator_is_told_once() -> None:
    chain = chain_of({0: A, 40: B}, 100)
    succession, honest = begun(chain), Served(chain)
    late_us = (chain.headers[3].time_ms + 14 * DAY_MS) * 1000
    for peer in (5, 6):
        succession.offered(peer, honest.offer(90), late_us)
    (note,) = succession.take_notes()
    assert "older than 14 days" in note and "archive" in note
    assert not succession.asks and not succession.blamed and not succession.trusted
    assert succession.take_notes() == []


def test_a_slow_clock_blames_nobody() -> None:
    chain = chain_of({0: A, 40: B}, 100)
    succession, honest = begun(chain), Served(chain)
    succession.offered(5, honest.offer(90), (chain.headers[90].time_ms - 60_000) * 1000)
    assert "clock" in succession.take_notes()[0] and not succession.blamed
