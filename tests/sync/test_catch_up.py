"""Replaying from peers: what is taken, what waits, and which lies are named."""

from dataclasses import replace

import numpy as np
import pytest

from lockstep.base.digest import digest
from lockstep.base.errors import InvariantBroken, Reason, Refused
from lockstep.sync.catch_up import BUFFER_BLOCKS_MAX, TIMEOUT_US, CatchUp
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
ROOT = genesis_header(CHAIN, GENESIS.time_ms)


def make_chain(length: int) -> list[tuple[Header, ChainBlock]]:
    blocks: list[tuple[Header, ChainBlock]] = []
    parent = ROOT
    for height in range(1, length + 1):
        bundle = seal_bundle(trader_key(0), CHAIN, 0, height - 1, 100, np.zeros(1, COMMAND))
        payload = Payload(bundle.digest, (), ()).encode()
        header = Header(
            CHAIN, height, height, height - 1, ROOT.time_ms, height % 4, 1, 1, parent.digest, digest(payload)
        )
        blocks.append((header, ChainBlock(header.encode(), payload, (bundle.raw,))))
        parent = header
    return blocks


BLOCKS = make_chain(6)


def certify(header: Header, signers: tuple[int, ...] = (0, 1, 2)) -> Finalization:
    roots = digest(b"state"), digest(b"events")
    votes = [
        sign_finalize(validator_key(i), CHAIN, i, header.view, header.height, header.digest, *roots) for i in signers
    ]
    return finalization(votes, 4)


def chain(first: int, last: int, certified: int | None) -> Chain:
    cert = certify(BLOCKS[certified - 1][0]) if certified else None
    return Chain(tuple(wire for _, wire in BLOCKS[first - 1 : last]), cert)


def asked(peer: int = 1) -> CatchUp:
    catch_up = CatchUp(validator_set(GENESIS))
    request = catch_up.request(ROOT, peer, 0)
    assert request is not None and request.from_height == 1
    return catch_up


def test_certified_blocks_are_proven() -> None:
    proven = asked().take(1, chain(1, 4, 4), ROOT)
    assert proven is not None
    assert [block.header.height for block in proven.blocks] == [1, 2, 3, 4]


def test_blocks_beyond_the_certificate_wait_for_the_next_answer() -> None:
    catch_up = asked()
    proven = catch_up.take(1, chain(1, 4, 3), ROOT)
    assert proven is not None and len(proven.blocks) == 3
    tip = proven.blocks[-1].header
    request = catch_up.request(tip, 2, 10)
    assert request is not None and request.from_height == 4, "another base: what was buffered is asked for again"
    again = catch_up.take(2, chain(4, 6, 6), tip)
    assert again is not None and [block.header.height for block in again.blocks] == [4, 5, 6]


def test_uncertified_blocks_are_kept_and_asked_beyond() -> None:
    catch_up = asked()
    assert catch_up.take(1, chain(1, 3, None), ROOT) is None
    request = catch_up.request(ROOT, 1, 10)
    assert request is not None and request.from_height == 4
    proven = catch_up.take(1, chain(4, 5, 5), ROOT)
    assert proven is not None and len(proven.blocks) == 5


def test_one_request_at_a_time_and_a_silent_peer_is_passed_over() -> None:
    catch_up = asked(peer=1)
    assert catch_up.request(ROOT, 2, TIMEOUT_US - 1) is None
    attempt = catch_up.attempt
    assert catch_up.request(ROOT, 2, TIMEOUT_US) is not None
    assert catch_up.attempt == attempt + 1
    assert catch_up.take(1, chain(1, 4, 4), ROOT) is None, "too late: somebody else was asked"


def test_an_answer_for_a_tip_that_moved_is_dropped_without_blame() -> None:
    catch_up = asked()
    assert catch_up.take(1, chain(1, 4, 4), BLOCKS[1][0]) is None


def test_an_empty_answer_moves_on_to_another_peer() -> None:
    catch_up = asked()
    attempt = catch_up.attempt
    assert catch_up.take(1, Chain((), None), ROOT) is None
    assert catch_up.attempt == attempt + 1


def refusal(answer: Chain) -> Refused:
    catch_up = asked()
    with pytest.raises(Refused) as caught:
        catch_up.take(1, answer, ROOT)
    assert catch_up.buffer == []
    return caught.value


def test_blocks_that_do_not_link_are_a_lie() -> None:
    assert refusal(chain(2, 4, 4)).reason is Reason.WRONG_PARENT


def test_other_bundles_than_ordered_are_a_lie() -> None:
    first, second = BLOCKS[0][1], BLOCKS[1][1]
    swapped = ChainBlock(first.header, first.payload, second.bundles)
    assert refusal(Chain((swapped,), None)).reason is Reason.MISSING_BUNDLE


def test_a_certificate_without_a_quorum_is_a_lie() -> None:
    blocks = tuple(wire for _, wire in BLOCKS[:2])
    assert refusal(Chain(blocks, certify(BLOCKS[1][0], signers=(0, 1)))).reason is Reason.BAD_CERTIFICATE


def test_a_forged_certificate_is_a_lie() -> None:
    good = certify(BLOCKS[1][0])
    forged = Finalization(
        good.view, good.height, good.block, digest(b"other"), good.event_root, good.signers, good.signatures
    )
    blocks = tuple(wire for _, wire in BLOCKS[:2])
    assert refusal(Chain(blocks, forged)).reason is Reason.BAD_CERTIFICATE


def test_endless_blocks_without_a_certificate_are_refused() -> None:
    catch_up = asked()
    long = make_chain(BUFFER_BLOCKS_MAX + 1)
    wires = [wire for _, wire in long]
    with pytest.raises(Refused, match="without a certificate"):
        for start in range(0, len(wires), 64):
            catch_up.request(ROOT, 1, TIMEOUT_US * (start + 1))
            catch_up.take(1, Chain(tuple(wires[start : start + 64]), None), ROOT)


def test_a_certified_chain_beside_our_own_final_block_is_a_fork_and_stops_the_node() -> None:
    first = BLOCKS[0][0]
    own = replace(first, time_ms=first.time_ms + 1)

    def answered(answer: Chain) -> None:
        catch_up = CatchUp(validator_set(GENESIS))
        catch_up.request(own, 1, 0)
        catch_up.take(1, answer, own)

    with pytest.raises(InvariantBroken, match="more than a third of the stake"):
        answered(chain(2, 4, 4))
    for lie in (chain(2, 4, None), chain(2, 4, 6), chain(3, 4, 4)):
        with pytest.raises(Refused, match="does not follow"):
            answered(lie)
    forged = certify(BLOCKS[3][0], (0, 1))
    with pytest.raises(Refused, match="quorum"):
        answered(Chain(chain(2, 4, None).blocks, forged))
