"""An asyncio client of one node's client port.

The node's certificate is pinned: the client talks to that node or to nobody. Requests are pipelined. Every answer and
every pushed message goes to `on_message`, if given; the awaiting methods get theirs besides.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from lockstep.base.digest import digest as digest_of
from lockstep.base.errors import LockstepError, Refused
from lockstep.base.limits import FRAME_BYTES_MAX
from lockstep.runtime.address import parse_address
from lockstep.runtime.connection import Connection, Limits
from lockstep.runtime.tls import client_context
from lockstep.wire.bundle import Bundle
from lockstep.wire.client import (
    AccountReply,
    AskAccount,
    AskFate,
    AskStatus,
    AskValidators,
    ClientReply,
    ClientRequest,
    Fate,
    Goodbye,
    StatusReply,
    Submit,
    SubmitReply,
    SubmitSetChange,
    Subscribe,
    ValidatorsReply,
    decode_reply,
    encode_client,
)
from lockstep.wire.light import (
    AskGenesis,
    AskLight,
    AskOutcome,
    AskState,
    GenesisReply,
    LightAnswer,
    LightReply,
    OutcomeReply,
    Query,
    StateReply,
)
from lockstep.wire.stream import After, AskEvents, Behind, Clock, EventBatch

_LIMITS: Final = Limits(FRAME_BYTES_MAX, 64 * 1024 * 1024, bytes_per_second=1e12, frames_per_second=1e9)
Handler = Callable[[ClientReply], None]
_Answer = SubmitReply | Fate | AccountReply | StatusReply | ValidatorsReply | LightAnswer | EventBatch | Behind


class ConnectionGone(LockstepError):
    """The connection to the node is gone; the message says why, if the node said."""


class NotReached(LockstepError):
    """The node has not got so far as a request was to come after."""

    def __init__(self, behind: Behind) -> None:
        super().__init__(f"the node is at height {behind.height}, or has not heard what was seen elsewhere")
        self.behind = behind


class Client(Connection):
    """One connection. Made by `connect`."""

    def __init__(self, on_message: Handler | None = None) -> None:
        super().__init__(_LIMITS)
        self.gone = asyncio.Event()
        self.goodbye: Goodbye | None = None
        """Why the node closed the connection, if it said."""
        self._on_message = on_message
        self._waiting: dict[tuple[type, bytes | int], deque[asyncio.Future[_Answer]]] = {}
        self._is_flush_due = False
        self._tokens = 0

    # -- requests -------------------------------------------------------------------------------------

    def request(self, request: ClientRequest) -> bool:
        """Send without waiting; the answer goes to `on_message`. False when the connection is gone or its queue
        is full. What is sent in one turn of the event loop leaves together."""
        if not self.send(encode_client(request)):
            return False
        if not self._is_flush_due:
            self._is_flush_due = True
            self.loop.call_soon(self._flush_now)
        return True

    async def submit(self, bundle: Bundle) -> SubmitReply:
        """Hand in a bundle; the answer says whether it was taken. Raises `ConnectionGone`."""
        reply = await self._ask(Submit(bundle.raw), (SubmitReply, bundle.digest))
        assert isinstance(reply, SubmitReply)
        return reply

    async def fate(self, digest: bytes) -> Fate:
        """What became of a bundle. Raises `ConnectionGone`."""
        reply = await self._ask(AskFate(digest), (Fate, digest))
        assert isinstance(reply, Fate)
        return reply

    async def account(self, account: int) -> AccountReply:
        """An account's next sequence. Raises `ConnectionGone`."""
        reply = await self._ask(AskAccount(account), (AccountReply, account))
        assert isinstance(reply, AccountReply)
        return reply

    async def status(self) -> StatusReply:
        """How the node is. Raises `ConnectionGone`."""
        reply = await self._ask(AskStatus(), (StatusReply, 0))
        assert isinstance(reply, StatusReply)
        return reply

    async def submit_change(self, raw: bytes) -> SubmitReply:
        """Hand in an approved change of validators; the answer says whether it was taken. Raises `ConnectionGone`."""
        reply = await self._ask(SubmitSetChange(raw), (SubmitReply, digest_of(raw)))
        assert isinstance(reply, SubmitReply)
        return reply

    async def validators(self) -> ValidatorsReply:
        """Who decides, as this node says. Raises `ConnectionGone`."""
        reply = await self._ask(AskValidators(), (ValidatorsReply, 0))
        assert isinstance(reply, ValidatorsReply)
        return reply

    async def light(self, height: int) -> LightReply:
        """The finalization of a height (0: the newest), unchecked. Raises `ConnectionGone`."""
        request = AskLight(self._token(), height)
        reply = await self._ask(request, (LightReply, request.token))
        assert isinstance(reply, LightReply)
        return reply

    async def state(self, query: Query, number: int, other: int = 0) -> tuple[AskState, StateReply]:
        """Rows that answer a query, and the question itself, unchecked. Raises `ConnectionGone`."""
        request = AskState(self._token(), query, number, other)
        reply = await self._ask(request, (StateReply, request.token))
        assert isinstance(reply, StateReply)
        return request, reply

    async def outcome(self, bundle: bytes) -> tuple[AskOutcome, OutcomeReply]:
        """A bundle's outcome with its proof, and the question itself, unchecked. Raises `ConnectionGone`."""
        request = AskOutcome(self._token(), bundle)
        reply = await self._ask(request, (OutcomeReply, request.token))
        assert isinstance(reply, OutcomeReply)
        return request, reply

    async def genesis(self) -> bytes:
        """The genesis file, unchecked: its digest must be the chain id. Raises `ConnectionGone`."""
        request = AskGenesis(self._token())
        reply = await self._ask(request, (GenesisReply, request.token))
        assert isinstance(reply, GenesisReply)
        return reply.raw

    def _token(self) -> int:
        self._tokens += 1
        return self._tokens

    async def events(
        self, place: tuple[int, int, int], row: int = 0, accounts: tuple[int, ...] = (), wait_ms: int = 0
    ) -> EventBatch:
        """What is final, and what the node said, from `place` (height, epoch, sequence) on, unchecked. Raises
        `ConnectionGone`."""
        height, epoch, sequence = place
        request = AskEvents(self._token(), height, row, epoch, sequence, accounts, wait_ms)
        reply = await self._ask(request, (EventBatch, request.token))
        assert isinstance(reply, EventBatch)
        return reply

    async def after(
        self, height: int, clock: Clock, request: AskFate | AskAccount | Submit
    ) -> SubmitReply | Fate | AccountReply:
        """Have a request carried out after what was seen elsewhere. Raises `NotReached` when the node has not got so
        far, `ConnectionGone`."""
        key: tuple[type, bytes | int]
        match request:
            case Submit():
                key = SubmitReply, Bundle(request.raw).digest
            case AskFate():
                key = Fate, request.digest
            case AskAccount():
                key = AccountReply, request.account
        token = self._token()
        answered, behind = self._expect(key), self._expect((Behind, token))
        if not self.request(After(token, height, clock, encode_client(request))):
            raise ConnectionGone(self._why())
        await asyncio.wait((answered, behind), return_when=asyncio.FIRST_COMPLETED)
        if behind.done():
            self._forget(key, answered)
            late = behind.result()
            assert isinstance(late, Behind)
            raise NotReached(late)
        self._forget((Behind, token), behind)
        reply = answered.result()
        assert isinstance(reply, SubmitReply | Fate | AccountReply)
        return reply

    def subscribe(self, outcomes: bool = False, blocks: bool = False) -> bool:
        """Be told the fate of each bundle submitted from now on here, and of each final block."""
        return self.request(Subscribe(outcomes, blocks))

    async def disconnect(self) -> None:
        """Close, and wait until it is."""
        self.close()
        await self.gone.wait()

    async def _ask(self, request: ClientRequest, key: tuple[type, bytes | int]) -> _Answer:
        if not self.request(request):
            raise ConnectionGone(self._why())
        return await self._expect(key)

    def _expect(self, key: tuple[type, bytes | int]) -> "asyncio.Future[_Answer]":
        future: asyncio.Future[_Answer] = self.loop.create_future()
        self._waiting.setdefault(key, deque()).append(future)
        return future

    def _forget(self, key: tuple[type, bytes | int], future: "asyncio.Future[_Answer]") -> None:
        """Nobody waits for this any more."""
        waiting = self._waiting.get(key)
        if waiting is not None and future in waiting:
            waiting.remove(future)
            if not waiting:
                del self._waiting[key]
        future.cancel()

    def _flush_now(self) -> None:
        self._is_flush_due = False
        self.flush()

    # -- what the node says ---------------------------------------------------------------------------

    def received(self, body: bytes | memoryview) -> None:
        """A message from the node; raises `Refused` when it is none."""
        message = decode_reply(bytes(body))
        if isinstance(message, Goodbye):
            self.goodbye = message
        else:
            self._answer(message)
        if self._on_message is not None:
            self._on_message(message)

    def _answer(self, message: ClientReply) -> None:
        key: tuple[type, bytes | int]
        match message:
            case SubmitReply() | Fate():
                key = type(message), message.digest
            case AccountReply():
                key = AccountReply, message.account
            case StatusReply() | ValidatorsReply():
                key = type(message), 0
            case LightReply() | StateReply() | OutcomeReply() | GenesisReply() | EventBatch() | Behind():
                key = type(message), message.token
            case _:
                return
        waiting = self._waiting.get(key)
        if waiting is None:
            return
        future = waiting.popleft()
        if not waiting:
            del self._waiting[key]
        if not future.done():
            future.set_result(message)

    def refused(self, refused: Refused) -> None:
        """The node sent something that is no message of ours."""
        self.goodbye = Goodbye(refused.reason.value, refused.detail)
        self.abort()

    def closed(self) -> None:
        """The connection is gone."""
        self.gone.set()
        error = ConnectionGone(self._why())
        for waiting in self._waiting.values():
            for future in waiting:
                if not future.done():
                    future.set_exception(error)
        self._waiting.clear()

    def _why(self) -> str:
        if self.goodbye is None:
            return "the connection to the node is gone"
        return f"the node closed the connection: {self.goodbye.reason}: {self.goodbye.detail}"


async def connect(
    address: str, certificate: bytes | None, on_message: Handler | None = None, timeout_seconds: float = 5.0
) -> Client:
    """Connect to the node at `host:port` that has this certificate (DER; None: whoever answers, for a light client).
    Raises `OSError`, `TimeoutError` among it."""
    host, port = parse_address(address)
    async with asyncio.timeout(timeout_seconds):
        _, client = await asyncio.get_running_loop().create_connection(
            lambda: Client(on_message), host, port, ssl=client_context(certificate), server_hostname=host
        )
    return client
