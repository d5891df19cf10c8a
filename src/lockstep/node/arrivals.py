"""Final blocks that were spread to this node, on their way to being whole.

Upon a block with its certificate: take the bundles that are here, fetch the others from who sent it, in one round trip
  (`gossip.compact`).
Upon its last bundle, and all waiting blocks below it having gone: hand it on.
Upon waiting for longer than `PATIENCE_US`: hand on its certificate alone; the block is then replayed as a whole.
A block far above the newest final one is not kept: this node is behind, and replays; now and then its certificate is
handed on, to know how far.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lockstep.base.marks import reached
from lockstep.gossip.compact import CompactBlocks, Effect, Fetch
from lockstep.node.context import Context
from lockstep.node.record import StoredBlock
from lockstep.wire.block import Block
from lockstep.wire.bundle import Bundle
from lockstep.wire.certificate import Finalization
from lockstep.wire.message import BUNDLES_PER_FETCH_MAX, FetchBundles

PATIENCE_US: Final = 400_000
RETRY_US: Final = 150_000
AHEAD_MAX: Final = 64
"""Blocks above the newest final one that are kept."""
CERTIFICATE_EVERY: Final = 16
"""Of blocks further above, every so manieth certificate is handed on."""


@dataclass(slots=True)
class _Waiting:
    block: Block
    certificate: Finalization
    due_us: int
    stored: StoredBlock | None = None


class Arrivals:
    """Blocks that wait for bundles, or for a block below them that does."""

    def __init__(
        self, ctx: Context, held: Callable[[bytes], Bundle | None],
        arrived: Callable[[Finalization, StoredBlock | None], None],
    ) -> None:  # fmt: skip
        """`held(digest)` is a bundle that is here; `arrived` is told of certificates, with their blocks if whole."""
        self._ctx = ctx
        self._arrived = arrived
        self._compact = CompactBlocks(lambda key: None if (found := held(key)) is None else found.raw, RETRY_US)
        self._waiting: dict[bytes, _Waiting] = {}
        self._told_height = 0
        self.fetched = 0
        """Bundles that were not here when a block came."""

    def __len__(self) -> int:
        return len(self._waiting)

    def block(self, block: Block, certificate: Finalization, peer: int) -> None:
        """A block came, and a certificate of it that was verified."""
        header, root = block.header, self._ctx.tree.root
        if header.height <= root.height or header.digest in self._waiting:
            return
        if header.height > root.height + AHEAD_MAX:
            if header.height >= self._told_height + CERTIFICATE_EVERY:
                self._told_height = header.height
                self._arrived(certificate, None)
            return
        self._waiting[header.digest] = _Waiting(block, certificate, self._ctx.now_us + PATIENCE_US)
        self._carry(self._compact.block(header.digest, block.payload.bundle_digests(), peer, self._ctx.now_us))
        self._settle()

    def awaits(self, digest: bytes) -> bool:
        """Whether some block lacks this bundle."""
        return self._compact.awaits(digest)

    def bundle(self, bundle: Bundle) -> None:
        """A bundle is here."""
        effects = self._compact.bundle(bundle.raw)
        if effects:
            self._carry(effects)
            self._settle()

    def peer_lost(self, peer: int) -> None:
        """A connection is gone."""
        self._compact.peer_lost(peer)

    def final(self, height: int) -> None:
        """All up to this height is final: what waited there came another way."""
        for digest in [d for d, waiting in self._waiting.items() if waiting.block.header.height <= height]:
            self._drop(digest)

    def tick(self) -> None:
        """Time passes."""
        if not self._waiting:
            return
        self._carry(self._compact.tick(self._ctx.now_us))
        self._settle()

    def deadline(self) -> int | None:
        """When `tick` has something to do."""
        dues = [waiting.due_us for waiting in self._waiting.values()]
        retry = self._compact.deadline()
        return min([*dues, retry] if retry is not None else dues, default=None)

    def _carry(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Fetch):
                self.fetched += len(effect.digests)
                for start in range(0, len(effect.digests), BUNDLES_PER_FETCH_MAX):
                    part = effect.digests[start : start + BUNDLES_PER_FETCH_MAX]
                    self._ctx.send(effect.peer, FetchBundles(b"".join(part)))
            elif (waiting := self._waiting.get(effect.block)) is not None:
                waiting.stored = StoredBlock(waiting.block, tuple(Bundle(raw) for raw in effect.bundles))

    def _settle(self) -> None:
        """Hand on what can be, lowest first."""
        for waiting in sorted(self._waiting.values(), key=lambda one: one.block.header.height):
            is_late = waiting.due_us <= self._ctx.now_us
            if waiting.stored is None and not is_late:
                return  # those above it wait for it
            if waiting.stored is None:
                reached("arrivals: a block is replayed, for its bundles did not come")
            self._drop(waiting.block.header.digest)
            self._arrived(waiting.certificate, waiting.stored)

    def _drop(self, digest: bytes) -> None:
        self._waiting.pop(digest, None)
        self._compact.forget(digest)
