"""Believing final blocks that nodes tell only as far as a quorum signed them, from one line of trust on.

The set that decides the first block is found by a light client through the node that shows it, the others being its
witnesses; from there on the blocks themselves name the next set (`sync.signed_chain`).
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Final

from lockstep.base.errors import Reason, Refused
from lockstep.gateway.client import Client
from lockstep.gateway.light import Follower, NothingTrusted
from lockstep.sync.light_client import Dropped, Effect, LightClient
from lockstep.sync.light_shown import shown_set
from lockstep.sync.light_trust import TrustRoot
from lockstep.sync.signed_chain import SignedChain
from lockstep.wire.block import Header
from lockstep.wire.certificate import Finalization
from lockstep.wire.validators import ValidatorSet

ANSWER_SECONDS: Final = 5.0
LIES: Final = (
    Reason.BAD_CERTIFICATE, Reason.BAD_PROOF, Reason.BAD_SIGNATURE, Reason.MALFORMED, Reason.WRONG_CHAIN,
    Reason.WRONG_PARENT,
)  # fmt: skip
"""Refusals of what a node showed. Others pass: it is asked again."""


class StreamTrust:
    """One stream's."""

    def __init__(self, root: TrustRoot, addresses: Sequence[str]) -> None:
        """`addresses` of all nodes that are read."""
        self._root = root
        self._addresses = addresses
        self._chain = SignedChain()
        self._learning = asyncio.Lock()

    async def prove(self, client: Client, address: str, headers: Sequence[Header], final: Finalization) -> None:
        """Take consecutive headers, the last of which is signed. Raises `Refused` when the node lies, or can't show who
        decides."""
        await self._know(client, address, headers[-1])
        self._chain.prove(headers, final)

    async def signed_root(self, clients: Iterable[Client], header: Header) -> bytes | None:
        """The event root of a proven block whose finalization did not come with it, if one of these nodes has it."""
        for client in clients:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    final = (await client.light(header.height)).finalization
                if final is not None and final.block == header.digest:
                    self._chain.check(header, final)
                    return final.event_root
            except (OSError, TimeoutError, Refused):
                continue  # it is judged where it is read
        return None

    async def _know(self, client: Client, address: str, header: Header) -> None:
        async with self._learning:
            if header.chain_id != self._root.chain_id:
                raise Refused(Reason.WRONG_CHAIN, f"block {header.height} is of another chain")
            if self._chain.knows(header.validators):
                return
            learn = self._named if self._chain.names(header) else self._reached
            self._chain.trust(await learn(client, address, header))

    async def _named(self, client: Client, address: str, header: Header) -> ValidatorSet:
        """A proven block names the set by its hash: whoever shows the set needs no trust."""
        async with asyncio.timeout(ANSWER_SECONDS):
            reply = await client.light(header.height)
        if reply.finalization is None:
            raise Refused(Reason.NOT_READY, f"{address} does not show the validators of block {header.height}")
        return shown_set(reply.keys, reply.stakes, self._root.chain_id, header.validators)

    async def _reached(self, client: Client, address: str, header: Header) -> ValidatorSet:
        """The light client's rule leads from the line of trust to it."""
        others = [other for other in self._addresses if other != address]
        light = LightClient(self._root, 1 + len(others))
        dropped: list[str] = []

        def told(effect: Effect) -> None:
            if isinstance(effect, Dropped) and effect.source == 0:
                dropped.append(effect.why)

        follower = Follower(light, [address, *others], lambda: time.time_ns() // 1_000_000, told)
        try:
            await follower.follow(header.height if header.height > self._root.height else 0)
        except NothingTrusted as error:
            raise Refused(Reason.NOT_READY, "; ".join([*dropped, str(error)])) from error
        finally:
            await follower.close()
        validators = light.validators(header.validators)
        if validators is None:
            raise Refused(
                Reason.NOT_READY,
                f"trust does not reach the validators of block {header.height}: give a trust line that is not above it",
            )
        return validators
