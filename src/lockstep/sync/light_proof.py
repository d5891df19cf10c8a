"""Checking the proofs of answers. What is returned follows from the roots that a finalization signed, and from nothing
else; whether that finalization is to be trusted is `LightClient.check`'s business, which comes first."""

from typing import Any, Final

import numpy as np

from lockstep.base.digest import digest
from lockstep.base.errors import Reason, Refused
from lockstep.base.limits import BUNDLE_COMMANDS_MAX
from lockstep.ledger.manifest import TableEntry, layout_text
from lockstep.ledger.proof import verify_chunk, verify_manifest, verify_row_of
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.sync.light_walk import Answer, Row, walk
from lockstep.venue import schema
from lockstep.venue.event import EVENT, EventFlag
from lockstep.wire.block import Header, decode_payload
from lockstep.wire.bundle import HEADER as BUNDLE_HEADER
from lockstep.wire.light import AskOutcome, AskState, OutcomeReply, Piece, StateReply

_RECORDS_PER_CHUNK: Final = CHUNK_BYTES // EVENT.itemsize
Events = np.ndarray[Any, np.dtype[np.void]]


def check_state(asked: AskState, reply: StateReply, header: Header, state_root: bytes) -> Answer:
    """The proven answer to a query about the state after `header`; raises `Refused`."""
    manifest = verify_manifest(reply.manifest, state_root)
    entries = {entry.name: entry for entry in manifest.tables}
    rows: dict[tuple[str, int], Row] = {}
    for shown in reply.rows:
        entry = entries.get(shown.table)
        if entry is None:
            raise Refused(Reason.BAD_PROOF, f"the state has no table {shown.table!r}")
        rows[shown.table, shown.row] = _parse(entry, verify_row_of(entry, shown.row, shown.chunk, shown.path))
    used: dict[tuple[str, int], None] = {}

    def read(table: int, row: int) -> Row:
        key = schema.ROWS[table][0], row
        if key not in rows:
            raise Refused(Reason.BAD_PROOF, f"row {row} of table {key[0]} is not among the proven ones")
        used[key] = None
        return rows[key]

    answer = walk(asked.query, asked.number, asked.other, read)
    if len(used) != len(reply.rows):
        raise Refused(Reason.BAD_PROOF, "rows were shown that the answer does not follow from")
    if (answer.height, answer.time_ms) != (header.height, header.time_ms):
        raise Refused(Reason.BAD_PROOF, "the state is of another height than the header")
    return answer


def _parse(entry: TableEntry, raw: bytes) -> Row:
    dtype = dict(schema.ROWS).get(entry.name)
    if dtype is None or layout_text(dtype) != entry.layout:
        raise Refused(Reason.BAD_PROOF, f"table {entry.name} has another layout than this program knows")
    return np.frombuffer(raw, dtype)[0]


def check_outcome(asked: AskOutcome, reply: OutcomeReply, header: Header, event_root: bytes) -> Events:
    """The bundle's event rows, all of them, proven to be those of the block `header`; raises `Refused`."""
    if digest(reply.payload) != header.payload:
        raise Refused(Reason.BAD_PROOF, "the payload is not the one that the header names")
    digests = decode_payload(reply.payload).bundle_digests()
    place = len(reply.bundles) - 1
    if not 0 <= place < len(digests) or digests[place] != asked.bundle:
        raise Refused(Reason.BAD_PROOF, "the block does not have this bundle at this place")
    counts = [_commands(expected, piece) for expected, piece in zip(digests, reply.bundles, strict=False)]
    return _select(reply.events, event_root, sum(counts[:-1]), sum(counts))


def _commands(bundle: bytes, piece: Piece) -> int:
    """How many commands a bundle has: its first chunk says so."""
    if piece.number != 0 or len(piece.chunk) < BUNDLE_HEADER.size:
        raise Refused(Reason.BAD_PROOF, "a bundle's beginning is missing")
    verify_chunk(bundle, piece.length, 0, piece.chunk, piece.path)
    count = int(BUNDLE_HEADER.unpack_from(piece.chunk)[1])
    if not 1 <= count <= BUNDLE_COMMANDS_MAX:
        raise Refused(Reason.BAD_PROOF, f"a bundle cannot have {count} commands")
    return count


def _select(pieces: tuple[Piece, ...], event_root: bytes, begin: int, end: int) -> Events:
    """The rows of commands `begin` … `end` - 1. Rows are in order of command, and a command's outcome is its last: so
    they are complete when the row before them is an earlier command's, and the last one an outcome."""
    for place, piece in enumerate(pieces):
        if piece.number != pieces[0].number + place:
            raise Refused(Reason.BAD_PROOF, "the chunks of events do not follow each other")
        verify_chunk(event_root, piece.length, piece.number, piece.chunk, piece.path)
    joined = b"".join(piece.chunk for piece in pieces)
    if not pieces or len(joined) % EVENT.itemsize or any(len(p.chunk) != CHUNK_BYTES for p in pieces[:-1]):
        raise Refused(Reason.BAD_PROOF, "the events are not whole rows")
    rows = np.frombuffer(joined, EVENT)
    first, last = np.searchsorted(rows["command"], [begin, end]).tolist()
    if first == 0 and pieces[0].number != 0:
        raise Refused(Reason.BAD_PROOF, "events before the first one shown may be missing")
    chosen = rows[first:last]
    is_outcome = chosen["flags"] & EventFlag.OUTCOME != 0
    if chosen["command"][is_outcome].tolist() != list(range(begin, end)) or not is_outcome[-1]:
        raise Refused(Reason.BAD_PROOF, "not every command's one outcome is among the events")
    return chosen
