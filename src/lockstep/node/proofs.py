"""Proven answers for light clients.

A row is proven under the root of the block that was executed last, because that is what the trees in memory are of.
The answer then waits until that block is final with a certificate of its own. When it is displaced, or final only
through a later block, the proof is made again (see docs/decisions/0012-proofs-wait-for-their-certificate.md).
"""

from typing import Final

from msgspec.structs import replace

from lockstep.base.errors import Reason
from lockstep.node.context import Context
from lockstep.node.effects import Prove, Reply, ServeProof
from lockstep.node.events import Proved, Question
from lockstep.sync.light_shown import light_reply
from lockstep.wire.block import Header
from lockstep.wire.certificate import Finalization
from lockstep.wire.light import (
    PROOF_BYTES_MAX,
    AskGenesis,
    AskLight,
    AskOutcome,
    AskState,
    GenesisReply,
    LightReply,
    LightRequest,
    OutcomeReply,
    StateReply,
)
from lockstep.wire.validators import ValidatorSet

WAITING_MAX: Final = 64
"""Queries being proven, or waiting for a certificate. One beyond it is told `busy`: the executor makes the proofs."""
WAITING_PER_CLIENT_MAX: Final = 8
ATTEMPTS_MAX: Final = 8
SETS_MAX: Final = 4
_NO_HEADER: Final = b""


class Proofs:
    """Queries on their way, and the newest certified block."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._newest: tuple[Header, Finalization] | None = None
        self._waiting: dict[bytes, list[Proved]] = {}
        self._asking: dict[int, int] = {}
        """Queries that are not answered yet, by client."""
        self._genesis: bytes | None = None
        self._sets: dict[bytes, ValidatorSet] = {}
        """The sets of the present epoch and the ones before and after it, by hash."""
        self._learn()

    def ask(self, client: int, request: LightRequest) -> None:
        """A light client asks."""
        match request:
            case AskLight():
                self._light(client, request)
            case AskState():
                self._state(client, request)
            case AskOutcome():
                if self._ctx.pool.get(request.bundle) is not None:
                    self._reply(client, OutcomeReply(request.token, "pending", _NO_HEADER, None, b"", (), ()))
                else:
                    self._serve(client, request)
            case AskGenesis():
                self._reply(client, GenesisReply(request.token, self._genesis_file()))

    def proved(self, event: Proved) -> None:
        """Rows were proven."""
        if self._newest is not None and self._newest[0].digest == event.block:
            self._answer(event, *self._newest)
        elif event.height > self._ctx.tree.root.height or self._newest is None:
            self._waiting.setdefault(event.block, []).append(event)
        else:
            self._again(event)

    def final(self, header: Header, certificate: Finalization | None) -> None:
        """A block is final; `certificate` if it has its own."""
        if header.next_validators not in self._sets:
            self._learn()
        if certificate is not None and certificate.block == header.digest:
            self._newest = header, certificate
            for event in self._waiting.pop(header.digest, ()):
                self._answer(event, header, certificate)
        late = [block for block, events in self._waiting.items() if events[0].height <= header.height]
        for block in late:
            for event in self._waiting.pop(block):
                self._again(event)

    def _learn(self) -> None:
        roster = self._ctx.roster
        for validators in (roster.validators, roster.next_set):
            self._sets[validators.hash] = validators
        while len(self._sets) > SETS_MAX:
            del self._sets[next(iter(self._sets))]

    def _genesis_file(self) -> bytes:
        """Its bytes, encoded once; nothing when they do not fit in a reply."""
        if self._genesis is None:
            raw = self._ctx.genesis.encode()
            self._genesis = raw if len(raw) <= PROOF_BYTES_MAX else b""
        return self._genesis

    def _light(self, client: int, request: AskLight) -> None:
        if self._newest is None or request.height > self._newest[0].height:
            self._reply(client, LightReply(request.token, (), None, b"", ()))
        elif request.height in (0, self._newest[0].height):
            header, certificate = self._newest
            self._reply(client, light_reply(request.token, (header.encode(),), certificate, self._sets.get))
        else:
            self._serve(client, request)

    def _state(self, client: int, request: AskState) -> None:
        asking = self._asking.get(client, 0)
        is_busy = asking >= WAITING_PER_CLIENT_MAX or sum(self._asking.values()) >= WAITING_MAX
        if self._ctx.halted or is_busy:
            self._refuse(client, request, Reason.HALTED if self._ctx.halted else Reason.BUSY)
            return
        self._asking[client] = asking + 1
        self._ctx.out.append(Prove(Question(client, request, 1)))

    def _again(self, event: Proved) -> None:
        asked = event.question
        if asked.attempt >= ATTEMPTS_MAX:
            self._done(asked.client)
            self._refuse(asked.client, asked.request, Reason.NOT_READY)
        else:
            self._ctx.out.append(Prove(replace(asked, attempt=asked.attempt + 1)))

    def _answer(self, event: Proved, header: Header, certificate: Finalization) -> None:
        asked = event.question
        self._done(asked.client)
        reply = StateReply(asked.request.token, "", header.encode(), certificate, event.manifest, event.rows)
        self._reply(asked.client, reply)

    def _done(self, client: int) -> None:
        left = self._asking.pop(client, 0) - 1
        if left > 0:
            self._asking[client] = left

    def _serve(self, client: int, request: AskLight | AskOutcome) -> None:
        final = self._ctx.tree.root.height
        self._ctx.out.append(ServeProof(client, request, final))

    def _refuse(self, client: int, request: AskState, reason: Reason) -> None:
        self._reply(client, StateReply(request.token, reason.value, _NO_HEADER, None, b"", ()))

    def _reply(self, client: int, message: LightReply | StateReply | OutcomeReply | GenesisReply) -> None:
        self._ctx.out.append(Reply(client, message))
