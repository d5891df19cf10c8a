"""Following a chain from one line of trust: skipping, changing sets, lying sources, forks, and what is remembered."""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.base.errors import ConfigurationError, Reason, Refused
from lockstep.sync.light_client import (
    Adopted,
    Agreed,
    Answered,
    Ask,
    Dropped,
    Effect,
    Failed,
    Follow,
    Forked,
    LightClient,
)
from lockstep.sync.light_fork import make_fork, prove_fork
from lockstep.sync.light_rule import DAY_MS, Rule
from lockstep.sync.light_shown import examine
from lockstep.sync.light_state import LightState, decode_light_state
from lockstep.sync.light_trust import TrustRoot, parse_trust
from lockstep.wire.light import LightReply
from tests.support.light_chain import CHAIN, LightChain, Served, keys_of, set_of

KEYS = keys_of(1, 4)


def run(client: LightClient, chains: Sequence[LightChain | Served], now_ms: int) -> list[Effect]:
    """Follow once, every question being answered by the chain of its source. All effects but the questions."""
    effects, done = list(client.step(Follow(), now_ms)), []
    while effects:
        effect = effects.pop(0)
        if isinstance(effect, Ask):
            effects += client.step(
                Answered(effect.source, effect.height, chains[effect.source].reply(effect.height)), now_ms
            )
        else:
            done.append(effect)
    return done


def followed(length: int = 20, sources: int = 1) -> tuple[LightClient, LightChain]:
    chain = LightChain(KEYS).grow(length)
    client = LightClient(chain.root, sources)
    run(client, [chain] * sources, chain.now_ms())
    assert client.state is not None and client.state.height == length
    return client, chain


def test_one_certificate_takes_a_client_over_any_distance() -> None:
    chain = LightChain(KEYS).grow(3_000)
    client = LightClient(chain.root, 1)
    done = run(client, [chain], chain.now_ms())
    assert [type(effect) for effect in done] == [Adopted] and client.certificates == 1
    assert client.state is not None
    final = chain.certify(3_000)
    assert (client.state.block, client.state.state_root) == (final.block, final.state_root)
    chain.grow(3_500)
    run(client, [chain], chain.now_ms())
    assert client.state.height == 3_500 and client.certificates == 2
    assert run(client, [chain], chain.now_ms()) == [], "nothing newer"
    restored = LightClient(client.state, 2)
    behind = LightChain(KEYS).grow(100)
    done = run(restored, [behind, chain.grow(3_600)], chain.now_ms())
    assert isinstance(done[0], Adopted) and done[0].state.height == 3_600 and restored.sources == [1, 0]


def test_changing_sets_are_bridged_by_headers_half_way() -> None:
    keys = keys_of(1, 12)
    chain = LightChain(KEYS, changes={0: keys[:4], 100: keys[2:6], 200: keys[4:8], 300: keys[6:10]}).grow(400)
    client = LightClient(chain.root, 1)
    done = run(client, [chain], chain.now_ms())
    heights = [effect.state.height for effect in done if isinstance(effect, Adopted)]
    assert heights[-1] == 400 and 2 < len(heights) < 12 and heights == sorted(heights)
    assert client.state is not None and client.state.validators == set_of(keys[6:10])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_an_honest_node_leads_there_whatever_certificates_it_has(data: st.DataObject) -> None:
    """As long as an epoch's last block has its own, which it always has."""
    heights = sorted(data.draw(st.sets(st.integers(3, 280), min_size=1, max_size=5)))
    sets = [keys_of(first, 4) for first in (1, 11, 21, 31)]
    changes = {0: KEYS} | {height: sets[(i + 1) % 4] for i, height in enumerate(heights)}
    head = heights[-1] + data.draw(st.integers(1, 60))
    bare = data.draw(st.sets(st.integers(1, head), max_size=head))
    if data.draw(st.booleans()):
        bare = set(range(1, head))  # as bare as can be
    gaps = tuple(sorted(bare - {height - 1 for height in heights} - {head}))
    chain = LightChain(KEYS, changes=changes, gaps=gaps).grow(head)
    client = LightClient(chain.root, 1)
    done = run(client, [Served(chain)], chain.now_ms())
    assert not any(isinstance(effect, Dropped) for effect in done)
    assert client.state is not None and client.state.block == chain.headers[head].digest


def test_a_proof_that_leads_further_meanwhile_costs_nobody_anything() -> None:
    """Answers are under way when a proof comes that is above what they are about."""
    keys = keys_of(11, 4)
    chain = LightChain(KEYS, changes={0: KEYS, 100: keys}).grow(150)
    client, now_ms = LightClient(chain.root, 1), chain.now_ms()
    client.step(Follow(40), now_ms)
    client.step(Answered(0, 40, chain.reply(40)), now_ms)
    client.step(Follow(), now_ms)
    (ask,) = client.step(Answered(0, 0, chain.reply(150)), now_ms)
    assert ask == Ask(0, 95)
    client.check(chain.headers[97], chain.certify(97), now_ms)
    effects = client.step(Answered(0, 95, chain.reply(95)), now_ms)
    while effects:
        effect = effects.pop(0)
        assert not isinstance(effect, Dropped)
        if isinstance(effect, Adopted):
            assert effect.state.height > 97
        if isinstance(effect, Ask):
            effects += client.step(Answered(0, effect.height, chain.reply(effect.height)), now_ms)
    assert client.state is not None and client.state.height == 150


def test_answers_that_nobody_waits_for_are_no_lies() -> None:
    chain = LightChain(KEYS, changes={0: KEYS, 10: keys_of(11, 4)}).grow(20)
    client, now_ms = LightClient(chain.root, 2), chain.now_ms()
    client.step(Follow(), now_ms)
    (ask,) = client.step(Answered(0, 0, chain.reply(20)), now_ms)
    assert ask == Ask(0, 10)
    assert client.step(Answered(0, 3, chain.reply(3)), now_ms) == []
    assert client.step(Answered(1, 20, chain.reply(20)), now_ms) == []
    assert client.step(Answered(0, 10, chain.reply(10)), now_ms) == [Ask(0, 5)] and client.sources == [0, 1]


def test_where_the_way_leads_over_what_is_too_old_nobody_is_to_blame() -> None:
    """A trust line may be of any age; a header on the way from it may not."""
    chain = LightChain(KEYS, changes={0: KEYS, 10: keys_of(11, 4)}).grow(20)
    client = LightClient(chain.root, 1)
    with pytest.raises(Refused, match="new trust line") as refused:
        run(client, [chain], chain.headers[9].time_ms + 14 * DAY_MS)
    assert refused.value.reason is Reason.EXPIRED and client.sources == [0]


def test_a_set_that_nobody_trusted_signed_is_not_reached() -> None:
    strangers = LightChain(keys_of(50, 4)).grow(30)
    chain = LightChain(KEYS).grow(20)
    client = LightClient(chain.root, 2)
    done = run(client, [strangers, chain], strangers.now_ms())
    assert isinstance(done[0], Dropped) and done[0].source == 0
    assert client.state is not None and client.state.height == 20 and client.sources == [1]


@pytest.mark.parametrize("signers", [1, 2])
def test_without_a_quorum_a_source_is_dropped(signers: int) -> None:
    chain = LightChain(KEYS).grow(9)
    client = LightClient(chain.root, 1)
    client.step(Follow(9), chain.now_ms())
    effects = client.step(Answered(0, 9, chain.reply(9, signers=signers)), chain.now_ms())
    assert isinstance(effects[0], Dropped) and "no quorum" in effects[0].why and client.state is None


@given(st.integers(0, 100_000), st.integers(0, 7))
def test_a_reply_with_any_bit_changed_is_never_adopted(place: int, bit: int) -> None:
    chain = LightChain(KEYS).grow(5)
    honest = chain.reply(5)
    final = honest.finalization
    assert final is not None
    parts = [*honest.headers, final.block, final.state_root, final.event_root, final.signers, final.signatures,
             honest.keys]  # fmt: skip
    at = place % sum(map(len, parts))
    which = 0
    while at >= len(parts[which]):
        at -= len(parts[which])
        which += 1
    raw = bytearray(parts[which])
    raw[at] ^= 1 << bit
    parts[which] = bytes(raw)
    changed = type(final)(final.view, final.height, *parts[1:6])
    client = LightClient(chain.root, 1)
    client.step(Follow(5), chain.now_ms())
    effects = client.step(Answered(0, 5, LightReply(0, (parts[0],), changed, parts[6], honest.stakes)), chain.now_ms())
    assert not any(isinstance(effect, Adopted) for effect in effects) and client.state is None


def test_trust_expires() -> None:
    client, chain = followed()
    client.rule = Rule(period_ms=DAY_MS)
    chain.grow(40)
    late = chain.headers[20].time_ms + DAY_MS
    with pytest.raises(Refused, match="trusting period") as refused:
        client.step(Follow(), late)
    assert refused.value.reason is Reason.EXPIRED
    assert client.state is not None and client.state.height == 20 and client.sources == [0], "no source is to blame"
    with pytest.raises(Refused, match="trusting period"):
        client.check(chain.headers[10], chain.certify(10), late)
    client = LightClient(client.state, 1, Rule(period_ms=DAY_MS))
    done = run(client, [chain], late - 1)
    assert isinstance(done[0], Adopted), "one millisecond before"


def test_witnesses_that_have_the_same_agree_and_late_ones_are_not_blamed() -> None:
    chain, behind = LightChain(KEYS).grow(20), LightChain(KEYS).grow(15)
    client = LightClient(chain.root, 3)
    done = run(client, [chain, chain, behind], chain.now_ms())
    assert done[1:] == [Agreed(1, 20, False), Agreed(2, 20, True)]


def test_a_witness_without_a_certificate_of_that_height_shows_the_way_to_the_next() -> None:
    chain = LightChain(KEYS).grow(20)
    gappy = LightChain(KEYS, gaps=(20, 21)).grow(25)
    client = LightClient(chain.root, 2)
    assert run(client, [chain, gappy], gappy.now_ms())[1:] == [Agreed(1, 20, False)]


def test_two_finalizations_of_one_height_are_a_fork_with_names() -> None:
    chain, other = LightChain(KEYS).grow(20), LightChain(KEYS, salt=b"other").grow(20)
    client = LightClient(chain.root, 2)
    done = run(client, [chain, other], chain.now_ms())
    assert isinstance(done[-1], Forked)
    guilt = prove_fork(done[-1].fork.encode(), set_of(KEYS))
    assert guilt.height == 20 and guilt.in_both == (0, 1, 2)
    assert [evidence.signer for evidence in guilt.evidence] == [0, 1, 2]
    assert client.step(Follow(), chain.now_ms()) == [], "nothing is trusted any more"
    with pytest.raises(Refused):
        client.check(chain.headers[20], chain.certify(20), chain.now_ms())


def test_a_fork_above_a_complete_change_of_validators_is_seen() -> None:
    changes = {0: KEYS, 10: keys_of(11, 4)}
    chain = LightChain(KEYS, changes=changes).grow(20)
    other = LightChain(KEYS, changes=changes, headers=list(chain.headers[:15]), salt=b"other").grow(20)
    client = LightClient(chain.root, 2)
    done = run(client, [chain, other], chain.now_ms())
    assert isinstance(done[-1], Forked)
    assert prove_fork(done[-1].fork.encode(), set_of(changes[10])).in_both == (0, 1, 2)


def test_who_leads_over_a_change_of_its_own_is_shown_by_a_witness_to_have_forked_the_chain() -> None:
    """More than a third of the validators sign a block that names others, who then sign what they like."""
    chain = LightChain(KEYS).grow(20)
    mine = keys_of(11, 4)
    lie = LightChain(KEYS, changes={0: KEYS, 10: mine}, headers=list(chain.headers[:9]), salt=b"lie").grow(20)
    client = LightClient(chain.root, 2)
    done = run(client, [lie, chain], chain.now_ms())
    assert isinstance(done[-1], Forked) and client.fork is not None


def test_one_block_with_two_roots_is_a_fork_too() -> None:
    chain = LightChain(KEYS).grow(20)
    client = LightClient(chain.root, 2)
    client.step(Follow(20), chain.now_ms())
    assert Ask(1, 20) in client.step(Answered(0, 20, chain.reply(20)), chain.now_ms())
    done = client.step(Answered(1, 20, chain.reply(20, state=b"another")), chain.now_ms())
    assert isinstance(done[0], Forked)
    assert len(prove_fork(done[0].fork.encode(), set_of(KEYS)).evidence) == 3


def test_a_witness_with_another_block_but_no_quorum_is_dropped_and_no_fork() -> None:
    chain, other = LightChain(KEYS).grow(20), LightChain(KEYS, salt=b"other").grow(20)
    client = LightClient(chain.root, 2)
    client.step(Follow(20), chain.now_ms())
    assert Ask(1, 20) in client.step(Answered(0, 20, chain.reply(20)), chain.now_ms())
    done = client.step(Answered(1, 20, other.reply(20, signers=2)), chain.now_ms())
    assert isinstance(done[0], Dropped) and client.fork is None


def test_what_is_no_fork_is_not_proven() -> None:
    chain, other = LightChain(KEYS).grow(20), LightChain(KEYS, salt=b"other").grow(20)
    validators = set_of(KEYS)

    def shown(reply: LightReply):
        found = examine(reply, CHAIN)
        assert found is not None
        return found

    same = make_fork(shown(chain.reply(20)), shown(chain.reply(20, signers=4)))
    apart = make_fork(shown(chain.reply(19)), shown(other.reply(20)))
    weak = make_fork(shown(chain.reply(20)), shown(other.reply(20, signers=2)))
    for fork in (same, apart, weak):
        with pytest.raises(Refused):
            prove_fork(fork.encode(), validators)
    good = make_fork(shown(chain.reply(20)), shown(other.reply(20)))
    assert prove_fork(good.encode(), validators).height == 20
    with pytest.raises(Refused):
        prove_fork(type(good)(good.chain_id, good.other, good.one).encode(), validators)
    with pytest.raises(Refused):
        prove_fork(good.encode(), set_of(keys_of(9, 4)))


def test_headers_of_proofs_old_and_new() -> None:
    client, chain = followed()
    assert client.check(chain.headers[7], chain.certify(7), chain.now_ms()) == []
    with pytest.raises(Refused) as refused:
        client.check(chain.headers[7], chain.certify(7, signers=2), chain.now_ms())
    assert refused.value.reason is Reason.BAD_CERTIFICATE
    with pytest.raises(Refused):
        client.check(chain.headers[7], chain.certify(8), chain.now_ms())
    chain.grow(30)
    assert isinstance(client.check(chain.headers[30], chain.certify(30), chain.now_ms())[0], Adopted)
    assert client.state is not None and client.state.height == 30


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["honest", "behind", "empty", "forged", "minority", "strangers", "silent", "other"]),
                min_size=1, max_size=5), st.integers(0, 5))  # fmt: skip
def test_one_honest_source_is_enough_whatever_the_others_do(others: list[str], place: int) -> None:
    honest = LightChain(KEYS).grow(12)
    fork, strangers = LightChain(KEYS, salt=b"fork").grow(14), LightChain(keys_of(70, 4)).grow(16)
    sources = [*others[:place], "honest", *others[place:]]
    replies = {
        "honest": lambda height: honest.reply(height), "behind": lambda height: LightChain(KEYS).grow(5).reply(height),
        "forged": lambda height: msgspec.structs.replace(honest.reply(height), keys=fork.reply(1).keys[::-1]),
        "empty": lambda height: LightReply(0, (), None, b"", ()),
        "minority": lambda height: fork.reply(height, signers=2), "strangers": strangers.reply,
        "other": lambda height: honest.reply(max(1, height - 3)),
    }  # fmt: skip
    client, now_ms = LightClient(honest.root, len(sources)), strangers.now_ms()
    for _ in range(len(sources) + 1):
        effects = client.step(Follow(), now_ms)
        while effects:
            effect = effects.pop(0)
            assert not isinstance(effect, Forked)
            if isinstance(effect, Ask):
                kind = sources[effect.source]
                if kind == "silent":
                    effects += client.step(Failed(effect.source, "no answer"), now_ms)
                else:
                    reply = replies[kind](effect.height)
                    effects += client.step(Answered(effect.source, effect.height, reply), now_ms)
    assert min(place, len(others)) in client.sources, "the honest one is never dropped"
    assert client.state is not None and client.state.block == honest.headers[client.state.height].digest
    assert client.state.height == 12, "a primary that hides new blocks is overtaken"


def test_a_source_that_fails_gives_way_to_the_next() -> None:
    chain = LightChain(KEYS).grow(5)
    client = LightClient(chain.root, 2)
    assert client.step(Follow(), chain.now_ms()) == [Ask(0, 0)]
    assert client.step(Failed(0, "no answer"), chain.now_ms()) == [Dropped(0, "no answer"), Ask(1, 0)]
    assert client.step(Failed(1, "no answer"), chain.now_ms()) == [Dropped(1, "no answer")]
    assert client.step(Follow(), chain.now_ms()) == []


# -- what is kept, what is handed on ---------------------------------------------------------------------


def test_the_state_is_a_few_hundred_bytes_and_comes_back() -> None:
    client, chain = followed()
    assert client.state is not None
    raw = client.state.encode()
    assert len(raw) < 400 and decode_light_state(raw) == client.state
    chain.grow(40)
    again = LightClient(decode_light_state(raw), 1)
    run(again, [chain], chain.now_ms())
    assert again.state is not None and again.state.height == 40


@given(st.integers(0, 1_000), st.integers(0, 7))
def test_a_damaged_state_is_refused(place: int, bit: int) -> None:
    raw = bytearray(LightState(9, 8, bytes(32), bytes(32), bytes(32), set_of(KEYS)).encode())
    raw[place % len(raw)] ^= 1 << bit
    with pytest.raises(ConfigurationError):
        decode_light_state(bytes(raw))


@given(st.binary(min_size=32, max_size=32), st.integers(0, (1 << 63) - 1), st.binary(min_size=32, max_size=32))
def test_a_trust_line_comes_back(chain: bytes, height: int, validators: bytes) -> None:
    root = TrustRoot(chain, height, validators)
    assert parse_trust(root.line()) == root and "\n" not in root.line() and " " not in root.line()


@pytest.mark.parametrize(
    "line",
    [
        "", "lockstep:1", f"lockstep:2:{'0' * 64}:1:{'0' * 64}", f"lockstep:1:{'0' * 63}:1:{'0' * 64}",
        f"lockstep:1:{'0' * 64}:01:{'0' * 64}", f"lockstep:1:{'0' * 64}:-1:{'0' * 64}",
        f"lockstep:1:{'A' * 64}:1:{'0' * 64}", f"lockstep:1:{'0' * 64}:{1 << 63}:{'0' * 64}",
        f"lockstep:1:{'0' * 64}:1:{'0' * 64}:", f"lockstep:1:{'0' * 64}:²:{'0' * 64}",
    ],
)  # fmt: skip
def test_what_is_no_trust_line(line: str) -> None:
    with pytest.raises(ConfigurationError, match="trust line"):
        parse_trust(line)
