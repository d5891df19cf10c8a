"""Answers for light clients from the disk: older finalizations, and outcomes with their proofs."""

from collections.abc import Callable

import msgspec

from lockstep.base.errors import StorageFailed
from lockstep.log.reader import LogReader
from lockstep.node.effects import ServeProof
from lockstep.node.prover import prove_outcome
from lockstep.node.record import StoredBlock, decode_record, stored_block
from lockstep.node.retention import pruned_text
from lockstep.runtime.history import HistoryReader
from lockstep.runtime.index import Index
from lockstep.sync.light_shown import show
from lockstep.wire.certificate import Finalization
from lockstep.wire.light import AskLight, AskOutcome, LightReply, OutcomeReply
from lockstep.wire.message import ChainBlock
from lockstep.wire.validators import ValidatorSet

_blocks = msgspec.msgpack.Decoder(ChainBlock)
_finalizations = msgspec.msgpack.Decoder(Finalization)


class LightServing:
    """Reads with the serving thread's readers."""

    def __init__(
        self, log: LogReader, history: HistoryReader, index: Index, known: Callable[[bytes], ValidatorSet | None]
    ) -> None:
        """`known`: validator sets by their hash."""
        self._known = known
        self._log = log
        self._history = history
        self._index = index

    def answer(self, effect: ServeProof) -> LightReply | OutcomeReply:
        """The reply to a request."""
        if isinstance(effect.request, AskLight):
            lowest = self._index.lowest().headers
            return show(effect.request, self.header, effect.final_height, self._known, lowest)
        return self._outcome(effect.request)

    def header(self, height: int) -> tuple[bytes, Finalization | None]:
        """The header at a height (empty: it is not here) and its finalization, if it has one of its own."""
        place = self._index.block(height)
        if place is not None:
            final = self._finalization(place.certificate) if place.certificate else None
            return self._block(place.block).header, final
        kept = self._index.header(height)
        if kept is None:
            return b"", None
        return kept.header, _finalizations.decode(kept.finalization) if kept.finalization else None

    def _outcome(self, request: AskOutcome) -> OutcomeReply:
        fate = self._index.fate(request.bundle)
        place = None if fate is None else self._index.block(fate.height)
        if fate is None or place is None or not place.certificate:
            lowest = self._index.lowest().blocks
            reason = "uncertified" if place is not None else pruned_text(lowest) if lowest > 1 else "unknown"
            return OutcomeReply(request.token, reason, b"", None, b"", (), ())
        stored: StoredBlock = stored_block(self._block(place.block))
        events = self._history.events(place.history, fate.height)
        certificate = self._finalization(place.certificate)
        return prove_outcome(request, stored, certificate, fate.place, events, fate.first, fate.events)

    def _block(self, position: int) -> ChainBlock:
        return _blocks.decode(memoryview(self._log.read(position))[1:])

    def _finalization(self, position: int) -> Finalization:
        record = decode_record(self._log.read(position))
        if not isinstance(record, Finalization):
            raise StorageFailed(f"the index says that a finalization is at position {position} of the log; it is not")
        return record
