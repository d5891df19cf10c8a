"""What full nodes say to each other to spread blocks and bundles: Plumtree's four messages.

A body is named by its BLAKE3 digest, so a push proves by itself that it is what was announced. Each validator that
publishes has a tree of its own; `tree` says which. It only steers: whose a body is, its content proves.
"""

from typing import Final

import msgspec

from lockstep.base.digest import DIGEST_BYTES
from lockstep.base.errors import Reason, Refused
from lockstep.base.limits import FRAME_BYTES_MAX, VALIDATORS_MAX
from lockstep.wire.codec import decode_canonical, encode

KEYS_PER_MESSAGE_MAX: Final = 64
BODY_BYTES_MAX: Final = FRAME_BYTES_MAX // 2


class Push(msgspec.Struct, frozen=True, array_like=True, tag=60, forbid_unknown_fields=True):
    """A body, sent along a link of the tree (eager) or to who asked for it."""

    tree: int
    body: bytes


class IHave(msgspec.Struct, frozen=True, array_like=True, tag=61, forbid_unknown_fields=True):
    """Digests of bodies that the sender holds, sent along the other links (lazy)."""

    tree: int
    keys: bytes


class Graft(msgspec.Struct, frozen=True, array_like=True, tag=62, forbid_unknown_fields=True):
    """Make this link part of the tree, and push these bodies, which were announced and didn't come."""

    tree: int
    keys: bytes


class Prune(msgspec.Struct, frozen=True, array_like=True, tag=63, forbid_unknown_fields=True):
    """Take this link out of the tree: what came along it was here already."""

    tree: int


GossipMessage = Push | IHave | Graft | Prune
_decoder = msgspec.msgpack.Decoder(GossipMessage)


def encode_gossip(message: GossipMessage) -> bytes:
    """Canonical bytes."""
    return encode(message)


def decode_gossip(raw: bytes) -> GossipMessage:
    """Decode and bound; raises `Refused`."""
    if len(raw) > FRAME_BYTES_MAX:
        raise Refused(Reason.OVERSIZE, f"a message has at most {FRAME_BYTES_MAX} bytes")
    message: GossipMessage = decode_canonical(_decoder, raw, "gossip")
    check_gossip(message)
    return message


def check_gossip(message: GossipMessage) -> None:
    """Bound every field; raises `Refused`."""
    if not 0 <= message.tree < VALIDATORS_MAX:
        raise Refused(Reason.MALFORMED, f"there is no tree {message.tree}")
    match message:
        case Push():
            if len(message.body) > BODY_BYTES_MAX:
                raise Refused(
                    Reason.OVERSIZE, f"a body has at most {BODY_BYTES_MAX} bytes, this has {len(message.body)}"
                )
        case IHave() | Graft():
            _check_keys(message.keys)


def split_keys(raw: bytes) -> list[bytes]:
    """Concatenated digests, one by one."""
    return [raw[i : i + DIGEST_BYTES] for i in range(0, len(raw), DIGEST_BYTES)]


def _check_keys(keys: bytes) -> None:
    if len(keys) % DIGEST_BYTES or len(keys) > KEYS_PER_MESSAGE_MAX * DIGEST_BYTES:
        raise Refused(Reason.MALFORMED, f"{len(keys)} bytes of digests: at most {KEYS_PER_MESSAGE_MAX} of 32 bytes")
