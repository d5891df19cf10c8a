"""What a light client asks a node, and the proofs that it gets; `AskLight` is also asked by nodes that fetch a state.
Nothing in an answer is believed: every part leads by hashes to a finalization, and that to a validator set that the
asker trusts.

`token` is the asker's own number for the question and comes back with the answer.
"""

from enum import IntEnum
from typing import Final

import msgspec

from lockstep.base.digest import DIGEST_BYTES
from lockstep.base.errors import Reason, Refused
from lockstep.base.keys import PUBLIC_KEY_BYTES
from lockstep.base.limits import FRAME_BYTES_MAX, VALIDATORS_MAX
from lockstep.wire.block import HEADER_BYTES
from lockstep.wire.certificate import Finalization, check_certificate
from lockstep.wire.codec import check_length, check_unsigned

HEADERS_PER_REPLY_MAX: Final = 64
"""From a height that has no finalization of its own up to the next that has: with honest validators a handful."""
ROWS_PER_PROOF_MAX: Final = 80
PROOF_BYTES_MAX: Final = FRAME_BYTES_MAX // 2
_PATH_BYTES_MAX: Final = 32 * DIGEST_BYTES
_CHUNK_BYTES: Final = 1024


class Query(IntEnum):
    """What a state proof is about, and what `number` and `other` mean."""

    ACCOUNT = 1
    """number: the account."""
    POSITION = 2
    """number: the account; other: the instrument."""
    ORDER = 3
    """number: the order id."""
    PRICE = 4
    """number: the instrument."""


class AskLight(msgspec.Struct, frozen=True, array_like=True, tag=7, forbid_unknown_fields=True):
    """The finalization of this height (0: the newest), or of the next one above it that has its own."""

    token: int
    height: int


class AskState(msgspec.Struct, frozen=True, array_like=True, tag=8, forbid_unknown_fields=True):
    """Rows of the state that answer a `Query`, proven at a certified height."""

    token: int
    query: int
    number: int
    other: int


class AskOutcome(msgspec.Struct, frozen=True, array_like=True, tag=9, forbid_unknown_fields=True):
    """The outcome records of a bundle, proven under its block's event root."""

    token: int
    bundle: bytes


class AskGenesis(msgspec.Struct, frozen=True, array_like=True, tag=10, forbid_unknown_fields=True):
    """The genesis file. Its digest is the chain id."""

    token: int


class LightReply(msgspec.Struct, frozen=True, array_like=True, tag=17, forbid_unknown_fields=True):
    """Headers from the height asked for up to the certified one (usually one), its finalization, and the validators
    that decided it; where the header names others for its child, those too. Nothing in it: there is no certified block
    at or above that height yet, or the height is pruned."""

    token: int
    headers: tuple[bytes, ...]
    finalization: Finalization | None
    keys: bytes
    """Public keys of the validators, 32 bytes each."""
    stakes: tuple[int, ...]
    lowest: int = 1
    """The node has pruned the headers below this height."""
    next_keys: bytes = b""
    next_stakes: tuple[int, ...] = ()


class ShownRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A row of a table: its chunk, and the chunk's path to the table's hash."""

    table: str
    row: int
    chunk: bytes
    path: bytes


class StateReply(msgspec.Struct, frozen=True, array_like=True, tag=18, forbid_unknown_fields=True):
    """Rows under the state root of a certified block; with `reason`, why there are none."""

    token: int
    reason: str
    header: bytes
    finalization: Finalization | None
    manifest: bytes
    rows: tuple[ShownRow, ...]


class Piece(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A chunk of a byte string with a known BLAKE3 hash, and its path."""

    length: int
    """Bytes of the whole string."""
    number: int
    chunk: bytes
    path: bytes


class OutcomeReply(msgspec.Struct, frozen=True, array_like=True, tag=19, forbid_unknown_fields=True):
    """A final bundle's outcome. `reason` says why there is none: pending, unknown, pruned below a height,
    uncertified, oversize.

    `bundles` are the first chunks of the block's bundles up to this one: they say how many commands come before it.
    `events` are the chunks of the block's event rows that hold this bundle's, and the record before them.
    """

    token: int
    reason: str
    header: bytes
    finalization: Finalization | None
    payload: bytes
    bundles: tuple[Piece, ...]
    events: tuple[Piece, ...]


class GenesisReply(msgspec.Struct, frozen=True, array_like=True, tag=20, forbid_unknown_fields=True):
    """The genesis file's bytes; none when they are more than 4 MiB."""

    token: int
    raw: bytes


LightRequest = AskLight | AskState | AskOutcome | AskGenesis
LightAnswer = LightReply | StateReply | OutcomeReply | GenesisReply


def check_light_request(request: LightRequest) -> None:
    """Bound every field; raises `Refused`."""
    check_unsigned(request.token, "token")
    match request:
        case AskLight():
            check_unsigned(request.height, "height")
        case AskState():
            check_unsigned(request.number, "number")
            check_unsigned(request.other, "other")
            if request.query not in list(Query):
                raise Refused(Reason.MALFORMED, f"there is no query {request.query}")
        case AskOutcome():
            check_length(request.bundle, DIGEST_BYTES, "digest")
        case _:
            pass


def check_light_answer(answer: LightAnswer) -> None:
    """Bound every field, before any work is spent; raises `Refused`."""
    match answer:
        case LightReply():
            _check_count(len(answer.headers), HEADERS_PER_REPLY_MAX, "headers")
            check_unsigned(answer.lowest, "lowest height")
            for keys, stakes in ((answer.keys, answer.stakes), (answer.next_keys, answer.next_stakes)):
                _check_count(len(stakes), VALIDATORS_MAX, "validators")
                check_length(keys, PUBLIC_KEY_BYTES * len(stakes), "the list of keys")
                for stake in stakes:
                    check_unsigned(stake, "stake")
            _check_certified(answer.finalization, *answer.headers)
        case StateReply():
            _check_count(len(answer.rows), ROWS_PER_PROOF_MAX, "rows")
            for row in answer.rows:
                check_unsigned(row.row, "row")
                _check_chunk(row.chunk, row.path)
            _check_certified(answer.finalization, answer.header)
        case OutcomeReply():
            for piece in (*answer.bundles, *answer.events):
                check_unsigned(piece.length, "length")
                check_unsigned(piece.number, "chunk number")
                _check_chunk(piece.chunk, piece.path)
            _check_certified(answer.finalization, answer.header)
        case _:
            pass


def _check_certified(finalization: Finalization | None, *headers: bytes) -> None:
    if finalization is not None:
        check_certificate(finalization)
        for header in headers:
            check_length(header, HEADER_BYTES, "header")


def _check_chunk(chunk: bytes, path: bytes) -> None:
    if len(chunk) > _CHUNK_BYTES or len(path) > _PATH_BYTES_MAX:
        raise Refused(Reason.OVERSIZE, "a chunk or its path is too long")


def _check_count(count: int, limit: int, what: str) -> None:
    if count > limit:
        raise Refused(Reason.OVERSIZE, f"{count} {what} are more than {limit}")
