"""A session over several nodes: reads never go back, and what was written through one node is seen through another
(read your writes, monotonic reads, writes follow reads, monotonic writes; Terry et al., PDIS 1994).

What was seen is a token: a final height, and a point of each node that said something. Each request carries it; a node
that is not there yet waits a moment, or says that it is behind, and the caller asks another.
"""

from dataclasses import dataclass

from lockstep.gateway.client import Client
from lockstep.wire.bundle import Bundle
from lockstep.wire.client import AccountReply, AskAccount, AskFate, Fate, Submit, SubmitReply
from lockstep.wire.stream import Clock, Point, clock_of


@dataclass(slots=True)
class Session:
    """What one reader or writer has seen so far, anywhere."""

    height: int = 0
    clock: Clock = ()

    def saw(self, height: int, clock: Clock = ()) -> None:
        """Take in what was seen."""
        self.height = max(self.height, height)
        self.clock = clock_of([*self.clock, *clock])

    async def submit(self, client: Client, bundle: Bundle) -> SubmitReply:
        """Hand in a bundle, after everything seen. A node that is behind refuses it as `behind`, and it has no fate."""
        reply = await client.after(self.height, self.clock, Submit(bundle.raw))
        assert isinstance(reply, SubmitReply)
        if not reply.reason:
            self.saw(reply.height, (Point(reply.node, reply.epoch, reply.sequence),))
        return reply

    async def account(self, client: Client, account: int) -> AccountReply:
        """An account's next sequence, not older than anything seen. Raises `NotReached`."""
        reply = await client.after(self.height, self.clock, AskAccount(account))
        assert isinstance(reply, AccountReply)
        self.saw(reply.height)
        return reply

    async def fate(self, client: Client, digest: bytes) -> Fate:
        """A bundle's fate; of one that was handed in through this session, never `unknown`. Raises `NotReached`."""
        reply = await client.after(self.height, self.clock, AskFate(digest))
        assert isinstance(reply, Fate)
        if reply.status == "final":
            self.saw(reply.height)
        return reply
