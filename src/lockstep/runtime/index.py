"""The index of final blocks and bundles: entries since the last checkpoint in memory, older ones in the store.

One thread adds and settles; any thread may look up. An entry leaves memory only after the store has it, and memory is
looked at first, so no look-up can miss it. Memory is bounded by the blocks between two checkpoints.
"""

from lockstep.runtime.block_index import BlockPlace, FatePlace, KeptHeader, Lowest
from lockstep.runtime.store import Store


class Index:
    """Height → places of the block's records; bundle digest → place of its outcome."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.blocks: dict[int, BlockPlace] = {}
        self.fates: dict[bytes, FatePlace] = {}

    def block(self, height: int) -> BlockPlace | None:
        """Where the final block at this height is; None when no such block is final here (yet)."""
        return self.blocks.get(height) or self._store.blocks.block(height)

    def fate(self, bundle: bytes) -> FatePlace | None:
        """Where a bundle's outcome is; None when it is not final here."""
        return self.fates.get(bundle) or self._store.blocks.fate(bundle)

    def header(self, height: int) -> KeptHeader | None:
        """What is left of a pruned block."""
        return self._store.blocks.header(height)

    def lowest(self) -> Lowest:
        """From where on everything is here."""
        return self._store.blocks.lowest()

    def settle(self, height: int) -> None:
        """The store has everything up to this height."""
        for old in [h for h in self.blocks if h <= height]:
            del self.blocks[old]
        for bundle in [b for b, place in self.fates.items() if place.height <= height]:
            del self.fates[bundle]
