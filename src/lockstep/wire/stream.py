"""What nodes say, to be read from several of them at once: final events by position, and what only one node knows.

Final events have one order, the same everywhere: (height, row of the block). What a node says by itself (a bundle was
taken here, expired here, my state changed) has none but its own: nodes number it, `epoch` being the start of the
process, µs, and `sequence` counting from 1. What comes after what across nodes is in the clocks: a clock names, for
each node that matters, the last thing it said that this depends on (Lamport 1978; Mattern's vector time, kept sparse).

`token` is the client's own number for the question and comes back with the answer.
"""

from collections.abc import Iterable
from enum import IntEnum
from itertools import pairwise
from typing import Final

import msgspec

from lockstep.base.digest import DIGEST_BYTES
from lockstep.base.errors import Reason, Refused
from lockstep.base.limits import BLOCK_BUNDLES_MAX, CLIENT_FRAME_BYTES_MAX, FRAME_BYTES_MAX, VALIDATORS_MAX
from lockstep.wire.block import HEADER_BYTES
from lockstep.wire.certificate import Finalization, check_certificate
from lockstep.wire.codec import check_length, check_unsigned

ACCOUNTS_PER_ASK_MAX: Final = 64
BLOCKS_PER_BATCH_MAX: Final = 64
LOCAL_PER_BATCH_MAX: Final = 1_024
ROWS_PER_BATCH_MAX: Final = 16_384
"""1 MiB of event rows; a larger block comes in several batches."""
WAIT_MS_MAX: Final = 30_000
DETAIL_MAX: Final = 256
ROW_BYTES: Final = 64
BUNDLE_PLACE_BYTES: Final = 52


class LocalKind(IntEnum):
    """What a node says by itself."""

    STARTED = 1
    """First of an epoch: what the node said before and nobody has read is gone."""
    TAKEN = 2
    """A client's bundle was taken into the pool here."""
    EXPIRED = 3
    REJECTED = 4
    """Another bundle used its sequence."""
    STATE = 5
    """`detail` is the node's state now, in a word."""


class Point(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, order=True):
    """Up to here a node is known: all that it said in earlier epochs, and in this one up to `sequence`."""

    node: int
    epoch: int
    sequence: int


Clock = tuple[Point, ...]
"""At most one point of a node, in ascending order."""


class AskEvents(msgspec.Struct, frozen=True, array_like=True, tag=40, forbid_unknown_fields=True):
    """What is final from `height` on (there, from `row` on), and what this node said after (`epoch`, `sequence`).

    Waits up to `wait_ms` until there is something. `accounts`: rows that name one of these only (empty: all rows).
    Epoch 0: nothing of what was said so far, but where it stands."""

    token: int
    height: int
    row: int
    epoch: int
    sequence: int
    accounts: tuple[int, ...]
    wait_ms: int


class After(msgspec.Struct, frozen=True, array_like=True, tag=41, forbid_unknown_fields=True):
    """Carry out `request` (an encoded one) once you are final at `height` and have heard what `clock` says; `Behind`
    when that takes too long."""

    token: int
    height: int
    clock: Clock
    request: bytes


class LocalEvent(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Something a node said. It comes after the final block at `height`, and after `clock`. What the clock names comes
    after no higher block, so that a block at `height` + 1 needs nothing of this."""

    sequence: int
    kind: int
    height: int
    clock: Clock
    digest: bytes
    """Of the bundle; zeros where there is none."""
    account: int
    number: int
    """The bundle's sequence in its account."""
    detail: str


class BlockEvents(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A final block's event rows from `first` up to `end`, of `total`."""

    header: bytes
    event_root: bytes
    """The digest of all its rows."""
    first: int
    end: int
    total: int
    is_whole: bool
    """These are all rows from `first` up to `end`; else those of the accounts asked for, and `indices` (u32 each) says
    which."""
    indices: bytes
    rows: bytes
    bundles: bytes
    """Its bundles (of those accounts), 52 bytes each: digest, account u32, sequence u64, first row u32, rows u32."""
    clock: Clock
    """What nodes had said of these bundles, as far as this one heard."""
    is_settled: bool
    """Whether the clock is all that there is: this node had every bundle from the one that took it."""
    finalization: Finalization | None


class EventBatch(msgspec.Struct, frozen=True, array_like=True, tag=50, forbid_unknown_fields=True):
    """The answer. `oldest` is the first sequence of this epoch that is still kept here; `sequence` the last one said,
    `height` the node's final height, `time_ms` its clock and `state` its state when it answered."""

    token: int
    reason: str
    """Why there is nothing, if something is wrong."""
    node: int
    epoch: int
    oldest: int
    sequence: int
    height: int
    time_ms: int
    state: str
    blocks: tuple[BlockEvents, ...]
    local: tuple[LocalEvent, ...]


class Behind(msgspec.Struct, frozen=True, array_like=True, tag=51, forbid_unknown_fields=True):
    """A request that was to come after something did not: this node has not got so far. Ask again, or elsewhere."""

    token: int
    height: int
    clock: Clock


StreamRequest = AskEvents | After
StreamAnswer = EventBatch | Behind


def clock_of(points: Iterable[Point]) -> Clock:
    """The clock that covers all of these points."""
    latest: dict[int, Point] = {}
    for point in points:
        if point.node not in latest or latest[point.node] < point:
            latest[point.node] = point
    return tuple(latest[node] for node in sorted(latest))


def check_clock(clock: Clock) -> None:
    """Bounded, ascending, one point a node; raises `Refused`."""
    if len(clock) > VALIDATORS_MAX:
        raise Refused(Reason.OVERSIZE, f"a clock names at most {VALIDATORS_MAX} nodes")
    for point in clock:
        check_unsigned(point.node, "node")
        check_unsigned(point.epoch, "epoch")
        check_unsigned(point.sequence, "sequence")
    if any(one.node >= other.node for one, other in pairwise(clock)):
        raise Refused(Reason.NON_CANONICAL, "a clock's nodes must be in ascending order")


def check_stream_request(request: StreamRequest) -> None:
    """Bound every field; raises `Refused`."""
    check_unsigned(request.token, "token")
    check_unsigned(request.height, "height")
    if isinstance(request, After):
        check_clock(request.clock)
        if len(request.request) > CLIENT_FRAME_BYTES_MAX:
            raise Refused(Reason.OVERSIZE, f"a request has at most {CLIENT_FRAME_BYTES_MAX} bytes")
        return
    for value, what in ((request.row, "row"), (request.epoch, "epoch"), (request.sequence, "sequence")):
        check_unsigned(value, what)
    if len(request.accounts) > ACCOUNTS_PER_ASK_MAX:
        raise Refused(Reason.OVERSIZE, f"events of at most {ACCOUNTS_PER_ASK_MAX} accounts may be asked for")
    for account in request.accounts:
        if not 0 <= account < 1 << 32:
            raise Refused(Reason.MALFORMED, "an account is out of range")
    if not 0 <= request.wait_ms <= WAIT_MS_MAX:
        raise Refused(Reason.MALFORMED, f"a wait is 0 to {WAIT_MS_MAX} ms")


def check_stream_answer(answer: StreamAnswer) -> None:
    """Bound every field, before any work is spent; raises `Refused`."""
    check_unsigned(answer.height, "height")
    if isinstance(answer, Behind):
        check_clock(answer.clock)
        return
    for value in (answer.node, answer.epoch, answer.oldest, answer.sequence):
        check_unsigned(value, "a number")
    if len(answer.blocks) > BLOCKS_PER_BATCH_MAX or len(answer.local) > LOCAL_PER_BATCH_MAX:
        raise Refused(Reason.OVERSIZE, "a batch has too many blocks or events")
    for block in answer.blocks:
        _check_block(block)
    for event in answer.local:
        for value in (event.sequence, event.kind, event.height, event.account, event.number):
            check_unsigned(value, "a number")
        check_length(event.digest, DIGEST_BYTES, "digest")
        check_clock(event.clock)
        if len(event.detail) > DETAIL_MAX:
            raise Refused(Reason.OVERSIZE, f"a detail has at most {DETAIL_MAX} characters")


def _check_block(block: BlockEvents) -> None:
    check_length(block.header, HEADER_BYTES, "header")
    check_length(block.event_root, DIGEST_BYTES, "event root")
    check_clock(block.clock)
    if not 0 <= block.first <= block.end <= block.total <= FRAME_BYTES_MAX:
        raise Refused(Reason.MALFORMED, "a block's rows begin and end where there are none")
    count, rest = divmod(len(block.rows), ROW_BYTES)
    expected = (block.end - block.first, 0) if block.is_whole else (count, 4 * count)
    if rest or (count, len(block.indices)) != expected:
        raise Refused(Reason.MALFORMED, "a block's rows are not those that it says")
    places, rest = divmod(len(block.bundles), BUNDLE_PLACE_BYTES)
    if rest or places > BLOCK_BUNDLES_MAX:
        raise Refused(Reason.MALFORMED, "a block's list of bundles is of no possible length")
    if block.finalization is not None:
        check_certificate(block.finalization)
