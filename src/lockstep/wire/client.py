"""What a client and a node say to each other. One frame carries one message: canonical MessagePack, or a bare bundle.

A client proves nothing by connecting: bundles carry their own signatures, and what a node answers is public.
Only `PriceReport` is privileged: it is signed by the feed key that the node's operator configured.
"""

import struct
from typing import Final

import msgspec

from lockstep.base.digest import DIGEST_BYTES, digest
from lockstep.base.errors import Reason, Refused
from lockstep.base.keys import SIGNATURE_BYTES, PrivateKey, verify
from lockstep.base.limits import CLIENT_FRAME_BYTES_MAX, INSTRUMENTS_MAX, PRICE_TICKS_MAX, SET_CHANGE_BYTES_MAX
from lockstep.wire.bundle import BUNDLE_BYTES_MAX
from lockstep.wire.codec import RAW_BUNDLE, check_length, check_unsigned, decode_canonical, encode
from lockstep.wire.genesis import Validator
from lockstep.wire.light import (
    AskGenesis,
    AskLight,
    AskOutcome,
    AskState,
    LightAnswer,
    LightRequest,
    check_light_answer,
    check_light_request,
)
from lockstep.wire.message import (
    CheckpointOffer,
    FetchCheckpoint,
    FetchState,
    StatePart,
    check_state_message,
    decode_part,
    encode_message,
    is_part,
)
from lockstep.wire.stream import (
    After,
    AskEvents,
    StreamAnswer,
    StreamRequest,
    check_stream_answer,
    check_stream_request,
)

_FEED_DOMAIN: Final = b"lockstep/price-report/1"


class Submit(msgspec.Struct, frozen=True):
    """Take this bundle. Answered by `SubmitReply` at once, and by `Fate` when it has one (if subscribed).

    On the wire: a zero byte, then the bundle.
    """

    raw: bytes


class AskFate(msgspec.Struct, frozen=True, array_like=True, tag=2, forbid_unknown_fields=True):
    """What became of this bundle?"""

    digest: bytes


class AskAccount(msgspec.Struct, frozen=True, array_like=True, tag=3, forbid_unknown_fields=True):
    """The next sequence number and balance of an account."""

    account: int


class AskStatus(msgspec.Struct, frozen=True, array_like=True, tag=4, forbid_unknown_fields=True):
    """How are you?"""


class Subscribe(msgspec.Struct, frozen=True, array_like=True, tag=5, forbid_unknown_fields=True):
    """Tell me the fate of each bundle that I submit on this connection (with its outcome records if asked),
    and, if asked, a summary of each final block."""

    outcomes: bool
    blocks: bool


class PriceReport(msgspec.Struct, frozen=True, array_like=True, tag=6, forbid_unknown_fields=True):
    """The index prices (ticks, by instrument; 0 = none) that the node's operator trusts, at a time."""

    time_ms: int
    prices: tuple[int, ...]
    signature: bytes


class SubmitSetChange(msgspec.Struct, frozen=True, array_like=True, tag=21, forbid_unknown_fields=True):
    """Have this approved change of validators ordered (`wire.set_change`). Answered by `SubmitReply` at once."""

    raw: bytes


class AskValidators(msgspec.Struct, frozen=True, array_like=True, tag=22, forbid_unknown_fields=True):
    """Who decides, and what is pending?"""


class ValidatorsReply(msgspec.Struct, frozen=True, array_like=True, tag=23, forbid_unknown_fields=True):
    """The roster, as of the node's final height. A claim of this node: the proof is in headers (`AskLight`)."""

    height: int
    epoch: int
    epoch_blocks: int
    validators_hash: bytes
    members: tuple[Validator, ...]
    stakes: tuple[int, ...]
    """Of the set that decides now; members beyond it wait for the next epoch."""
    next_stakes: tuple[int, ...]
    """Of all members, when a change is pending; else empty."""
    change_height: int
    """The last block of this epoch, when a change is pending; else 0."""


class SubmitReply(msgspec.Struct, frozen=True, array_like=True, tag=11, forbid_unknown_fields=True):
    """Whether the bundle was taken into the pool (`reason` empty), or why not. For one that was taken: where the node
    says so among the other things that it says (`wire.stream`)."""

    digest: bytes
    reason: str
    detail: str
    node: int = 0
    epoch: int = 0
    sequence: int = 0
    height: int = 0


class Fate(msgspec.Struct, frozen=True, array_like=True, tag=12, forbid_unknown_fields=True):
    """A bundle's one fate. `status` is pending, final, expired, rejected or unknown.

    For a final bundle: the height, its place in the block, and its outcome records (EVENT rows, as bytes).
    """

    digest: bytes
    status: str
    height: int
    index: int
    reason: str
    outcomes: bytes


class AccountReply(msgspec.Struct, frozen=True, array_like=True, tag=13, forbid_unknown_fields=True):
    """As of the node's final height. `known` is false for an account that was never opened."""

    account: int
    known: bool
    next_sequence: int
    height: int


class InstrumentSummary(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Prices in ticks, sizes in lots; 0 where there is none."""

    symbol: str
    best_bid: int
    best_ask: int
    mark: int
    stale: bool
    open_interest: int
    volume: int


class PeerStatus(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One peer as this node sees it."""

    validator: int
    connected: bool
    view: int
    final_height: int
    rtt_us: int


class SyncPeer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A peer that a state is fetched from. `score` is 0 … 100; `barred` says what it did wrong, if it did."""

    validator: int
    height: int
    bytes_per_second: int
    outstanding: int
    stalls: int
    score: int
    barred: str


class SyncProgress(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How far a node that is behind has got. `phase` is replay (in blocks), or reading, fetching or installing a state
    (in bytes); `seconds_left` is -1 when it can't be told."""

    phase: str
    height: int
    done: int
    total: int
    per_second: int
    seconds_left: int
    peers: tuple[SyncPeer, ...]


class StorageStatus(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a node keeps, as of its newest checkpoint. What of the store's bytes isn't used will be used again."""

    retention: str
    """archive, full or pruned."""
    lowest_block: int
    """From this height on it has the blocks, their events and outcomes; below, it is pruned."""
    lowest_header: int
    """From this height on it has certified headers."""
    checkpoints: tuple[int, ...]
    log_bytes: int
    history_bytes: int
    store_bytes: int
    store_bytes_used: int


class StatusReply(msgspec.Struct, frozen=True, array_like=True, tag=14, forbid_unknown_fields=True):
    """`state` is syncing, live, lagging, stalled or halted; `allowed` says what it permits. `validator` is -1 for
    a node that doesn't vote."""

    name: str
    validator: int
    state: str
    reason: str
    allowed: tuple[str, ...]
    view: int
    height: int
    final_height: int
    certified_height: int
    lag_blocks: int
    lag_ms: int
    price_age_ms: int
    state_root: bytes
    pool_bundles: int
    pool_bytes: int
    commands: int
    fills: int
    blocks: int
    peers: tuple[PeerStatus, ...]
    instruments: tuple[InstrumentSummary, ...]
    evidence: int
    rss_mib: int
    sync: SyncProgress | None = None
    """None when it is not behind."""
    storage: StorageStatus | None = None
    """None before the node has looked."""
    final_view: int = 0
    """Of the newest final block."""
    validators: int = 0
    stake: int = 0
    """Of all validators."""
    observers: int = 0
    """Connected nodes that don't vote."""
    validators_bytes_out: int = 0
    """Sent to validators since the process started."""
    observers_bytes_out: int = 0
    """Sent to nodes that don't vote."""


class BlockFinal(msgspec.Struct, frozen=True, array_like=True, tag=15, forbid_unknown_fields=True):
    """A final block in short."""

    height: int
    view: int
    time_ms: int
    block: bytes
    state_root: bytes
    event_root: bytes
    bundles: int
    commands: int
    fills: int


class Goodbye(msgspec.Struct, frozen=True, array_like=True, tag=16, forbid_unknown_fields=True):
    """The connection is being closed, and why."""

    reason: str
    detail: str


StructuredRequest = (
    AskFate | AskAccount | AskStatus | Subscribe | PriceReport | SubmitSetChange | AskValidators | LightRequest
    | StreamRequest | FetchCheckpoint | FetchState
)  # fmt: skip
ClientRequest = Submit | StructuredRequest
StructuredReply = (
    SubmitReply | Fate | AccountReply | StatusReply | BlockFinal | Goodbye | ValidatorsReply | LightAnswer
    | StreamAnswer | CheckpointOffer
)  # fmt: skip
ClientReply = StructuredReply | StatePart

_request_decoder = msgspec.msgpack.Decoder(StructuredRequest)
_reply_decoder = msgspec.msgpack.Decoder(StructuredReply)


def encode_client(message: ClientRequest | ClientReply) -> bytes:
    """The body of the frame that carries `message`."""
    if isinstance(message, Submit):
        return RAW_BUNDLE + message.raw
    if isinstance(message, StatePart):
        return encode_message(message)
    return encode(message)


def decode_request(raw: bytes) -> ClientRequest:
    """Decode and bound a client's request; raises `Refused`."""
    if raw[:1] == RAW_BUNDLE:
        if len(raw) > 1 + BUNDLE_BYTES_MAX:
            raise Refused(Reason.OVERSIZE, f"a bundle has at most {BUNDLE_BYTES_MAX} bytes")
        return Submit(raw[1:])
    if len(raw) > CLIENT_FRAME_BYTES_MAX:
        raise Refused(Reason.OVERSIZE, f"a request has at most {CLIENT_FRAME_BYTES_MAX} bytes")
    request: StructuredRequest = decode_canonical(_request_decoder, raw, "request")
    match request:
        case AskFate():
            check_length(request.digest, DIGEST_BYTES, "digest")
        case AskAccount():
            check_unsigned(request.account, "account")
        case PriceReport():
            check_unsigned(request.time_ms, "time")
            check_length(request.signature, SIGNATURE_BYTES, "signature")
            if len(request.prices) > INSTRUMENTS_MAX or any(not 0 <= p < PRICE_TICKS_MAX for p in request.prices):
                raise Refused(Reason.MALFORMED, "a price is out of range, or there are too many")
        case SubmitSetChange() if len(request.raw) > SET_CHANGE_BYTES_MAX:
            raise Refused(Reason.OVERSIZE, f"a change of validators has at most {SET_CHANGE_BYTES_MAX} bytes")
        case AskLight() | AskState() | AskOutcome() | AskGenesis():
            check_light_request(request)
        case AskEvents() | After():
            check_stream_request(request)
        case FetchCheckpoint() | FetchState():
            check_state_message(request)
        case _:
            pass
    return request


def decode_reply(raw: bytes) -> ClientReply:
    """Decode and bound a node's reply; raises `Refused`."""
    if is_part(raw):
        return decode_part(raw)
    reply: StructuredReply = decode_canonical(_reply_decoder, raw, "reply")
    if isinstance(reply, LightAnswer):
        check_light_answer(reply)
    elif isinstance(reply, StreamAnswer):
        check_stream_answer(reply)
    else:
        check_state_message(reply)
    return reply


def _report_bytes(chain_id: bytes, time_ms: int, prices: tuple[int, ...]) -> bytes:
    return _FEED_DOMAIN + chain_id + digest(struct.pack(f"<q{len(prices)}q", time_ms, *prices))


def seal_price_report(key: PrivateKey, chain_id: bytes, time_ms: int, prices: tuple[int, ...]) -> PriceReport:
    """Make and sign a price report."""
    return PriceReport(time_ms, prices, key.sign(_report_bytes(chain_id, time_ms, prices)))


def verify_price_report(report: PriceReport, feed_key: bytes, chain_id: bytes) -> bool:
    """Whether the feed key signed it, for this chain."""
    return verify(feed_key, _report_bytes(chain_id, report.time_ms, report.prices), report.signature)
