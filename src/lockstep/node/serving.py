"""Answering peers' requests for blocks and bundles that are not, or only just, final. Older ones come from the log.

A window of the newest final blocks is kept in memory: a peer that is one round trip behind asks for those.
"""

from collections import OrderedDict
from typing import Final

from lockstep.node.bodies import split_digests
from lockstep.node.context import Context
from lockstep.node.effects import ServeChain, ServeProof, ServeState
from lockstep.node.record import StoredBlock
from lockstep.wire.block import Block
from lockstep.wire.bundle import Bundle
from lockstep.wire.light import AskLight
from lockstep.wire.message import (
    CHAIN_BYTES_MAX,
    BlockBody,
    Bundles,
    Chain,
    FetchBlock,
    FetchBundles,
    FetchChain,
    FetchCheckpoint,
    FetchState,
)

RECENT_BLOCKS: Final = 24


class Serving:
    """Recent final blocks, and answers from them, from the tree and from the pool."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._blocks: OrderedDict[bytes, StoredBlock] = OrderedDict()
        self._bundles: dict[bytes, Bundle] = {}

    def final(self, stored: StoredBlock) -> None:
        """A block has become final."""
        self._blocks[stored.block.digest] = stored
        self._bundles.update((bundle.digest, bundle) for bundle in stored.bundles)
        if len(self._blocks) > RECENT_BLOCKS:
            _, old = self._blocks.popitem(last=False)
            for bundle in old.bundles:
                self._bundles.pop(bundle.digest, None)

    def block(self, peer: int, message: FetchBlock) -> int:
        """Send the block, if it is here. Returns how many bytes that took."""
        block = self._find(message.block)
        if block is None:
            return 0
        answer = BlockBody(block.header.encode(), block.payload.encode())
        self._ctx.send(peer, answer)
        return len(answer.header) + len(answer.payload)

    def _find(self, digest: bytes) -> Block | None:
        if (stored := self._blocks.get(digest)) is not None:
            return stored.block
        entry = self._ctx.tree.get(digest)
        return entry.block if entry else None

    def bundles(self, peer: int, message: FetchBundles) -> int:
        """Send those of the bundles that are here, in as many messages as the size limit asks for. Returns how many
        bytes that took."""
        raws: list[bytes] = []
        size = total = 0
        in_tree = self._in_tree()
        for digest in split_digests(message.digests):
            bundle = self._ctx.pool.get(digest) or self._bundles.get(digest) or in_tree.get(digest)
            if bundle is None:
                continue
            if size + len(bundle.raw) > CHAIN_BYTES_MAX:
                self._ctx.send(peer, Bundles(tuple(raws)))
                raws, size = [], 0
            raws.append(bundle.raw)
            size += len(bundle.raw)
            total += len(bundle.raw)
        if raws:
            self._ctx.send(peer, Bundles(tuple(raws)))
        return total

    def chain(self, peer: int, message: FetchChain) -> None:
        """Have final blocks sent from the disk; what there is above the head is said at once: nothing."""
        final = self._ctx.tree.root.height
        if message.from_height <= final:
            self._ctx.out.append(ServeChain(peer, max(1, message.from_height), final))
        else:
            self._ctx.send(peer, Chain((), None))

    def state(self, peer: int, message: FetchCheckpoint | FetchState) -> None:
        """Have it answered from a checkpoint."""
        self._ctx.out.append(ServeState(peer, message))

    def light(self, peer: int, message: AskLight) -> None:
        """Have it answered from headers and certificates on the disk."""
        self._ctx.out.append(ServeProof(peer, message, self._ctx.tree.root.height, is_peer=True))

    def _in_tree(self) -> dict[bytes, Bundle]:
        entries = self._ctx.tree.entries()
        return {b.digest: b for entry in entries if entry.stored is not None for b in entry.stored.bundles}
