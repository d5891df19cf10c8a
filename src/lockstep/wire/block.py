"""A block: a fixed-width header and a payload of bundle digests, observations, evidence and a change of validators.

Header (204 bytes, little-endian):

    chain id 32 | height u64 | view u64 | parent view u64 | time_ms i64 | proposer u32 | bundles u32 | commands u32 |
    parent digest 32 | payload digest 32 | validators 32 | next validators 32

`validators` is the hash of the set that decides this block, `next validators` of the one that decides its child: they
differ in the last block of an epoch.

The block's digest is the BLAKE3 of its header. The payload is canonical MessagePack and bound by its digest, so
a light client needs only headers. State and event roots are not in the header: they are in the finalise votes
over the block (final means the same state).
"""

import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import msgspec

from lockstep.base.digest import DIGEST_BYTES, ZERO_DIGEST, digest
from lockstep.base.errors import Reason, Refused
from lockstep.base.limits import BLOCK_BUNDLES_MAX, BLOCK_COMMANDS_MAX, SET_CHANGE_BYTES_MAX, VALIDATORS_MAX
from lockstep.wire.codec import decode_canonical, encode

_HEADER: Final = struct.Struct("<32sQQQqIII32s32s32s32s")
HEADER_BYTES: Final = _HEADER.size
EVIDENCE_PER_BLOCK_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Header:
    """A block's header. `digest` names the block."""

    chain_id: bytes
    height: int
    view: int
    parent_view: int
    time_ms: int
    proposer: int
    bundles: int
    commands: int
    parent: bytes
    payload: bytes
    validators: bytes = ZERO_DIGEST
    next_validators: bytes = ZERO_DIGEST
    digest: bytes = field(init=False, compare=False)
    _raw: bytes = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        raw = _HEADER.pack(
            self.chain_id, self.height, self.view, self.parent_view, self.time_ms, self.proposer,
            self.bundles, self.commands, self.parent, self.payload, self.validators, self.next_validators,
        )  # fmt: skip
        object.__setattr__(self, "_raw", raw)
        object.__setattr__(self, "digest", digest(raw))

    def encode(self) -> bytes:
        """The 204 header bytes."""
        return self._raw

    @property
    def closes_epoch(self) -> bool:
        """Whether its child is decided by another set."""
        return self.validators != self.next_validators


@lru_cache(maxsize=256)
def decode_header(raw: bytes) -> Header:
    """Decode and bound a header; raises `Refused`. The newest are remembered: one comes several times, and a simulated
    network decodes it once for each node."""
    if len(raw) != HEADER_BYTES:
        raise Refused(Reason.MALFORMED, f"a header has {HEADER_BYTES} bytes, this has {len(raw)}")
    chain, height, view, parent_view, time_ms, proposer, bundles, commands, parent, payload, present, following = (
        _HEADER.unpack(raw)
    )
    if max(height, view, parent_view) >= 1 << 63 or time_ms < 0 or proposer >= VALIDATORS_MAX:
        raise Refused(Reason.MALFORMED, "a field of the header is out of range")
    if bundles > BLOCK_BUNDLES_MAX or commands > BLOCK_COMMANDS_MAX:
        raise Refused(Reason.OVERSIZE, f"{bundles} bundles with {commands} commands are too many for a block")
    return Header(
        chain, height, view, parent_view, time_ms, proposer, bundles, commands, parent, payload, present, following
    )


class Payload(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a block orders: concatenated bundle digests, raw observations, raw evidence."""

    bundles: bytes
    observations: tuple[bytes, ...]
    evidence: tuple[bytes, ...]
    change: bytes = b""
    """An approved change of validators (`wire.set_change`), or nothing."""

    def encode(self) -> bytes:
        """Canonical MessagePack; its BLAKE3 is in the header."""
        return encode(self)

    def bundle_digests(self) -> list[bytes]:
        """The bundle digests in order."""
        return [self.bundles[i : i + DIGEST_BYTES] for i in range(0, len(self.bundles), DIGEST_BYTES)]


_payload_decoder = msgspec.msgpack.Decoder(Payload)


def decode_payload(raw: bytes) -> Payload:
    """Decode and bound a payload; raises `Refused`."""
    payload = decode_canonical(_payload_decoder, raw, "payload")
    if len(payload.bundles) % DIGEST_BYTES:
        raise Refused(Reason.MALFORMED, "the bundle digests are not a multiple of 32 bytes")
    if len(payload.bundles) > BLOCK_BUNDLES_MAX * DIGEST_BYTES or len(payload.observations) > VALIDATORS_MAX:
        raise Refused(Reason.OVERSIZE, "too many bundles or observations in a payload")
    if len(payload.evidence) > EVIDENCE_PER_BLOCK_MAX:
        raise Refused(Reason.OVERSIZE, f"a block carries at most {EVIDENCE_PER_BLOCK_MAX} pieces of evidence")
    if len(payload.change) > SET_CHANGE_BYTES_MAX:
        raise Refused(Reason.OVERSIZE, f"a change of validators has at most {SET_CHANGE_BYTES_MAX} bytes")
    return payload


@dataclass(frozen=True, slots=True)
class Block:
    """A header with the payload that belongs to it."""

    header: Header
    payload: Payload

    @property
    def digest(self) -> bytes:
        """The header's digest."""
        return self.header.digest


@lru_cache(maxsize=16)
def decode_block(header_raw: bytes, payload_raw: bytes) -> Block:
    """Decode both parts and check that they belong together; raises `Refused`. The newest are remembered, as headers
    are."""
    header = decode_header(header_raw)
    if digest(payload_raw) != header.payload:
        raise Refused(Reason.MALFORMED, "the payload is not the one that the header names")
    payload = decode_payload(payload_raw)
    if len(payload.bundles) != header.bundles * DIGEST_BYTES:
        raise Refused(Reason.MALFORMED, "the header's number of bundles is not the payload's")
    return Block(header, payload)


def genesis_header(chain_id: bytes, time_ms: int) -> Header:
    """Block 0: height 0, view 0, nothing in it, final from the start."""
    return Header(chain_id, 0, 0, 0, time_ms, 0, 0, 0, ZERO_DIGEST, ZERO_DIGEST)
