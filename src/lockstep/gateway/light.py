"""Following a chain over the network with a light client, and asking it questions whose answers are proven.

Connections are to whoever answers: what comes is checked, and a source that lies, or stays away, is dropped.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from lockstep.base.digest import digest
from lockstep.base.errors import LockstepError, Reason, Refused
from lockstep.gateway.client import Client, connect
from lockstep.sync.light_client import Adopted, Agreed, Answered, Ask, Effect, Event, Failed, Follow, LightClient
from lockstep.sync.light_proof import Events, check_outcome, check_state
from lockstep.sync.light_walk import Answer
from lockstep.wire.block import Header, decode_header
from lockstep.wire.certificate import Finalization
from lockstep.wire.genesis import Genesis, decode_genesis
from lockstep.wire.light import AskOutcome, AskState, OutcomeReply, Query, StateReply

TIMEOUT_SECONDS: Final = 5.0
TRIES: Final = 3
RETRY_SECONDS: Final = 0.2
_PASSING: Final = (Reason.BUSY.value, Reason.NOT_READY.value)
R = TypeVar("R")
T = TypeVar("T")
A = TypeVar("A", tuple[AskState, StateReply], tuple[AskOutcome, OutcomeReply])


class NothingTrusted(LockstepError):
    """No source is left that could be believed, or the chain has forked; the message says which."""


@dataclass(frozen=True, slots=True)
class Proof:
    """Under what an answer is proven."""

    header: Header
    finalization: Finalization


class Follower:
    """One light client and its sources."""

    def __init__(
        self,
        light: LightClient,
        addresses: Sequence[str],
        now_ms: Callable[[], int],
        told: Callable[[Effect], None] = lambda _: None,
    ) -> None:
        """`addresses` by source; `told` hears what the light client has found."""
        self.light = light
        self._addresses = list(addresses)
        self._now_ms = now_ms
        self._told = told
        self._clients: dict[int, Client] = {}
        self._genesis: Genesis | None = None
        self.agreeing: dict[int, None] = {}
        """Witnesses that have the newest trusted header too."""

    async def follow(self, height: int = 0) -> None:
        """Look for something newer (at `height`, if that is given), and hear the witnesses. Raises `NothingTrusted`."""
        await self._step(Follow(height))
        self._require()

    async def close(self) -> None:
        """Leave all sources."""
        for client in self._clients.values():
            await client.disconnect()
        self._clients.clear()

    # -- questions -----------------------------------------------------------------------------------

    async def state(self, query: Query, number: int, other: int = 0) -> tuple[Answer, Proof]:
        """A proven answer from the state. Raises `NothingTrusted`, and `Refused` when the node will not answer."""

        async def fetch(client: Client) -> tuple[AskState, StateReply]:
            return _answered(await client.state(query, number, other))

        async def check(answer: tuple[AskState, StateReply]) -> tuple[Answer, Proof]:
            asked, reply = answer
            proof = await self._trust(reply.header, reply.finalization)
            return check_state(asked, reply, proof.header, proof.finalization.state_root), proof

        return await self._ask(fetch, check)

    async def outcome(self, bundle: bytes) -> tuple[Events, Proof]:
        """A final bundle's event rows. Raises `NothingTrusted`, and `Refused` when the node has none to show."""

        async def fetch(client: Client) -> tuple[AskOutcome, OutcomeReply]:
            return _answered(await client.outcome(bundle))

        async def check(answer: tuple[AskOutcome, OutcomeReply]) -> tuple[Events, Proof]:
            asked, reply = answer
            proof = await self._trust(reply.header, reply.finalization)
            return check_outcome(asked, reply, proof.header, proof.finalization.event_root), proof

        return await self._ask(fetch, check)

    async def genesis(self) -> Genesis:
        """The chain's genesis: its digest is the chain id that is trusted."""

        async def fetch(client: Client) -> bytes:
            raw = await client.genesis()
            if not raw:
                raise _Unanswered("the genesis is too large to be sent: name instruments by number")
            return raw

        async def check(raw: bytes) -> Genesis:
            if digest(raw) != self.light.chain_id:
                raise Refused(Reason.BAD_PROOF, "the genesis is another chain's")
            return decode_genesis(raw)

        if self._genesis is None:
            self._genesis = await self._ask(fetch, check)
        return self._genesis

    # -- inside --------------------------------------------------------------------------------------

    async def _ask(self, fetch: Callable[[Client], Awaitable[R]], check: Callable[[R], Awaitable[T]]) -> T:
        """Ask the primary and check what it says; when it lies or is gone, the next."""
        while True:
            self._require()
            source = self.light.sources[0]
            try:
                return await check(await self._try(source, fetch))
            except _Unanswered as unanswered:
                raise Refused(Reason.NOT_READY, f"the node has no proof to show: {unanswered}") from unanswered
            except (LockstepError, OSError) as error:
                self._leave(source)
                await self._step(Failed(source, str(error) or "it does not answer"))

    async def _try(self, source: int, question: Callable[[Client], Awaitable[T]]) -> T:
        """Lies are final; what may pass is tried again."""
        for attempt in range(TRIES):
            try:
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    return await question(await self._client(source))
            except Refused:
                raise
            except _Unanswered as unanswered:
                if str(unanswered) not in _PASSING or attempt == TRIES - 1:
                    raise
            except (LockstepError, OSError):
                self._leave(source)
                if attempt == TRIES - 1:
                    raise
            await asyncio.sleep(RETRY_SECONDS * (attempt + 1))
        raise AssertionError("the last attempt returns or raises")

    async def _trust(self, raw: bytes, finalization: Finalization | None) -> Proof:
        """Check the header that a proof is about, and hear the witnesses when it is new."""
        assert finalization is not None
        header = decode_header(raw)
        try:
            effects = self.light.check(header, finalization, self._now_ms())
        except Refused as refused:
            if refused.reason is not Reason.NOT_READY:
                raise
            await self._step(Follow())  # the validators have changed meanwhile
            self._require()
            effects = self.light.check(header, finalization, self._now_ms())
        await self._carry(effects)
        self._require()
        return Proof(header, finalization)

    async def _step(self, event: Event) -> None:
        await self._carry(self.light.step(event, self._now_ms()))

    async def _carry(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Adopted):
                self.agreeing.clear()
            elif isinstance(effect, Agreed) and not effect.is_behind:
                self.agreeing[effect.source] = None
            if not isinstance(effect, Ask):
                self._told(effect)
        for event in await asyncio.gather(*(self._question(ask) for ask in effects if isinstance(ask, Ask))):
            await self._step(event)

    async def _question(self, ask: Ask) -> Event:
        try:
            reply = await self._try(ask.source, lambda client: client.light(ask.height))
            return Answered(ask.source, ask.height, reply)
        except (LockstepError, OSError) as error:
            self._leave(ask.source)
            return Failed(ask.source, str(error) or "it does not answer")

    async def _client(self, source: int) -> Client:
        client = self._clients.get(source)
        if client is None or client.gone.is_set():
            client = self._clients[source] = await connect(self._addresses[source], None)
        return client

    def _leave(self, source: int) -> None:
        client = self._clients.pop(source, None)
        if client is not None:
            client.abort()

    def _require(self) -> None:
        if self.light.fork is not None:
            raise NothingTrusted("the chain has forked: two finalizations contradict each other; nothing is shown")
        if not self.light.sources:
            raise NothingTrusted("no node is left that gives proofs; name others with --node and --witness")


def _answered(answer: A) -> A:
    if answer[1].finalization is None:
        raise _Unanswered(answer[1].reason)
    return answer


class _Unanswered(Exception):
    """The node answered that it has no proof; the text is its reason."""
