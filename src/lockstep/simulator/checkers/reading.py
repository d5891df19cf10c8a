"""The checkers' own reading of bytes: headers, votes, certificates, blocks, and quorum arithmetic.

Written from the formats' descriptions (docs/protocol.md), not from the code that the nodes run, so that one mistake
cannot hide in both. MessagePack arrays are taken apart as plain lists; signatures go to libsodium directly.
"""

import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from blake3 import blake3
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

NOTARIZE, NULLIFY, FINALIZE = "notarize", "nullify", "finalize"
_VOTES: Final = {1: NOTARIZE, 2: NULLIFY, 3: FINALIZE}
_CERTIFICATES: Final = {11: NOTARIZE, 12: NULLIFY, 13: FINALIZE}
_VOTE_RECORD, _BLOCK_RECORD, _CERTIFICATE_RECORD, _EVIDENCE_RECORD = 1, 2, 3, 4
_HEADER: Final = struct.Struct("<32sQQQqIII32s32s32s32s")
_BUNDLE_HEAD: Final = struct.Struct("<HHIQQ32s")
_SIGNATURE: Final = 64
EPOCH_BITS: Final = 40
"""A view's epoch is its bits from here on."""
COMMAND: Final = np.dtype(
    [("kind", "u1"), ("side", "u1"), ("tif", "u1"), ("flags", "u1"), ("instrument", "<u4"), ("price", "<i8"),
     ("size", "<i8"), ("client_id", "<u8"), ("target", "<u8")]
)  # fmt: skip


class Head(NamedTuple):
    """A block's header."""

    digest: bytes
    height: int
    view: int
    parent_view: int
    time_ms: int
    proposer: int
    commands: int
    parent: bytes


class Order(NamedTuple):
    """A bundle, as far as order and content go."""

    digest: bytes
    account: int
    sequence: int
    commands: bytes


class Body(NamedTuple):
    """A block with its bundles."""

    head: Head
    bundles: list[Order]
    observations: list[bytes]


class Statement(NamedTuple):
    """What a vote or a certificate says. `about` is empty for nullify."""

    kind: str
    view: int
    about: tuple[Any, ...]
    """notarize: (block,); finalize: (height, block, state root, event root)."""

    def message(self, chain_id: bytes) -> bytes:
        """The bytes that are signed."""
        domain = f"lockstep/{self.kind}/1".encode() + chain_id + self.view.to_bytes(8, "little")
        if self.kind == FINALIZE:
            height, *rest = self.about
            domain += int(height).to_bytes(8, "little")
            return domain + b"".join(rest)
        return domain + b"".join(self.about)


class SignedVote(NamedTuple):
    """A vote."""

    statement: Statement
    signer: int
    signature: bytes


class Certified(NamedTuple):
    """A certificate."""

    statement: Statement
    bitmap: bytes
    signatures: bytes

    def signers(self) -> list[int]:
        """Validators in the bitmap."""
        number = int.from_bytes(self.bitmap, "little")
        return [i for i in range(8 * len(self.bitmap)) if number >> i & 1]

    def signature(self, place: int) -> bytes:
        """The signature of the signer at this place of the list."""
        return self.signatures[place * _SIGNATURE : (place + 1) * _SIGNATURE]


def digest(data: bytes) -> bytes:
    """BLAKE3."""
    hashed: bytes = blake3(data).digest()
    return hashed


def head(raw: bytes) -> Head:
    """Read a header."""
    _, height, view, parent_view, time_ms, proposer, _, commands, parent, _, _, _ = _HEADER.unpack(raw)
    return Head(digest(raw), height, view, parent_view, time_ms, proposer, commands, parent)


def body(chain_block: bytes) -> Body:
    """Read the encoding of a block with its bundles; raises ValueError when its parts don't belong together."""
    header, payload, raws = msgspec.msgpack.decode(chain_block)
    found = head(header)
    digests, observations, _, _ = msgspec.msgpack.decode(payload)
    bundles = [bundle(raw) for raw in raws]
    if digest(payload) != _HEADER.unpack(header)[9] or digests != b"".join(b.digest for b in bundles):
        raise ValueError(f"the parts of block {found.digest.hex()} don't belong together")
    return Body(found, bundles, observations)


def bundle(raw: bytes) -> Order:
    """Read a bundle."""
    _, _, account, sequence, _, _ = _BUNDLE_HEAD.unpack_from(raw)
    return Order(digest(raw), account, sequence, raw[_BUNDLE_HEAD.size : -_SIGNATURE])


def vote(parts: list[Any]) -> SignedVote:
    """From a decoded MessagePack array `[tag, view, …, signer, signature]`."""
    tag, view, *about, signer, signature = parts
    return SignedVote(Statement(_VOTES[tag], view, tuple(about)), signer, signature)


def certificate(raw: bytes) -> Certified:
    """From its encoding."""
    tag, view, *about, bitmap, signatures = msgspec.msgpack.decode(raw)
    return Certified(Statement(_CERTIFICATES[tag], view, tuple(about)), bitmap, signatures)


def record(raw: bytes) -> SignedVote | Certified | Body | tuple[SignedVote, SignedVote]:
    """Read a log record: an own vote, a certificate, a block, or evidence."""
    match raw[0]:
        case 1:
            return vote(msgspec.msgpack.decode(raw[1:]))
        case 2:
            return body(raw[1:])
        case 3:
            return certificate(raw[1:])
        case 4:
            return evidence(raw[1:])
        case kind:
            raise ValueError(f"a record of unknown kind {kind}")


def is_vote_record(raw: bytes) -> bool:
    """Whether a log record is an own vote."""
    return raw[0] == _VOTE_RECORD


def is_block_record(raw: bytes) -> bool:
    """Whether a log record is a block."""
    return raw[0] == _BLOCK_RECORD


def is_certificate_record(raw: bytes) -> bool:
    """Whether a log record is a certificate."""
    return raw[0] == _CERTIFICATE_RECORD


def evidence(raw: bytes) -> tuple[SignedVote, SignedVote]:
    """Read a piece of evidence."""
    first, second = msgspec.msgpack.decode(raw)
    return vote(first), vote(second)


def contradict(one: Statement, other: Statement) -> bool:
    """Whether no honest validator says both."""
    if one.view != other.view or one == other:
        return False
    return {one.kind, other.kind} in ({NOTARIZE}, {FINALIZE}, {NULLIFY, FINALIZE})


@lru_cache(maxsize=200_000)
def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether libsodium accepts the signature. Remembered: a run shows each signature to several checkers."""
    try:
        VerifyKey(public).verify(message, signature)
    except (BadSignatureError, ValueError):
        return False
    return True


class Stakes:
    """Who weighs how much."""

    def __init__(self, stakes: list[int], keys: list[bytes]) -> None:
        self.of = stakes
        self.keys = keys
        self.total = sum(stakes)

    def hash(self) -> bytes:
        """As headers name it: BLAKE3 over each key and its stake, u64."""
        return digest(b"".join(key + of.to_bytes(8, "little") for key, of in zip(self.keys, self.of, strict=True)))

    def sum(self, validators: Iterable[int]) -> int:
        """Of distinct validators."""
        return sum(self.of[validator] for validator in sorted(set(validators)) if validator < len(self.of))

    def is_quorum(self, validators: Iterable[int]) -> bool:
        """More than two thirds."""
        return self.sum(validators) * 3 > self.total * 2

    def is_third(self, validators: Iterable[int]) -> bool:
        """At least one third: enough that two quorums may share nobody else."""
        return self.sum(validators) * 3 >= self.total
