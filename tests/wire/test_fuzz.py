"""Decoders against what peers and clients may send: only `Refused` comes out, and what is accepted is canonical.

Each of the nine decoders (votes and certificates are messages) gets 4,000 seeded mutations of valid inputs (flipped,
cut, stretched, and numbers written in another MessagePack form), 2,000 seeded random byte strings, and 100 from
Hypothesis: 54,900 inputs.
"""

import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from lockstep.base.errors import Reason, Refused
from lockstep.wire.block import HEADER_BYTES, decode_block, decode_header, decode_payload
from lockstep.wire.bundle import Bundle, seal_bundle
from lockstep.wire.client import decode_reply, decode_request, encode_client
from lockstep.wire.codec import encode
from lockstep.wire.command import COMMAND
from lockstep.wire.evidence import decode_evidence, make_evidence
from lockstep.wire.message import decode_message, encode_message
from lockstep.wire.observation import Observation, seal_observation
from lockstep.wire.vote import Nullify, sign_notarize
from tests.support.consensus_keys import CHAIN, real_keys, validators_of
from tests.support.wire_strategies import HEADER, MESSAGE, PAYLOAD, REPLY, REQUEST
from tests.vectors.make import vectors

MUTATIONS = 4_000
RANDOM_INPUTS = 2_000
KEYS = real_keys(4)
VALIDATORS = validators_of(KEYS)
EVIDENCE = make_evidence(*(sign_notarize(KEYS[1], CHAIN, 1, 5, bytes([i]) * 32) for i in range(2))).encode()
BUNDLE = seal_bundle(KEYS[0], CHAIN, 1, 2, 3, np.zeros(3, COMMAND)).raw
OBSERVATION = seal_observation(KEYS[0], CHAIN, 0, 5, (1, 2, 3)).raw


def canonical(decoded: bytes, raw: bytes) -> None:
    assert decoded == raw, "accepted, but not as its one encoding"


def split_block(raw: bytes) -> None:
    block = decode_block(raw[:HEADER_BYTES], raw[HEADER_BYTES:])
    canonical(block.header.encode() + block.payload.encode(), raw)


DECODERS: dict[str, Callable[[bytes], None]] = {
    "bundle": lambda raw: canonical(Bundle(raw).raw, raw),
    "header": lambda raw: canonical(decode_header(raw).encode(), raw),
    "payload": lambda raw: canonical(decode_payload(raw).encode(), raw),
    "block": split_block,
    "message": lambda raw: canonical(encode_message(decode_message(raw)), raw),
    "request": lambda raw: canonical(encode_client(decode_request(raw)), raw),
    "reply": lambda raw: canonical(encode_client(decode_reply(raw)), raw),
    "evidence": lambda raw: canonical(decode_evidence(raw, VALIDATORS).encode(), raw),
    "observation": lambda raw: canonical(Observation(raw).raw, raw),
}
SAMPLES: dict[str, SearchStrategy[bytes]] = {
    "bundle": st.just(BUNDLE),
    "header": HEADER.map(lambda header: header.encode()),
    "payload": PAYLOAD.map(lambda payload: payload.encode()),
    "block": st.just(b"".join(bytes.fromhex(vectors()[name]) for name in ("header", "payload"))),
    "message": MESSAGE.map(encode_message),
    "request": REQUEST.map(encode_client),
    "reply": REPLY.map(encode_client),
    "evidence": st.just(EVIDENCE),
    "observation": st.just(OBSERVATION),
}


def mutate(raw: bytes, chance: random.Random) -> bytes:
    """One to three small changes."""
    data = bytearray(raw)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0 if place < len(data):
                data[place] ^= 1 << chance.randrange(8)
            case 1:
                del data[place:]
            case 2:
                data[place:place] = chance.randbytes(chance.randint(1, 9))
            case 3 if place < len(data) and data[place] < 0x80:
                data[place : place + 1] = b"\xcc" + data[place : place + 1]  # a small integer, written longer
            case 4:
                data[place : place + chance.randint(1, 9)] = b""
            case _:
                data[place : place + 1] = bytes([chance.choice((0x00, 0x7F, 0x80, 0x90, 0xC0, 0xC1, 0xCF, 0xDD, 0xFF))])
    return bytes(data)


def feed(name: str, raw: bytes) -> bool:
    """Whether the decoder accepted it; anything but `Refused` fails the test."""
    try:
        DECODERS[name](raw)
    except Refused:
        return False
    return True


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_mutated_inputs_are_refused_or_canonical(name: str) -> None:
    chance = random.Random(name)
    pool: list[bytes] = []

    @settings(max_examples=50, database=None, derandomize=True)
    @given(SAMPLES[name])
    def collect(raw: bytes) -> None:
        assert feed(name, raw), "a sample must be valid"
        pool.append(raw)

    collect()
    refused = sum(not feed(name, mutate(chance.choice(pool), chance)) for _ in range(MUTATIONS))
    assert refused > MUTATIONS // 10, "mutations that are never refused test nothing"


def test_a_number_written_in_a_longer_form_is_refused_as_not_canonical() -> None:
    for number in (b"\xcc\x05", b"\xcd\x00\x05", b"\xcf" + bytes(7) + b"\x05", b"\xd0\x05"):
        short = encode_message(Nullify(5, 1, bytes(64)))
        with pytest.raises(Refused) as refused:
            decode_message(short.replace(b"\x05", number, 1))
        assert refused.value.reason is Reason.NON_CANONICAL


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_random_bytes_are_refused_or_canonical(name: str) -> None:
    chance = random.Random(name)
    for _ in range(RANDOM_INPUTS):
        feed(name, chance.randbytes(chance.randint(0, 400)))


@pytest.mark.parametrize("name", sorted(DECODERS))
@settings(max_examples=100)
@given(raw=st.binary(max_size=400))
def test_bytes_from_hypothesis_are_refused_or_canonical(name: str, raw: bytes) -> None:
    feed(name, raw)


@pytest.mark.parametrize(
    "raw",
    [b"", b"\x91" * 100_000, b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x80", encode([1, 2]), bytes(1 << 24)],
    ids=["empty", "deep", "long array", "long binary", "map", "wrong tag", "sixteen mebibytes"],
)
def test_hostile_shapes_are_refused(raw: bytes) -> None:
    for name in DECODERS:
        assert not feed(name, raw), name
