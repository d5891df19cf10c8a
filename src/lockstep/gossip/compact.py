"""Compact blocks: a block travels as its header, its certificate and the digests of its bundles; most bundles are
here already, because bundles are spread as they come. What is missing is fetched from who sent the block, in one
round trip, and from others only when that fails.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from lockstep.base.digest import digest

INCOMPLETE_MAX: Final = 256
"""Blocks that wait for bodies; the oldest is forgotten first."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask a peer for bundles."""

    peer: int
    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Complete:
    """All bundles of a block are here, in its order."""

    block: bytes
    bundles: tuple[bytes, ...]


Effect = Fetch | Complete


@dataclass(slots=True)
class _Incomplete:
    bodies: dict[bytes, bytes | None]
    """By digest, in the block's order; None: missing."""
    peers: list[int]
    due_us: int = 0

    @property
    def missing(self) -> tuple[bytes, ...]:
        return tuple(key for key, body in self.bodies.items() if body is None)


class CompactBlocks:
    """Blocks on their way to being complete."""

    def __init__(self, pooled: Callable[[bytes], bytes | None], retry_us: int = 500_000) -> None:
        """`pooled(digest)` is the bundle, if it is here."""
        self._pooled = pooled
        self._retry_us = retry_us
        self._blocks: OrderedDict[bytes, _Incomplete] = OrderedDict()

    def block(self, block: bytes, digests: Sequence[bytes], peer: int, now_us: int) -> list[Effect]:
        """A block came from `peer`; its digests differ from each other. Again from another: one more to ask."""
        waiting = self._blocks.get(block)
        if waiting is not None:
            if peer not in waiting.peers:
                waiting.peers.append(peer)
            return []
        waiting = _Incomplete({key: self._pooled(key) for key in digests}, [peer])
        if not waiting.missing:
            return [_complete(block, waiting)]
        self._blocks[block] = waiting
        if len(self._blocks) > INCOMPLETE_MAX:
            self._blocks.popitem(last=False)
        return [self._fetch(waiting, now_us)]

    def awaits(self, key: bytes) -> bool:
        """Whether some block lacks the bundle of this digest."""
        return any(key in waiting.bodies and waiting.bodies[key] is None for waiting in self._blocks.values())

    def forget(self, block: bytes) -> None:
        """It is of no interest any more."""
        self._blocks.pop(block, None)

    def peer_lost(self, peer: int) -> None:
        """Nobody there can be asked any more."""
        for waiting in self._blocks.values():
            if peer in waiting.peers and len(waiting.peers) > 1:
                waiting.peers.remove(peer)

    def bundle(self, raw: bytes) -> list[Effect]:
        """A bundle came, fetched or spread; what no block waits for is not kept here."""
        if not self._blocks:
            return []
        key = digest(raw)
        effects: list[Effect] = []
        for block, waiting in list(self._blocks.items()):
            if key in waiting.bodies and waiting.bodies[key] is None:
                waiting.bodies[key] = raw
                if not waiting.missing:
                    del self._blocks[block]
                    effects.append(_complete(block, waiting))
        return effects

    def tick(self, now_us: int) -> list[Effect]:
        """Ask the next peer for what did not come."""
        effects: list[Effect] = []
        for waiting in self._blocks.values():
            if waiting.due_us <= now_us:
                waiting.peers.append(waiting.peers.pop(0))
                effects.append(self._fetch(waiting, now_us))
        return effects

    def deadline(self) -> int | None:
        """When `tick` has something to do."""
        return min((waiting.due_us for waiting in self._blocks.values()), default=None)

    def _fetch(self, waiting: _Incomplete, now_us: int) -> Fetch:
        waiting.due_us = now_us + self._retry_us
        return Fetch(waiting.peers[0], waiting.missing)


def _complete(block: bytes, waiting: _Incomplete) -> Complete:
    return Complete(block, tuple(body for body in waiting.bodies.values() if body is not None))
