"""What decoding a message refuses: fields that no state machine is to see."""

import msgspec
import pytest

from lockstep.base.errors import Reason, Refused
from lockstep.wire.block import HEADER_BYTES
from lockstep.wire.certificate import Finalization, Notarization, Nullification
from lockstep.wire.message import PeerMessage, Ping, Pong, Proposal, decode_message, encode_message
from lockstep.wire.vote import Finalize, Notarize, Nullify

BLOCK, SIGNATURE, BEYOND = bytes(32), bytes(64), 1 << 63
GOOD: list[PeerMessage] = [
    Notarize(1, BLOCK, 0, SIGNATURE),
    Nullify(1, 0, SIGNATURE),
    Finalize(1, 1, BLOCK, BLOCK, BLOCK, 0, SIGNATURE),
    Notarization(1, BLOCK, b"\x01", SIGNATURE),
    Nullification(1, b"\x01", SIGNATURE),
    Finalization(1, 1, BLOCK, BLOCK, BLOCK, b"\x01", SIGNATURE),
    Proposal(bytes(HEADER_BYTES), b"", SIGNATURE, 1, 0),
    Ping(1, 1, 1),
    Pong(1),
]
BAD: dict[str, object] = {
    "view": BEYOND, "height": BEYOND, "signer": BEYOND, "time_us": BEYOND, "parent_view": BEYOND,
    "final_height": BEYOND,
    "block": bytes(31), "state_root": bytes(31), "event_root": bytes(31), "header": bytes(31),
}  # fmt: skip


@pytest.mark.parametrize("message", GOOD, ids=lambda message: type(message).__name__)
def test_a_field_out_of_bounds_is_refused(message: PeerMessage) -> None:
    assert decode_message(encode_message(message)) == message
    bad = BAD | ({"signature": bytes(63)} if "signature" in message.__struct_fields__ else {})
    for name in message.__struct_fields__:
        if name in bad:
            with pytest.raises(Refused) as refused:
                decode_message(encode_message(msgspec.structs.replace(message, **{name: bad[name]})))
            assert refused.value.reason is Reason.MALFORMED, name
