"""Fetching what a wanted block lacks: the block itself, or bundles that it orders.

Gossip usually wins the race against a proposal by a few milliseconds or loses it by as much, so the first request
for bundles waits a little. Requests are repeated, each time to another peer, until the block is here or obsolete.
"""

from dataclasses import dataclass
from typing import Final

from lockstep.base.digest import DIGEST_BYTES
from lockstep.base.marks import reached
from lockstep.node.context import Context
from lockstep.node.tree import Entry
from lockstep.wire.bundle import Bundle
from lockstep.wire.message import BUNDLES_PER_FETCH_MAX, FetchBlock, FetchBundles

GRACE_US: Final = 8_000
RETRY_US: Final = 150_000
FETCHED_MAX: Final = 16_384


@dataclass(slots=True)
class _Request:
    ask: list[int]
    """Validators that should have it, best first."""
    due_us: int
    attempt: int = 0


class Bodies:
    """Outstanding requests, and fetched bundles that are not in the pool."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._blocks: dict[bytes, _Request] = {}
        self._bundles: dict[bytes, _Request] = {}
        self._missing: dict[bytes, dict[bytes, None]] = {}
        self._fetched: dict[bytes, Bundle] = {}

    def queues(self) -> dict[str, int]:
        """How much is waited for, and kept."""
        return {"bodies": len(self._blocks) + len(self._bundles), "fetched": len(self._fetched)}

    @property
    def is_idle(self) -> bool:
        """Whether nothing is waited for."""
        return not self._blocks and not self._bundles

    def want_block(self, block: bytes, ask: list[int]) -> None:
        """Fetch this block, unless that is under way."""
        if block not in self._blocks:
            reached("bodies: a block is fetched")
            self._blocks[block] = _Request(ask, self._ctx.now_us)
            self.tick()

    def wants_block(self, block: bytes) -> bool:
        """Whether it was asked for."""
        return block in self._blocks

    def got_block(self, block: bytes) -> None:
        """It is here."""
        self._blocks.pop(block, None)

    def find(self, digest: bytes) -> Bundle | None:
        """A bundle from the pool, or one that was fetched."""
        return self._ctx.pool.get(digest) or self._fetched.get(digest)

    def want_bundles(self, entry: Entry, missing: list[bytes]) -> None:
        """Fetch these bundles of the entry's block."""
        block = entry.header.digest
        self._missing[block] = dict.fromkeys(missing)
        if block not in self._bundles:
            ask = [entry.header.proposer, *entry.signers]
            self._bundles[block] = _Request(ask, self._ctx.now_us + GRACE_US)

    def is_awaited(self, digest: bytes) -> bool:
        """Whether some wanted block lacks this bundle."""
        return bool(self._missing) and any(digest in missing for missing in self._missing.values())

    def arrived(self, bundle: Bundle) -> list[bytes]:
        """A bundle is here (in the pool or not): returns the blocks that now lack none."""
        complete = []
        for block, missing in self._missing.items():
            if bundle.digest in missing:
                del missing[bundle.digest]
                if not missing:
                    complete.append(block)
        for block in complete:
            del self._missing[block]
            self._bundles.pop(block, None)
        return complete

    def keep(self, bundle: Bundle) -> None:
        """Hold a fetched bundle that the pool did not take (it may be too old or too many for it)."""
        self._fetched[bundle.digest] = bundle
        if len(self._fetched) > FETCHED_MAX:
            self._fetched.pop(next(iter(self._fetched)))

    def forget(self, block: bytes) -> None:
        """The block is final or obsolete."""
        self._blocks.pop(block, None)
        self._bundles.pop(block, None)
        self._missing.pop(block, None)

    def settle(self, digest: bytes) -> None:
        """The bundle is final."""
        self._fetched.pop(digest, None)

    def tick(self) -> None:
        """Send what is due."""
        for block, request in self._blocks.items():
            if (peer := self._due(request)) is not None:
                self._ctx.send(peer, FetchBlock(block))
        for block, request in self._bundles.items():
            if (peer := self._due(request)) is not None:
                digests = list(self._missing[block])
                for start in range(0, len(digests), BUNDLES_PER_FETCH_MAX):
                    self._ctx.send(peer, FetchBundles(b"".join(digests[start : start + BUNDLES_PER_FETCH_MAX])))

    def _due(self, request: _Request) -> int | None:
        if request.due_us > self._ctx.now_us:
            return None
        peer = self._ctx.peers_from(request.ask, request.attempt)
        request.attempt += 1
        request.due_us = self._ctx.now_us + RETRY_US
        return peer if peer != self._ctx.index else None

    def deadline(self) -> int | None:
        """When `tick` has something to send."""
        if self.is_idle:
            return None
        dues = [r.due_us for r in self._blocks.values()] + [r.due_us for r in self._bundles.values()]
        return min(dues, default=None)


def split_digests(raw: bytes) -> list[bytes]:
    """Concatenated digests, one by one."""
    return [raw[i : i + DIGEST_BYTES] for i in range(0, len(raw), DIGEST_BYTES)]
