"""Decoding what was encoded gives it back, for everything that travels."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.base.digest import digest
from lockstep.base.errors import Reason, Refused
from lockstep.wire.block import Block, Header, Payload, decode_block, decode_header, decode_payload, genesis_header
from lockstep.wire.bundle import HEADER, OVERHEAD_BYTES, Bundle, seal_bundle
from lockstep.wire.client import (
    ClientReply,
    ClientRequest,
    decode_reply,
    decode_request,
    encode_client,
    seal_price_report,
    verify_price_report,
)
from lockstep.wire.command import COMMAND
from lockstep.wire.message import PeerMessage, decode_message, encode_message
from lockstep.wire.observation import Observation, seal_observation
from tests.support.consensus_keys import real_keys, validators_of
from tests.support.wire_strategies import HEADER as HEADERS
from tests.support.wire_strategies import MESSAGE, PAYLOAD, PRICES, REPLY, REQUEST

KEYS = real_keys(4)
CHAIN = bytes(range(32))


@given(MESSAGE)
def test_peer_messages(message: PeerMessage) -> None:
    assert decode_message(encode_message(message)) == message


@given(REQUEST)
def test_client_requests(request: ClientRequest) -> None:
    assert decode_request(encode_client(request)) == request


@given(REPLY)
def test_client_replies(reply: ClientReply) -> None:
    assert decode_reply(encode_client(reply)) == reply


@given(HEADERS)
def test_headers(header: Header) -> None:
    raw = header.encode()
    assert len(raw) == 204
    assert decode_header(raw) == header
    assert decode_header(raw).digest == digest(raw)


@given(HEADERS, PAYLOAD)
def test_payloads_and_blocks(header: Header, payload: Payload) -> None:
    raw = payload.encode()
    assert decode_payload(raw) == payload
    count = len(payload.bundles) // 32
    assert b"".join(payload.bundle_digests()) == payload.bundles
    fitting = Header(
        header.chain_id, header.height, header.view, header.parent_view, header.time_ms, header.proposer, count,
        header.commands, header.parent, digest(raw),
    )  # fmt: skip
    assert decode_block(fitting.encode(), raw) == Block(fitting, payload)
    with pytest.raises(Refused, match="not the one that the header names"):
        decode_block(genesis_header(CHAIN, 0).encode(), raw)


def test_a_block_whose_header_miscounts_its_bundles_is_refused() -> None:
    raw = Payload(bytes(64), (), ()).encode()
    header = Header(CHAIN, 1, 1, 0, 0, 0, 1, 0, bytes(32), digest(raw))
    with pytest.raises(Refused, match="number of bundles"):
        decode_block(header.encode(), raw)


@given(
    count=st.integers(1, 20), account=st.integers(0, 2**32 - 1), sequence=st.integers(0, 2**64 - 1),
    valid_until=st.integers(0, 2**64 - 1), body=st.data(),
)  # fmt: skip
def test_bundles(count: int, account: int, sequence: int, valid_until: int, body: st.DataObject) -> None:
    raw_commands = body.draw(st.binary(min_size=40 * count, max_size=40 * count))
    commands = np.frombuffer(raw_commands, COMMAND)
    sealed = seal_bundle(KEYS[0], CHAIN, account, sequence, valid_until, commands)
    bundle = Bundle(sealed.raw)
    assert (bundle.account, bundle.sequence, bundle.valid_until) == (account, sequence, valid_until)
    assert (bundle.chain_id, bundle.count, bundle.digest) == (CHAIN, count, digest(sealed.raw))
    assert bundle.commands.tobytes() == raw_commands
    assert HEADER.pack(1, count, account, sequence, valid_until, CHAIN) + raw_commands == bundle.raw[:-64]
    assert bundle.signed_by(KEYS[0].public)
    assert not bundle.signed_by(KEYS[1].public)
    place = body.draw(st.integers(0, len(bundle.raw) - 65))
    changed = bytearray(bundle.raw)
    changed[place] ^= 1 << body.draw(st.integers(0, 7))
    try:
        assert not Bundle(bytes(changed)).signed_by(KEYS[0].public)
    except Refused:
        assert place < 4, "only version and count have wrong values"


@pytest.mark.parametrize(
    "raw, reason",
    [
        (bytes(OVERHEAD_BYTES - 1), Reason.TRUNCATED),
        (struct.pack("<HH", 2, 1).ljust(OVERHEAD_BYTES + 40, b"\0"), Reason.MALFORMED),
        (struct.pack("<HH", 1, 0).ljust(OVERHEAD_BYTES, b"\0"), Reason.MALFORMED),
        (struct.pack("<HH", 1, 1025).ljust(OVERHEAD_BYTES, b"\0"), Reason.OVERSIZE),
        (struct.pack("<HH", 1, 2).ljust(OVERHEAD_BYTES + 40, b"\0"), Reason.TRUNCATED),
        (struct.pack("<HH", 1, 1).ljust(OVERHEAD_BYTES + 80, b"\0"), Reason.NON_CANONICAL),
        (bytes(1 << 20), Reason.OVERSIZE),
    ],
)
def test_bundles_of_a_wrong_shape_are_refused_with_a_reason(raw: bytes, reason: Reason) -> None:
    with pytest.raises(Refused) as refused:
        Bundle(raw)
    assert refused.value.reason is reason


@given(validator=st.integers(0, 3), time_ms=st.integers(0, 2**63 - 1), prices=PRICES)
def test_observations_and_price_reports(validator: int, time_ms: int, prices: tuple[int, ...]) -> None:
    validators = validators_of(KEYS)
    sealed = seal_observation(KEYS[validator], validators.chain_id, validator, time_ms, prices)
    observation = Observation(sealed.raw)
    assert (observation.validator, observation.time_ms, observation.prices) == (validator, time_ms, prices)
    assert observation.signed_by(validators)
    report = seal_price_report(KEYS[0], CHAIN, time_ms, prices)
    assert verify_price_report(report, KEYS[0].public, CHAIN)
    assert not verify_price_report(report, KEYS[0].public, bytes(32))
    assert not verify_price_report(report, KEYS[1].public, CHAIN)
