"""Bodies that are spread: named by what they are about, and refused when they are not what they claim."""

import pytest

from lockstep.base.digest import digest
from lockstep.base.errors import Reason, Refused
from lockstep.wire.block import Block, Header, Payload
from lockstep.wire.certificate import Finalization, finalization
from lockstep.wire.codec import encode
from lockstep.wire.message import decode_message, encode_message
from lockstep.wire.observer import ADDRESS_BYTES_MAX, ADDRESSES_MAX, Addresses, HelloObserver, Turned
from lockstep.wire.spread import block_body, body_name, decode_block_body, is_bundle
from lockstep.wire.vote import sign_finalize
from tests.support.consensus_keys import real_keys

CHAIN = bytes(32)
KEYS = real_keys(4)
PAYLOAD = Payload(digest(b"a bundle"), (), ())
HEADER = Header(CHAIN, 4, 5, 3, 1_700_000_000_456, 1, 1, 2, digest(b"parent"), digest(PAYLOAD.encode()))
BLOCK = Block(HEADER, PAYLOAD)


def certificate(signers: range, block: bytes = HEADER.digest, height: int = 4) -> Finalization:
    votes = [sign_finalize(KEYS[i], CHAIN, i, 5, height, block, bytes(32), bytes(32)) for i in signers]
    return finalization(votes, 4)


def test_a_block_comes_back_with_its_certificate() -> None:
    body = block_body(BLOCK, certificate(range(3)))
    assert not is_bundle(body)
    assert decode_block_body(body) == (BLOCK, certificate(range(3)))


def test_a_block_has_one_name_whatever_quorum_signed_it() -> None:
    names = [body_name(block_body(BLOCK, certificate(signers))) for signers in (range(3), range(1, 4))]
    assert names == [HEADER.digest] * 2


def test_a_certificate_about_something_else_is_refused() -> None:
    for wrong in (certificate(range(3), digest(b"another")), certificate(range(3), height=5)):
        with pytest.raises(Refused) as refused:
            decode_block_body(block_body(BLOCK, wrong))
        assert refused.value.reason is Reason.BAD_CERTIFICATE


@pytest.mark.parametrize("body", [b"", b"\x02", b"\x03" + bytes(300), b"\x02" + HEADER.encode() + b"\x90"])
def test_what_is_no_body_is_refused(body: bytes) -> None:
    assert body_name(body)
    with pytest.raises(Refused):
        decode_block_body(body)


def test_a_payload_that_is_not_the_headers_is_refused() -> None:
    other = Payload(digest(b"another bundle"), (), ())
    with pytest.raises(Refused, match="payload is not the one"):
        decode_block_body(block_body(Block(HEADER, other), certificate(range(3))))


@pytest.mark.parametrize(
    "message",
    [
        HelloObserver(1, bytes(31), ""),
        HelloObserver(1, bytes(32), "x" * (ADDRESS_BYTES_MAX + 1)),
        Turned("x", "é" * 300),
        Addresses(("a:1",) * (ADDRESSES_MAX + 1)),
        Addresses(("x" * (ADDRESS_BYTES_MAX + 1),)),
    ],
)
def test_greetings_are_bounded(message: HelloObserver | Turned | Addresses) -> None:
    with pytest.raises(Refused):
        decode_message(encode(message))
    assert encode_message(message)
