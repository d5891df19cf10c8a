"""Making proofs: of rows, from the executor's newest sealed state; of outcomes, from a stored block and its events."""

from lockstep.base.digest import DIGEST_BYTES
from lockstep.ledger.proof import prove_chunks
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.node.events import Proved, Question
from lockstep.node.executor import Executor
from lockstep.node.record import StoredBlock
from lockstep.sync.light_walk import Row, walk
from lockstep.venue.event import EVENT
from lockstep.wire.certificate import Finalization
from lockstep.wire.light import PROOF_BYTES_MAX, AskOutcome, OutcomeReply, Piece, ShownRow


def prove(executor: Executor, question: Question) -> Proved:
    """The rows that answer a query, proven under the root of the block that was executed last."""
    venue, request = executor.venue, question.request
    rows: dict[tuple[int, int], None] = {}

    def read(table: int, row: int) -> Row:
        rows[table, row] = None
        return venue.rows(table)[row]

    walk(request.query, request.number, request.other, read)
    shown = tuple(ShownRow(p.table, p.row, p.chunk, p.path) for p in venue.ledger.prove_rows(rows))
    block, height = executor.top
    return Proved(question, block, height, venue.ledger.manifest(), shown)


def prove_outcome(
    asked: AskOutcome, stored: StoredBlock, certificate: Finalization, place: int, events: bytes, first: int, count: int
) -> OutcomeReply:
    """The outcome of the bundle at `place`, whose rows are `count` of the block's `events` from row `first` on."""
    bundles = tuple(
        Piece(len(bundle.raw), 0, *prove_chunks(bundle.raw, [0])[0]) for bundle in stored.bundles[: place + 1]
    )
    begin = max(first - 1, 0) * EVENT.itemsize // CHUNK_BYTES
    numbers = range(begin, -(-(first + count) * EVENT.itemsize // CHUNK_BYTES))
    chunks = prove_chunks(events, numbers)
    header, payload = stored.block.header, stored.block.payload
    pieces = tuple(Piece(len(events), n, *chunk) for n, chunk in zip(numbers, chunks, strict=True))
    size = sum(len(piece.chunk) + len(piece.path) + DIGEST_BYTES for piece in (*bundles, *pieces))
    if size > PROOF_BYTES_MAX:
        return OutcomeReply(asked.token, "oversize", b"", None, b"", (), ())
    return OutcomeReply(asked.token, "", header.encode(), certificate, payload.encode(), bundles, pieces)
