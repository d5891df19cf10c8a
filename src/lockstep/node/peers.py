"""What this node knows of its peers: connected or not, round trips, and their claims (for display and as
hints for re-sending only)."""

from dataclasses import dataclass
from typing import Final

from lockstep.base.limits import FIRST_OBSERVER
from lockstep.node.context import Context
from lockstep.wire.client import PeerStatus
from lockstep.wire.message import Ping, Pong

PING_INTERVAL_US: Final = 250_000


@dataclass(slots=True)
class _Peer:
    view: int = 0
    final_height: int = 0
    rtt_us: int = 0


class Peers:
    """Validators other than this one, by index, and others that are connected."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._peers: dict[int, _Peer] = {}
        self.roster_changed()
        self.ping_due_us = 0
        """When the next ping is due."""

    def roster_changed(self) -> None:
        """Somebody may have joined it."""
        for index in range(len(self._ctx.roster.members)):
            if index != self._ctx.index:
                self._known(index)

    def _known(self, peer: int) -> _Peer:
        """What is known of it: nothing at first, also when its joining is not final here yet."""
        known = self._peers.get(peer)
        if known is None:
            known = self._peers[peer] = _Peer()
        return known

    def connected(self, peer: int) -> None:
        """A connection is up."""
        self._ctx.connected[peer] = None
        self._known(peer)
        self.ping_due_us = 0

    def lost(self, peer: int) -> None:
        """No connection is left."""
        self._ctx.connected.pop(peer, None)
        if peer >= FIRST_OBSERVER:
            self._peers.pop(peer, None)

    def ping(self, peer: int, message: Ping) -> None:
        """It asks, and claims where it is."""
        known = self._known(peer)
        known.view, known.final_height = message.view, message.final_height
        self._ctx.send(peer, Pong(message.time_us))

    def pong(self, peer: int, message: Pong) -> None:
        """It answers one of our pings."""
        elapsed = self._ctx.now_us - message.time_us
        if 0 <= elapsed < 60_000_000:
            self._known(peer).rtt_us = elapsed

    def tick(self, view: int) -> None:
        """Ping everybody when it is time."""
        if self._ctx.now_us >= self.ping_due_us:
            self.ping_due_us = self._ctx.now_us + PING_INTERVAL_US
            self._ctx.broadcast(Ping(self._ctx.now_us, view, self._ctx.tree.root.height))

    def deadline(self) -> int:
        """When `tick` has something to do."""
        return self.ping_due_us

    def statuses(self) -> tuple[PeerStatus, ...]:
        """For the status answer."""
        return tuple(
            PeerStatus(i, i in self._ctx.connected, p.view, p.final_height, p.rtt_us) for i, p in self._peers.items()
        )
