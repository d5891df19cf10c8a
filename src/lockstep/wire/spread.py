"""What is spread among nodes that don't vote: bundles, and final blocks without theirs.

A body begins with its kind:

    a bundle        as it is; its first byte is 1, its version
    a final block   2 | header | canonical MessagePack of payload and finalization

A body is named by the digest of what it is about, so that a block has one name whatever quorum signed it: a bundle by
its own digest, a block by its header's.
"""

from typing import Final

import msgspec

from lockstep.base.digest import digest
from lockstep.base.errors import Reason, Refused
from lockstep.wire.block import HEADER_BYTES, Block, decode_block
from lockstep.wire.bundle import BUNDLE_VERSION
from lockstep.wire.certificate import Finalization, check_certificate
from lockstep.wire.codec import decode_canonical, encode

_BUNDLE: Final = BUNDLE_VERSION
_BLOCK: Final = 2


class _Proven(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    payload: bytes
    finalization: Finalization


_decoder = msgspec.msgpack.Decoder(_Proven)


def is_bundle(body: bytes) -> bool:
    """Whether this body claims to be a bundle."""
    return body[:1] == bytes((_BUNDLE,))


def body_name(body: bytes) -> bytes:
    """What a body is known by. A body that is neither kind is named by its own bytes, and refused when decoded."""
    if body[:1] == bytes((_BLOCK,)):
        return digest(body[1 : 1 + HEADER_BYTES])
    return digest(body)


def block_body(block: Block, finalization: Finalization) -> bytes:
    """The body of a final block and its certificate."""
    return bytes((_BLOCK,)) + block.header.encode() + encode(_Proven(block.payload.encode(), finalization))


def decode_block_body(body: bytes) -> tuple[Block, Finalization]:
    """A block and the finalization of that very block, whose signatures are not checked yet; raises `Refused`."""
    if body[:1] != bytes((_BLOCK,)):
        raise Refused(Reason.MALFORMED, "a body is neither a bundle nor a block")
    proven = decode_canonical(_decoder, body[1 + HEADER_BYTES :], "body")
    block = decode_block(body[1 : 1 + HEADER_BYTES], proven.payload)
    certificate = proven.finalization
    check_certificate(certificate)
    if (certificate.block, certificate.height) != (block.header.digest, block.header.height):
        raise Refused(Reason.BAD_CERTIFICATE, "the certificate is about another block than the one it came with")
    return block, certificate
