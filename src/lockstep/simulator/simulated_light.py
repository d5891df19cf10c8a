"""Answers for light clients from a simulated node's disk, as `runtime.light_serving` gives them from a real one."""

from collections.abc import Callable

import msgspec

from lockstep.log.reader import LogReader
from lockstep.node.effects import ServeProof
from lockstep.node.prover import prove_outcome
from lockstep.node.record import decode_record, stored_block
from lockstep.node.retention import pruned_text
from lockstep.simulator.simulated_store import SimulatedStore
from lockstep.sync.light_shown import show
from lockstep.wire.certificate import Finalization
from lockstep.wire.light import AskLight, AskOutcome, LightReply, OutcomeReply
from lockstep.wire.message import ChainBlock
from lockstep.wire.validators import ValidatorSet

_blocks = msgspec.msgpack.Decoder(ChainBlock)


class SimulatedLight:
    """Reads the log where the store's index says; `events` are a final block's event rows, by height; `known` validator
    sets, by their hash."""

    def __init__(
        self, log: LogReader, store: SimulatedStore, events: Callable[[int], bytes],
        known: Callable[[bytes], ValidatorSet | None],
    ) -> None:  # fmt: skip
        self._log = log
        self._store = store
        self._events = events
        self._known = known

    def answer(self, effect: ServeProof) -> LightReply | OutcomeReply:
        """The reply to a request."""
        if isinstance(effect.request, AskLight):
            return show(effect.request, self._header, effect.final_height, self._known, self._store.lowest_header)
        return self._outcome(effect.request)

    def _header(self, height: int) -> tuple[bytes, Finalization | None]:
        place = self._store.header(height)
        if place is None:
            return b"", None
        return self._block(place.block).header, self._finalization(place.certificate) if place.certificate else None

    def _outcome(self, request: AskOutcome) -> OutcomeReply:
        fate = self._store.fate(request.bundle)
        place = None if fate is None else self._store.block(fate.height)
        events = b"" if fate is None else self._events(fate.height)
        if fate is None or place is None or not place.certificate or not events:
            lowest = self._store.lowest
            reason = "uncertified" if place is not None else pruned_text(lowest) if lowest > 1 else "unknown"
            return OutcomeReply(request.token, reason, b"", None, b"", (), ())
        stored = stored_block(self._block(place.block))
        final = self._finalization(place.certificate)
        return prove_outcome(request, stored, final, fate.place, events, fate.first, fate.events)

    def _block(self, position: int) -> ChainBlock:
        return _blocks.decode(memoryview(self._log.read(position))[1:])

    def _finalization(self, position: int) -> Finalization:
        record = decode_record(self._log.read(position))
        assert isinstance(record, Finalization)
        return record
