"""Replaying from several peers at once: what is taken, what waits, and which lies are named."""

from dataclasses import replace

import numpy as np
import pytest

from lockstep.base.digest import digest
from lockstep.base.errors import InvariantBroken
from lockstep.sync.catch_up import AHEAD_BLOCKS_MAX, BUFFER_BYTES_MAX, HEDGE_US, CatchUp
from lockstep.sync.chain_peers import LACKING_US, TIMEOUT_US
from lockstep.wire.block import Header, Payload, genesis_header
from lockstep.wire.bundle import seal_bundle
from lockstep.wire.certificate import Finalization, finalization
from lockstep.wire.command import COMMAND
from lockstep.wire.message import Chain, ChainBlock
from lockstep.wire.validators import validator_set
from lockstep.wire.vote import sign_finalize
from tests.support.small_network import small_genesis, trader_key, validator_key

GENESIS = small_genesis()
CHAIN = GENESIS.chain_id
SET = validator_set(GENESIS).hash
ROOT = genesis_header(CHAIN, GENESIS.time_ms)


def make_chain(length: int) -> list[tuple[Header, ChainBlock]]:
    blocks: list[tuple[Header, ChainBlock]] = []
    parent = ROOT
    for height in range(1, length + 1):
        bundle = seal_bundle(trader_key(0), CHAIN, 0, height - 1, 100, np.zeros(1, COMMAND))
        payload = Payload(bundle.digest, (), ()).encode()
        header = Header(
            CHAIN, height, height, height - 1, ROOT.time_ms, height % 4, 1, 1, parent.digest, digest(payload), SET, SET
        )
        blocks.append((header, ChainBlock(header.encode(), payload, (bundle.raw,))))
        parent = header
    return blocks


BLOCKS = make_chain(6)
LONG = make_chain(AHEAD_BLOCKS_MAX)


def certify(header: Header, signers: tuple[int, ...] = (0, 1, 2)) -> Finalization:
    roots = digest(b"state"), digest(b"events")
    votes = [
        sign_finalize(validator_key(i), CHAIN, i, header.view, header.height, header.digest, *roots) for i in signers
    ]
    return finalization(votes, 4)


def chain(first: int, last: int, certified: int | None, of: list[tuple[Header, ChainBlock]] = BLOCKS) -> Chain:
    cert = certify(of[certified - 1][0]) if certified else None
    return Chain(tuple(wire for _, wire in of[first - 1 : last]), cert)


def asked(peers: int = 1, target: int = 6) -> CatchUp:
    """Peers 1 … are asked for what is above the genesis block, 64 blocks each."""
    catch_up = CatchUp(validator_set(GENESIS))
    catch_up.tick(ROOT, target, list(range(1, peers + 1)), 0)
    assert [(peer, request.from_height) for peer, request in catch_up.asks] == [
        (peer, 64 * peer - 63) for peer in range(1, peers + 1) if 64 * peer - 63 <= target
    ]
    catch_up.asks.clear()
    return catch_up


def heights(catch_up: CatchUp, tip: Header = ROOT) -> list[int]:
    proven = catch_up.proven(tip)
    return [] if proven is None else [block.header.height for block in proven.blocks]


def requests(catch_up: CatchUp, tip: Header, target: int, peers: list[int], now_us: int) -> list[tuple[int, int]]:
    catch_up.tick(tip, target, peers, now_us)
    found = [(peer, request.from_height) for peer, request in catch_up.asks]
    catch_up.asks.clear()
    return found


def test_certified_blocks_are_proven() -> None:
    catch_up = asked()
    catch_up.answered(1, chain(1, 4, 4), 10)
    assert heights(catch_up) == [1, 2, 3, 4]
    assert heights(catch_up) == [], "handed on once"


def test_blocks_beyond_the_certificate_are_asked_for_again() -> None:
    catch_up = asked()
    catch_up.answered(1, chain(1, 4, 3), 10)
    assert heights(catch_up) == [1, 2, 3]
    assert requests(catch_up, BLOCKS[2][0], 6, [1], 20) == [(1, 4)]


def test_uncertified_blocks_wait_for_a_certificate_above() -> None:
    catch_up = asked()
    catch_up.answered(1, chain(1, 3, None), 10)
    assert heights(catch_up) == []
    assert requests(catch_up, ROOT, 6, [1], 20) == [(1, 4)]
    catch_up.answered(1, chain(4, 5, 5), 30)
    assert heights(catch_up) == [1, 2, 3, 4, 5]


def test_blocks_whose_certificate_is_kept_back_are_proven_by_one_that_is_here() -> None:
    catch_up = asked()
    catch_up.answered(1, chain(1, 6, None), 10)
    held = [certify(BLOCKS[height - 1][0]) for height in (2, 4)]
    proven = catch_up.proven(ROOT, held)
    assert proven is not None and proven.finalization == held[1]
    assert [block.header.height for block in proven.blocks] == [1, 2, 3, 4]
    assert heights(catch_up, BLOCKS[3][0]) == [] and catch_up.blamed == []
    above = catch_up.proven(BLOCKS[3][0], [certify(BLOCKS[5][0])])
    assert above is not None and [block.header.height for block in above.blocks] == [5, 6], "what came above waited"


def test_another_block_than_the_one_that_a_certificate_here_names_is_a_lie() -> None:
    catch_up = asked()
    catch_up.answered(1, Chain(tuple(other_chain(ROOT, 3)), None), 10)
    assert catch_up.proven(ROOT, [certify(BLOCKS[1][0])]) is None
    [(peer, detail)] = catch_up.blamed
    assert peer == 1 and "block 2 is not the one that a quorum finalized" in detail
    assert requests(catch_up, ROOT, 6, [1, 2], 20) == [(2, 1)]


def test_where_two_have_led_away_from_a_certificate_both_rest() -> None:
    catch_up = asked(2, 128)
    wires = other_chain(ROOT, 128)
    catch_up.answered(1, Chain(tuple(wires[:64]), None), 10)
    catch_up.answered(2, Chain(tuple(wires[64:]), None), 20)
    assert catch_up.proven(ROOT, [certify(LONG[99][0])]) is None and catch_up.blamed == []
    assert requests(catch_up, ROOT, 128, [1, 2, 3], 30) == [(3, 1)]


def test_stretches_of_several_peers_arrive_in_any_order() -> None:
    catch_up = asked(3, 192)
    for peer in (3, 2, 1):
        assert heights(catch_up) == []
        catch_up.answered(peer, chain(64 * peer - 63, 64 * peer, 64 * peer, LONG), 100)
    tip = ROOT
    for last in (64, 128, 192):
        assert heights(catch_up, tip) == list(range(tip.height + 1, last + 1)), "a batch at a time, each with its own"
        tip = LONG[last - 1][0]
    assert catch_up.buffered_bytes == 0


def test_a_silent_peer_is_asked_less_and_less_and_its_late_answer_is_still_good() -> None:
    catch_up = asked(2, 64)
    assert requests(catch_up, ROOT, 64, [1], TIMEOUT_US - 1) == []
    assert requests(catch_up, ROOT, 64, [1, 2], TIMEOUT_US) == [(2, 1)]
    catch_up.answered(1, chain(1, 64, 64, LONG), TIMEOUT_US + 1)
    assert len(heights(catch_up)) == 64
    assert catch_up.peers[1].score == 100


def test_where_nobody_answers_one_is_asked_each_second_all_the_same() -> None:
    catch_up = asked(2, 64)
    found = [requests(catch_up, ROOT, 64, [1, 2], second * TIMEOUT_US) for second in range(1, 9)]
    assert all(len(now) == 1 for now in found), "a partition that heals must not leave everybody resting"
    assert {peer for now in found for peer, _ in now} == {1, 2}


def test_what_is_needed_first_is_asked_of_a_second_peer_long_before_the_time_out() -> None:
    catch_up = asked(2, 128)
    catch_up.answered(2, chain(65, 128, 128, LONG), 1_000)
    assert requests(catch_up, ROOT, 128, [1, 2], HEDGE_US - 1) == []
    assert catch_up.deadline() == HEDGE_US
    assert requests(catch_up, ROOT, 128, [1, 2], HEDGE_US) == [(2, 1)]
    assert requests(catch_up, ROOT, 128, [1, 2, 3], HEDGE_US + 1) == [], "two are enough"


def test_a_peer_without_the_blocks_rests_and_when_all_are_they_are_nowhere() -> None:
    catch_up = asked(2)
    catch_up.answered(1, Chain((), None), 10)
    assert requests(catch_up, ROOT, 6, [1, 2], 20) == [(2, 1)]
    catch_up.answered(2, Chain((), None), 30)
    assert requests(catch_up, ROOT, 6, [1, 2], 40) == []
    assert not catch_up.is_nowhere(0, [1, 2], 2)
    later = LACKING_US + 50
    assert requests(catch_up, ROOT, 6, [1, 2], later) == [(1, 1), (2, 1)]
    for peer in (1, 2):
        catch_up.answered(peer, Chain((), None), later)
    assert catch_up.is_nowhere(0, [1, 2], 2)
    assert not catch_up.is_nowhere(0, [1, 2, 3], 2), "the third has not been asked"
    assert not catch_up.is_nowhere(1, [1, 2], 2), "that was about another block"


def test_peers_without_blocks_are_all_asked_for_the_one_that_is_needed_first() -> None:
    """Sync seed 40293: one of three was always asked for a later block; the first was never found to be nowhere."""
    catch_up = asked(3, 1_000)
    for now in (10, 10 * LACKING_US, 20 * LACKING_US):
        for peer, _ in requests(catch_up, ROOT, 1_000, [1, 2, 3], now) or [(1, 1), (2, 65), (3, 129)]:
            catch_up.answered(peer, Chain((), None), now)
    assert catch_up.is_nowhere(0, [1, 2, 3], 2)


def test_one_who_has_nothing_once_and_then_is_silent_keeps_nobody_waiting() -> None:
    """Sync seed 48 again, of 6 seconds: a liar said that it has nothing, and never answered after that."""
    catch_up = asked(2)
    catch_up.answered(1, Chain((), None), 10)
    now = 20
    for _ in range(3):
        found = requests(catch_up, ROOT, 6, [1, 2], now)
        if (2, 1) in found:
            catch_up.answered(2, Chain((), None), now + 10)
        now += TIMEOUT_US
    assert catch_up.peers[1].stalls
    assert catch_up.is_nowhere(0, [1, 2], 2)


def test_what_nobody_has_may_lie_above_blocks_that_wait_for_a_certificate() -> None:
    """Sync seed 48: the certificate was in blocks that everybody pruned meanwhile, and the node waited for ever."""
    catch_up = asked(1)
    catch_up.answered(1, chain(1, 1, None), 10)
    for now in (20, LACKING_US + 40):
        assert requests(catch_up, ROOT, 6, [1], now) == [(1, 2)]
        catch_up.answered(1, Chain((), None), now)
    assert catch_up.is_nowhere(0, [1], 2)


def test_one_word_of_having_pruned_the_blocks_is_enough() -> None:
    catch_up = asked(2)
    catch_up.answered(1, Chain((), None, lowest=500), 10)
    assert requests(catch_up, ROOT, 6, [1, 2], 20) == [(2, 1)]
    assert not catch_up.is_nowhere(0, [1, 2], 2)
    catch_up.answered(2, Chain((), None, lowest=2), 30)
    assert catch_up.is_nowhere(0, [1, 2], 2)
    assert requests(catch_up, ROOT, 6, [1, 2], LACKING_US + 50) == [], "they are not asked again and again"
    assert requests(catch_up, ROOT, 6, [1, 2], 10 * LACKING_US) == [(1, 1), (2, 1)], "but now and then"


def test_who_trickles_is_asked_last() -> None:
    catch_up = asked(2, 512)
    catch_up.answered(1, chain(1, 1, 1, LONG), 100)
    catch_up.answered(2, chain(65, 128, 128, LONG), 1_000)
    assert requests(catch_up, LONG[0][0], 512, [1, 2], 1_100) == [(2, 2), (1, 129)]


def test_not_more_is_asked_for_than_may_wait() -> None:
    catch_up = asked(6, 10_000)
    assert requests(catch_up, ROOT, 10_000, list(range(1, 20)), 10) == [], "six answers may be as large as messages are"
    for peer in range(2, 7):
        catch_up.answered(peer, chain(64 * peer - 63, 64 * peer, 64 * peer, LONG), 100)
    while found := requests(catch_up, ROOT, 10_000, list(range(2, 20)), 200):
        for peer, first in found:
            catch_up.answered(peer, chain(first, first + 63, first + 63, LONG), 200)
    assert catch_up.buffered_bytes <= BUFFER_BYTES_MAX
    catch_up.answered(1, chain(1, 64, 64, LONG), 300)
    tip, count = ROOT, 0
    while (proven := catch_up.proven(tip)) is not None:
        tip, count = proven.blocks[-1].header, count + len(proven.blocks)
    assert count == AHEAD_BLOCKS_MAX


def test_what_nobody_asked_for_and_what_comes_twice_is_of_no_use_and_no_lie() -> None:
    catch_up = asked()
    catch_up.answered(1, chain(2, 4, 4), 10)
    catch_up.answered(3, chain(1, 4, 4), 10)
    assert heights(catch_up) == []
    catch_up.answered(1, chain(1, 2, 2), 20)
    assert heights(catch_up) == [1, 2]
    catch_up.answered(1, chain(1, 2, 2), 30)
    assert requests(catch_up, BLOCKS[1][0], 6, [1], 40) == [(1, 3)]
    assert heights(catch_up, BLOCKS[1][0]) == []
    assert catch_up.blamed == []


def lie(answer: Chain) -> str:
    """What the peer that gives this answer to the request for blocks from 1 on is barred for."""
    catch_up = asked()
    catch_up.answered(1, answer, 10)
    assert catch_up.proven(ROOT) is None and catch_up.buffered_bytes == 0
    [(peer, detail)] = catch_up.blamed
    assert peer == 1 and catch_up.peers[1].score == 0
    assert requests(catch_up, ROOT, 6, [1, 2], 10**9) == [(2, 1)], "it is not asked again"
    return detail


def test_blocks_that_do_not_link_are_a_lie() -> None:
    blocks = [wire for _, wire in BLOCKS]
    assert "does not follow" in lie(Chain((blocks[0], blocks[2]), None))
    assert "does not follow" in lie(Chain((blocks[0], blocks[0]), None))


def test_other_bundles_than_ordered_are_a_lie() -> None:
    first, second = BLOCKS[0][1], BLOCKS[1][1]
    assert "other bundles" in lie(Chain((ChainBlock(first.header, first.payload, second.bundles),), None))


def test_a_certificate_without_a_quorum_is_a_lie() -> None:
    blocks = tuple(wire for _, wire in BLOCKS[:2])
    assert "quorum" in lie(Chain(blocks, certify(BLOCKS[1][0], signers=(0, 1))))


def test_a_forged_certificate_is_a_lie() -> None:
    good = certify(BLOCKS[1][0])
    forged = Finalization(
        good.view, good.height, good.block, digest(b"other"), good.event_root, good.signers, good.signatures
    )
    assert "signature" in lie(Chain(tuple(wire for _, wire in BLOCKS[:2]), forged))


def other_chain(parent: Header, length: int) -> list[ChainBlock]:
    """Blocks that follow `parent` by hash, and that nobody certified."""
    wires = []
    for _ in range(length):
        payload = Payload(b"", (), ()).encode()
        parent = replace(
            parent, height=parent.height + 1, time_ms=parent.time_ms + 1, bundles=0, commands=0, parent=parent.digest,
            payload=digest(payload), validators=SET, next_validators=SET,
        )  # fmt: skip
        wires.append(ChainBlock(parent.encode(), payload, ()))
    return wires


def test_another_block_than_the_certified_one_is_a_lie() -> None:
    assert "is final" in lie(Chain(tuple(other_chain(ROOT, 2)), certify(BLOCKS[1][0])))


def test_invented_blocks_are_found_out_by_the_certified_ones_above() -> None:
    catch_up = asked(2, 128)
    catch_up.answered(1, Chain(tuple(other_chain(ROOT, 64)), None), 10)
    catch_up.answered(2, chain(65, 128, 128, LONG), 20)
    assert heights(catch_up) == []
    assert [peer for peer, _ in catch_up.blamed] == [1]
    assert requests(catch_up, ROOT, 128, [1, 2], 30) == [(2, 1)]
    catch_up.answered(2, chain(1, 64, 64, LONG), 40)
    assert len(heights(catch_up)) == 64
    assert len(heights(catch_up, LONG[63][0])) == 64, "what the honest peer sent before is still there"


def test_invented_blocks_above_proven_ones_are_found_out() -> None:
    catch_up = asked(2, 128)
    catch_up.answered(2, Chain(tuple(other_chain(LONG[63][0], 64)[1:]), None), 10)
    assert catch_up.blamed == [], "it was asked for blocks from 65 on: nothing to do with it"
    catch_up.answered(2, Chain(tuple(other_chain(replace(LONG[63][0], time_ms=5), 64)), None), 10)
    catch_up.answered(1, chain(1, 64, 64, LONG), 20)
    assert len(heights(catch_up)) == 64
    assert heights(catch_up, LONG[63][0]) == []
    assert [peer for peer, _ in catch_up.blamed] == [2]


def test_where_nothing_tells_who_lies_both_rest() -> None:
    catch_up = asked(2, 128)
    catch_up.answered(1, Chain(tuple(other_chain(ROOT, 64)), None), 10)
    catch_up.answered(2, chain(65, 128, None, LONG), 20)
    assert heights(catch_up) == [] and catch_up.blamed == []
    assert requests(catch_up, ROOT, 128, [1, 2, 3], 30) == [(3, 1)]


def test_endless_blocks_without_a_certificate_are_a_lie() -> None:
    catch_up = asked(1, 1_000)
    wires, now = [wire for _, wire in LONG], 0
    while not catch_up.blamed:
        [(peer, first)] = requests(catch_up, ROOT, 1_000, [1], now) if now else [(1, 1)]
        now += 1_000
        catch_up.answered(peer, Chain(tuple(wires[first - 1 : first + 63]), None), now)
        assert heights(catch_up) == []
    assert "without a certificate" in catch_up.blamed[0][1]
    assert now <= 1_000 * AHEAD_BLOCKS_MAX // 64


def test_a_certified_chain_beside_our_own_final_block_is_a_fork_and_stops_the_node() -> None:
    first = BLOCKS[0][0]
    own = replace(first, time_ms=first.time_ms + 1)

    def answered(answer: Chain) -> CatchUp:
        catch_up = CatchUp(validator_set(GENESIS))
        catch_up.tick(own, 6, [1], 0)
        catch_up.answered(1, answer, 10)
        assert catch_up.proven(own) is None
        return catch_up

    with pytest.raises(InvariantBroken, match="more than a third of the stake"):
        answered(chain(2, 4, 4))
    for false in (chain(2, 4, None), chain(2, 4, 6)):
        assert "does not follow" in answered(false).blamed[0][1]
    forged = certify(BLOCKS[3][0], (0, 1))
    assert "quorum" in answered(Chain(chain(2, 4, None).blocks, forged)).blamed[0][1]


def test_a_request_that_is_not_needed_any_more_makes_nobody_else_be_asked() -> None:
    catch_up = asked(2, 128)
    catch_up.answered(2, chain(65, 128, 128, LONG), 1_000)
    tip = LONG[63][0]  # the first 64 came another way; peer 1 is still asked for them
    assert requests(catch_up, tip, 200, [1, 2, 3], HEDGE_US) == [(3, 129), (2, 193)]
    assert requests(catch_up, tip, 200, [1, 2], 2 * HEDGE_US) == []
