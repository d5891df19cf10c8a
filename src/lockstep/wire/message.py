"""What nodes say to each other. One frame carries one message: canonical MessagePack, or a bare bundle.

Votes and certificates travel as they are. Everything else is below. Sizes are checked here, before a message
reaches any state machine; what it *means* is checked by the machine that takes it.
"""

import struct
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final

import msgspec

from lockstep.base.digest import DIGEST_BYTES
from lockstep.base.errors import Reason, Refused
from lockstep.base.keys import PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from lockstep.base.limits import FRAME_BYTES_MAX, SET_CHANGE_BYTES_MAX, VALIDATORS_MAX
from lockstep.wire.block import HEADER_BYTES
from lockstep.wire.bundle import BUNDLE_BYTES_MAX, Bundle
from lockstep.wire.certificate import Certificate, Finalization, Notarization, Nullification, check_certificate
from lockstep.wire.codec import RAW_BUNDLE, check_length, check_unsigned, decode_canonical, encode
from lockstep.wire.gossip import GossipMessage, Graft, IHave, Prune, Push, check_gossip
from lockstep.wire.light import AskLight, LightReply, check_light_answer, check_light_request
from lockstep.wire.observation import OBSERVATION_BYTES_MAX
from lockstep.wire.observer import Addresses, HelloObserver, ObserverMessage, Turned, check_observer_message
from lockstep.wire.vote import Finalize, Notarize, Nullify

PROTOCOL_VERSION: Final = 1
STAMPED_BUNDLE: Final = b"\x01"
_STAMP: Final = struct.Struct("<QQQ")
STATE_PART: Final = 2
"""First byte of a `StatePart`: 7 zeros and the request follow, then the data as they are, where they can be hashed in
place. A fetched state is nothing but these, and they are not copied on their way."""
_STATE_PART: Final = struct.Struct("<B7xQ")
_STATE_PART_BYTE: Final = bytes((STATE_PART,))
CERTIFICATES_PER_MESSAGE_MAX: Final = 64
BUNDLES_PER_FETCH_MAX: Final = 256
BLOCKS_PER_CHAIN_MAX: Final = 64
CHAIN_BYTES_MAX: Final = FRAME_BYTES_MAX // 2
MANIFEST_BYTES_MAX: Final = 64 * 1024
STATE_NODES_MAX: Final = 256
"""Nodes of a table's tree that one request may name."""
STATE_CHUNKS_MAX: Final = 4_096
"""Chunks that one answer may carry."""
PART_HEADER_BYTES: Final = _STATE_PART.size
PART_BYTES_MAX: Final = PART_HEADER_BYTES + STATE_CHUNKS_MAX * 1024
"""Of a `StatePart`, as it is encoded."""
STATE_FAN_OUT: Final = 16
"""Children that are shown of a node: those four levels below it."""
PLAIN_TOKEN_BYTES: Final = 32
STATE_MARKS_MAX: Final = 64 * 1024
STATE_LEVEL_MAX: Final = 31


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=20, forbid_unknown_fields=True):
    """First message of a connection, after TLS has proved who speaks."""

    version: int
    chain_id: bytes
    validator: int


class BundleBody(msgspec.Struct, frozen=True, dict=True):
    """A bundle, spread by the node that took it from a client. On the wire: a zero byte, then the bundle; or, when the
    node tells where it said that it took it (`wire.stream`), a one, then epoch, sequence and height, u64 each, then the
    bundle."""

    raw: bytes
    stamp: tuple[int, int, int] | None = None
    """(epoch, sequence, height)."""

    @cached_property
    def bundle(self) -> Bundle:
        """The bundle, decoded; raises `Refused`. Remembered, for a simulated network delivers one message to many."""
        return Bundle(self.raw)


class Proposal(msgspec.Struct, frozen=True, array_like=True, tag=22, forbid_unknown_fields=True):
    """A leader's block. `signature` is the leader's notarize vote on it.

    `view` and `parent_view` are the header's; but the last block of an epoch is proposed again in later views until it
    is final, and then they are the view that it is proposed in, and the one that it was notarized in."""

    header: bytes
    payload: bytes
    signature: bytes
    view: int
    parent_view: int


class FetchCertificates(msgspec.Struct, frozen=True, array_like=True, tag=23, forbid_unknown_fields=True):
    """Send what you hold for these views (both ends included): the notarization and the nullification of each."""

    from_view: int
    to_view: int


class Certificates(msgspec.Struct, frozen=True, array_like=True, tag=24, forbid_unknown_fields=True):
    """The answer: at most 64, oldest first. Also used to help a peer that is seen to be behind."""

    certificates: tuple[Certificate, ...]


class FetchBundles(msgspec.Struct, frozen=True, array_like=True, tag=25, forbid_unknown_fields=True):
    """Send me these bundles (concatenated digests)."""

    digests: bytes


class Bundles(msgspec.Struct, frozen=True, array_like=True, tag=26, forbid_unknown_fields=True):
    """The answer: those of the bundles that I hold."""

    raws: tuple[bytes, ...]


class FetchBlock(msgspec.Struct, frozen=True, array_like=True, tag=27, forbid_unknown_fields=True):
    """Send me the block with this digest."""

    block: bytes


class BlockBody(msgspec.Struct, frozen=True, array_like=True, tag=28, forbid_unknown_fields=True):
    """The answer. It needs no signature: it is what was asked for, or it is not."""

    header: bytes
    payload: bytes


class FetchChain(msgspec.Struct, frozen=True, array_like=True, tag=29, forbid_unknown_fields=True):
    """Send me final blocks from this height on, with their bundles."""

    from_height: int


class ChainBlock(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A final block with the bundles that it orders."""

    header: bytes
    payload: bytes
    bundles: tuple[bytes, ...]


class Chain(msgspec.Struct, frozen=True, array_like=True, tag=30, forbid_unknown_fields=True):
    """Consecutive final blocks, and the newest finalization that the sender has within or above them."""

    blocks: tuple[ChainBlock, ...]
    finalization: Finalization | None
    lowest: int = 1
    """The sender has pruned its blocks below this height. A claim: it only saves asking."""


class ObservationBody(msgspec.Struct, frozen=True, array_like=True, tag=31, forbid_unknown_fields=True):
    """A validator's signed observation."""

    raw: bytes


class SetChangeBody(msgspec.Struct, frozen=True, array_like=True, tag=38, forbid_unknown_fields=True):
    """An approved change of validators, spread by the node that its operator handed it to."""

    raw: bytes


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=32, forbid_unknown_fields=True):
    """Are you there? `time_us` comes back in the answer. The heights are claims, used for display only."""

    time_us: int
    view: int
    final_height: int


class Pong(msgspec.Struct, frozen=True, array_like=True, tag=33, forbid_unknown_fields=True):
    """I am."""

    time_us: int


class FetchCheckpoint(msgspec.Struct, frozen=True, array_like=True, tag=34, forbid_unknown_fields=True):
    """Show me the checkpoint of this height, or, when you don't serve that, your newest."""

    height: int


class CheckpointOffer(msgspec.Struct, frozen=True, array_like=True, tag=35, forbid_unknown_fields=True):
    """A checkpoint that the sender serves: the certificate signs the header and, as the state root, the manifest.
    `keys` and `stakes`: the validator set that the header names, for whoever has another."""

    header: bytes
    certificate: Finalization
    manifest: bytes
    keys: bytes = b""
    stakes: tuple[int, ...] = ()


class FetchState(msgspec.Struct, frozen=True, array_like=True, tag=36, forbid_unknown_fields=True):
    """Of a table's tree in the checkpoint of this height: what stands below these nodes of a level.

    `indices`: ascending, u32 little-endian each. `chunks`: the chunks themselves; else the nodes four levels below
    (at the next multiple of four). With `marks` (see `sync.state_changes`), of those chunks that have others."""

    request: int
    height: int
    table: int
    level: int
    indices: bytes
    chunks: bool
    marks: bytes = b""


class StatePart(msgspec.Struct, frozen=True, array_like=True, tag=37, forbid_unknown_fields=True):
    """The answer: chaining values, 32 bytes each, or chunks, in ascending order; a table's last chunk is as short as
    it is. No data: the sender doesn't serve that checkpoint (any more)."""

    request: int
    data: bytes | memoryview


class AskPlain(msgspec.Struct, frozen=True, array_like=True, tag=43, forbid_unknown_fields=True):
    """Parts of the state may come over a plain connection too: may I open one? Or not any more: I have left it."""

    is_wanted: bool


class PlainToken(msgspec.Struct, frozen=True, array_like=True, tag=44, forbid_unknown_fields=True):
    """What to show at the beginning of a plain connection, once and soon. Empty: not now."""

    token: bytes


Structured = (
    Notarize | Nullify | Finalize | Notarization | Nullification | Finalization | Hello | Proposal
    | FetchCertificates | Certificates | FetchBundles | Bundles | FetchBlock | BlockBody | FetchChain | Chain
    | ObservationBody | SetChangeBody | Ping | Pong | FetchCheckpoint | CheckpointOffer | FetchState
    | AskPlain | PlainToken | AskLight | LightReply | ObserverMessage | GossipMessage
)  # fmt: skip
PeerMessage = BundleBody | StatePart | Structured

_decoder = msgspec.msgpack.Decoder(Structured)


def encode_message(message: PeerMessage) -> bytes:
    """The body of the frame that carries `message`."""
    if type(message) is BundleBody:  # not isinstance, which takes long to say no to a msgspec structure
        if message.stamp is None:
            return RAW_BUNDLE + message.raw
        return STAMPED_BUNDLE + _STAMP.pack(*message.stamp) + message.raw
    if type(message) is StatePart:
        return b"".join(encode_part(message))
    return encode(message)


def encode_part(part: StatePart) -> tuple[bytes, bytes | memoryview]:
    """The body of the frame in two pieces, of which the second is the data themselves."""
    return _STATE_PART.pack(STATE_PART, part.request), part.data


def is_part(raw: bytes | memoryview) -> bool:
    """Whether the body of a frame is a `StatePart`."""
    return raw[:1] == _STATE_PART_BYTE


def decode_part(raw: bytes | memoryview) -> StatePart:
    """Decode a `StatePart`, whose data may be a view of `raw`; raises `Refused`."""
    if not _STATE_PART.size <= len(raw) <= PART_BYTES_MAX:
        raise Refused(Reason.OVERSIZE, f"an answer has at most {STATE_CHUNKS_MAX} chunks")
    request = _STATE_PART.unpack_from(raw)[1]
    check_unsigned(request, "request")
    if any(raw[1:8]):
        raise Refused(Reason.NON_CANONICAL, "message: not the canonical encoding")
    return StatePart(request, raw[_STATE_PART.size :])


def _stamped(raw: bytes) -> BundleBody:
    begin = len(STAMPED_BUNDLE) + _STAMP.size
    if not begin <= len(raw) <= begin + BUNDLE_BYTES_MAX:
        raise Refused(Reason.OVERSIZE, f"a stamped bundle has {begin} to {begin + BUNDLE_BYTES_MAX} bytes")
    epoch, sequence, height = _STAMP.unpack_from(raw, len(STAMPED_BUNDLE))
    for value, what in ((epoch, "epoch"), (sequence, "sequence"), (height, "height")):
        check_unsigned(value, what)
    return BundleBody(raw[begin:], (epoch, sequence, height))


def decode_message(raw: bytes | memoryview) -> PeerMessage:
    """Decode and bound a peer's message; raises `Refused`. Only the data of a `StatePart` may be a view of `raw`."""
    kind = raw[:1]
    if kind == _STATE_PART_BYTE:
        return decode_part(raw)
    raw = bytes(raw)
    if kind == RAW_BUNDLE:
        if len(raw) > 1 + BUNDLE_BYTES_MAX:
            raise Refused(Reason.OVERSIZE, f"a bundle has at most {BUNDLE_BYTES_MAX} bytes")
        return BundleBody(raw[1:])
    if kind == STAMPED_BUNDLE:
        return _stamped(raw)
    if len(raw) > FRAME_BYTES_MAX:
        raise Refused(Reason.OVERSIZE, f"a message has at most {FRAME_BYTES_MAX} bytes")
    message: Structured = decode_canonical(_decoder, raw, "message")
    _FREQUENT.get(message.__class__, _check)(message)
    return message


def _check_ping(message: Ping) -> None:
    check_unsigned(message.time_us, "time")
    check_unsigned(message.view, "view")
    check_unsigned(message.final_height, "final height")


def _check_pong(message: Pong) -> None:
    check_unsigned(message.time_us, "time")


def _check_proposal(message: Proposal) -> None:
    check_length(message.header, HEADER_BYTES, "header")
    check_length(message.signature, SIGNATURE_BYTES, "signature")
    check_unsigned(message.view, "view")
    check_unsigned(message.parent_view, "parent view")


_FREQUENT: Final[dict[type, Callable[[Any], None]]] = {
    Notarize: Notarize.check, Nullify: Nullify.check, Finalize: Finalize.check,
    Notarization: check_certificate, Nullification: check_certificate, Finalization: check_certificate,
    Proposal: _check_proposal, Ping: _check_ping, Pong: _check_pong,
}  # fmt: skip
"""What nearly all messages are is found in one look-up; for the rest see `_check`."""


def _check(message: Structured) -> None:
    match message:
        case Certificates():
            if len(message.certificates) > CERTIFICATES_PER_MESSAGE_MAX:
                raise Refused(Reason.OVERSIZE, "too many certificates in a message")
            for certificate in message.certificates:
                check_certificate(certificate)
        case BlockBody():
            check_length(message.header, HEADER_BYTES, "header")
        case ObservationBody() if len(message.raw) > OBSERVATION_BYTES_MAX:
            raise Refused(Reason.OVERSIZE, f"an observation has at most {OBSERVATION_BYTES_MAX} bytes")
        case SetChangeBody() if len(message.raw) > SET_CHANGE_BYTES_MAX:
            raise Refused(Reason.OVERSIZE, f"a change of validators has at most {SET_CHANGE_BYTES_MAX} bytes")
        case _:
            _check_fetch(message)


def _check_fetch(message: Structured) -> None:
    match message:
        case Hello():
            check_length(message.chain_id, DIGEST_BYTES, "chain id")
            check_unsigned(message.validator, "validator")
        case FetchBundles():
            count, rest = divmod(len(message.digests), DIGEST_BYTES)
            if rest or not 1 <= count <= BUNDLES_PER_FETCH_MAX:
                raise Refused(Reason.MALFORMED, f"1 to {BUNDLES_PER_FETCH_MAX} digests may be asked for at a time")
        case Bundles() if len(message.raws) > BUNDLES_PER_FETCH_MAX:
            raise Refused(Reason.OVERSIZE, "too many bundles in a message")
        case FetchBlock():
            check_length(message.block, DIGEST_BYTES, "block digest")
        case FetchCertificates():
            check_unsigned(message.from_view, "view")
            check_unsigned(message.to_view, "view")
        case FetchChain():
            check_unsigned(message.from_height, "height")
        case Chain():
            if len(message.blocks) > BLOCKS_PER_CHAIN_MAX:
                raise Refused(Reason.OVERSIZE, f"a chain message has at most {BLOCKS_PER_CHAIN_MAX} blocks")
            check_unsigned(message.lowest, "lowest height")
            if message.finalization is not None:
                check_certificate(message.finalization)
        case _:
            check_state_message(message)


def check_state_message(message: object) -> None:
    """Bound what is said about a checkpoint's state; raises `Refused`. Clients fetch it with the same messages."""
    match message:
        case FetchCheckpoint():
            check_unsigned(message.height, "height")
        case CheckpointOffer():
            check_length(message.header, HEADER_BYTES, "header")
            check_certificate(message.certificate)
            if len(message.stakes) > VALIDATORS_MAX or len(message.keys) != PUBLIC_KEY_BYTES * len(message.stakes):
                raise Refused(Reason.MALFORMED, "the offer's validators are too many, or without keys")
            if len(message.manifest) > MANIFEST_BYTES_MAX:
                raise Refused(Reason.OVERSIZE, f"a manifest has at most {MANIFEST_BYTES_MAX} bytes")
        case FetchState():
            for value, what in ((message.request, "request"), (message.height, "height"), (message.table, "table")):
                check_unsigned(value, what)
            count, rest = divmod(len(message.indices), 4)
            if len(message.marks) > STATE_MARKS_MAX or (message.marks and not message.chunks):
                raise Refused(
                    Reason.MALFORMED, f"at most {STATE_MARKS_MAX} bytes of marks go with a request for chunks"
                )
            if rest or not 1 <= count <= STATE_NODES_MAX or not 0 <= message.level <= STATE_LEVEL_MAX:
                raise Refused(Reason.MALFORMED, f"1 to {STATE_NODES_MAX} nodes of one level may be asked for at a time")
        case PlainToken() if message.token:
            check_length(message.token, PLAIN_TOKEN_BYTES, "token")
        case Push() | IHave() | Graft() | Prune():
            check_gossip(message)
        case HelloObserver() | Turned() | Addresses():
            check_observer_message(message)
        case AskLight():
            check_light_request(message)
        case LightReply():
            check_light_answer(message)
        case _:
            pass
