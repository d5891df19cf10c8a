"""Answering the requests of nodes that don't vote, so that they can't wear this one out.

Each has an allowance: so many requests and so many bytes from memory a second. What is beyond is not answered; whoever
asked asks again, or another. What comes from the disk is bounded where it is read (the world's serving thread).
"""

from dataclasses import dataclass
from typing import Final

from lockstep.base.limits import FIRST_OBSERVER
from lockstep.base.marks import reached
from lockstep.node.context import Context
from lockstep.node.serving import Serving
from lockstep.wire.light import AskLight
from lockstep.wire.message import (
    FetchBlock,
    FetchBundles,
    FetchChain,
    FetchCheckpoint,
    FetchState,
    PeerMessage,
    Ping,
    Pong,
)

BYTES_PER_SECOND: Final = 32 * 1024 * 1024
REQUESTS_PER_SECOND: Final = 500
BUNDLES_PER_SECOND: Final = 500
"""That one such node may hand in for its clients: each costs a signature check."""
BURST_SECONDS: Final = 2


class Allowance:
    """A bucket that fills at `per_second` up to two seconds' worth. Integers: units times a million."""

    def __init__(self, per_second: int, now_us: int) -> None:
        self._per_second = per_second
        self._full = self._filled = BURST_SECONDS * per_second * 1_000_000
        self._at_us = now_us

    def has(self, now_us: int) -> bool:
        """Whether anything is left."""
        self._filled = min(self._full, self._filled + max(0, now_us - self._at_us) * self._per_second)
        self._at_us = max(self._at_us, now_us)
        return self._filled > 0

    def take(self, units: int) -> None:
        """Account for what was given. It may go into debt: how much an answer takes is known afterwards."""
        self._filled -= units * 1_000_000


@dataclass(slots=True)
class _Peer:
    bytes: Allowance
    requests: Allowance
    bundles: Allowance


class Answers:
    """Requests, and the allowances of those who make them."""

    def __init__(self, ctx: Context, serving: Serving) -> None:
        self._ctx = ctx
        self._serving = serving
        self._peers: dict[int, _Peer] = {}

    def connected(self, peer: int) -> None:
        """A connection is up."""
        now = self._ctx.now_us
        self._peers[peer] = _Peer(
            Allowance(BYTES_PER_SECOND, now), Allowance(REQUESTS_PER_SECOND, now), Allowance(BUNDLES_PER_SECOND, now)
        )

    def lost(self, peer: int) -> None:
        """It is gone."""
        self._peers.pop(peer, None)

    def may_hand_in(self, peer: int) -> bool:
        """Whether a bundle of this peer is looked at; it counts."""
        known = self._peers.get(peer)
        if known is None or not known.bundles.has(self._ctx.now_us):
            reached("answers: a peer hands in too many bundles")
            return False
        known.bundles.take(1)
        return True

    def take(self, peer: int, message: PeerMessage) -> bool:
        """Answer a request; False when it is none."""
        if not isinstance(
            message, FetchBundles | FetchBlock | FetchChain | FetchCheckpoint | FetchState | AskLight | Ping
        ):
            return False
        known, now = self._peers.get(peer), self._ctx.now_us
        if known is None or not known.requests.has(now) or not known.bytes.has(now):
            reached("answers: a peer asks too much")
            return True
        known.requests.take(1)
        match message:
            case FetchBundles():
                known.bytes.take(self._serving.bundles(peer, message))
            case FetchBlock():
                known.bytes.take(self._serving.block(peer, message))
            case FetchChain():
                self._serving.chain(peer, message)
            case FetchCheckpoint() | FetchState():
                self._serving.state(peer, message)
            case AskLight():
                self._serving.light(peer, message)
            case Ping():
                self._ctx.send(peer, Pong(message.time_us))
        return True


def votes(peer: int) -> bool:
    """Whether a peer is a validator."""
    return peer < FIRST_OBSERVER
