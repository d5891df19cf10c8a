"""What a replica writes to its log. One record is a kind byte and a canonical encoding.

- VOTE: an own vote. It is durable before it leaves.
- BLOCK: a block with its bundles. Durable before the notarize vote on it leaves (they go in one write).
- CERTIFICATE: a certificate that was seen. Nobody waits for it; it saves asking peers after a restart.
- EVIDENCE: somebody's equivocation.
- MUTE: up to which view nothing is signed, for own votes of before may be missing here (`rejoin`). The newest counts.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import msgspec

from lockstep.base.errors import StorageFailed
from lockstep.wire.block import HEADER_BYTES, Block, decode_block
from lockstep.wire.bundle import Bundle
from lockstep.wire.certificate import Certificate, Finalization, Notarization, Nullification
from lockstep.wire.codec import encode
from lockstep.wire.evidence import Evidence
from lockstep.wire.message import ChainBlock
from lockstep.wire.vote import Finalize, Notarize, Nullify, Vote


class RecordKind(IntEnum):
    """The kind byte."""

    VOTE = 1
    BLOCK = 2
    CERTIFICATE = 3
    EVIDENCE = 4
    MUTE = 5


class Mute(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Nothing is signed in views up to this one."""

    view: int


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """A block with the bundles that it orders, in order."""

    block: Block
    bundles: tuple[Bundle, ...]

    def to_wire(self) -> ChainBlock:
        """As it travels in a `Chain` message."""
        return ChainBlock(
            self.block.header.encode(), self.block.payload.encode(), tuple(bundle.raw for bundle in self.bundles)
        )


Record = Vote | StoredBlock | Certificate | Evidence | Mute

_votes = msgspec.msgpack.Decoder(Vote)
_certificates = msgspec.msgpack.Decoder(Certificate)
_blocks = msgspec.msgpack.Decoder(ChainBlock)
_evidence = msgspec.msgpack.Decoder(Evidence)
_mutes = msgspec.msgpack.Decoder(Mute)


_KIND_BYTES: Final[dict[type[Record], bytes]] = {
    Notarize: bytes((RecordKind.VOTE,)),
    Nullify: bytes((RecordKind.VOTE,)),
    Finalize: bytes((RecordKind.VOTE,)),
    StoredBlock: bytes((RecordKind.BLOCK,)),
    Notarization: bytes((RecordKind.CERTIFICATE,)),
    Nullification: bytes((RecordKind.CERTIFICATE,)),
    Finalization: bytes((RecordKind.CERTIFICATE,)),
    Evidence: bytes((RecordKind.EVIDENCE,)),
    Mute: bytes((RecordKind.MUTE,)),
}


def encode_record(record: Record) -> bytes:
    """Kind byte and canonical encoding."""
    kind = _KIND_BYTES[record.__class__]
    return kind + encode(record.to_wire() if isinstance(record, StoredBlock) else record)


def stored_block(chain_block: ChainBlock) -> StoredBlock:
    """Decode the parts of a `ChainBlock`; raises `Refused` when they don't belong together or don't parse."""
    block = decode_block(chain_block.header, chain_block.payload)
    return StoredBlock(block, tuple(Bundle(raw) for raw in chain_block.bundles))


_BLOCK_BEGIN: Final = bytes((RecordKind.BLOCK, 0x93)) + encode(bytes(HEADER_BYTES))[:-HEADER_BYTES]
BLOCK_BEGIN_BYTES: Final = len(_BLOCK_BEGIN) + HEADER_BYTES
"""So many bytes of a BLOCK record hold the header."""


def block_header(begin: bytes) -> bytes:
    """The header in the first bytes of a BLOCK record. Not checked against anything but the record's form."""
    if len(begin) != BLOCK_BEGIN_BYTES or not begin.startswith(_BLOCK_BEGIN):
        raise StorageFailed("the log has something else where the index says that a block is")
    return begin[len(_BLOCK_BEGIN) :]


def decode_record(raw: bytes) -> Record:
    """Decode what this node itself wrote; anything unreadable is a storage failure, not a peer's error."""
    try:
        match raw[0]:
            case RecordKind.VOTE:
                vote: Vote = _votes.decode(raw[1:])
                return vote
            case RecordKind.BLOCK:
                return stored_block(_blocks.decode(raw[1:]))
            case RecordKind.CERTIFICATE:
                certificate: Certificate = _certificates.decode(raw[1:])
                return certificate
            case RecordKind.EVIDENCE:
                return _evidence.decode(raw[1:])
            case RecordKind.MUTE:
                return _mutes.decode(raw[1:])
            case kind:
                raise StorageFailed(f"the log holds a record of unknown kind {kind}")
    except (msgspec.DecodeError, IndexError) as error:
        raise StorageFailed(f"the log holds a record that cannot be decoded: {error}") from error
