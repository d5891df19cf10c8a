"""One account's bundles, from signing to their fate.

A bundle's sequence must be exactly the account's next, so a bundle that is lost blocks every later one. The outbox
therefore keeps each bundle until it knows its fate: it can send the same bytes again to any node, and signs a bundle
anew (same sequence, same commands) only when its validity has passed, because then the old one can never be final.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from lockstep.base.limits import POOL_BUNDLES_PER_ACCOUNT_MAX
from lockstep.market.cast import Trader
from lockstep.market.script import Rows
from lockstep.wire.bundle import Bundle, seal_bundle
from lockstep.wire.command import COMMAND

VALIDITY_BLOCKS: Final = 2_000
WINDOW_BUNDLES: Final = POOL_BUNDLES_PER_ACCOUNT_MAX // 2
"""Bundles that an account keeps on their way. Half of what a pool takes, since nodes' heights differ a little."""


class Stage(StrEnum):
    """Where a bundle is."""

    SENT = "sent"
    TAKEN = "taken"
    """In a pool, whose node will tell the fate."""
    DOUBTFUL = "doubtful"
    """To be asked about: a connection was lost, or somebody else's node has it."""
    REFUSED = "refused"
    """To be sent again a little later."""


@dataclass(slots=True)
class Item:
    """A bundle on its way. Times are the driver's monotonic seconds."""

    bundle: Bundle
    due: float
    """When it was meant to be submitted; finality is measured from here."""
    touched: float
    """When something was last sent or heard about it."""
    stage: Stage = Stage.SENT


class Outbox:
    """The bundles of one trader that have no fate yet, by sequence."""

    def __init__(self, trader: Trader, chain_id: bytes, next_sequence: int = 0) -> None:
        self.trader = trader
        self._chain_id = chain_id
        self.next_sequence = next_sequence
        self.items: dict[int, Item] = {}

    @property
    def is_full(self) -> bool:
        """Whether the window is used up: as many bundles on their way as may be, from the oldest on."""
        oldest = next(iter(self.items), self.next_sequence)
        return self.next_sequence - oldest >= WINDOW_BUNDLES

    def sign(self, commands: Rows, final_height: int, due: float) -> Item:
        """Sign the next bundle and keep it."""
        item = Item(self._seal(self.next_sequence, commands, final_height), due, due)
        self.items[self.next_sequence] = item
        self.next_sequence += 1
        return item

    def sign_again(self, item: Item, final_height: int) -> Item:
        """The same commands at the same sequence with a later validity. Only for a bundle that has expired."""
        if item.bundle.valid_until > final_height:
            raise ValueError(f"{item.bundle!r} is still valid at height {final_height}: two could be signed at once")
        commands = np.frombuffer(item.bundle.commands.tobytes(), dtype=COMMAND)
        fresh = Item(self._seal(item.bundle.sequence, commands, final_height), item.due, item.touched)
        self.items[item.bundle.sequence] = fresh
        return fresh

    def settle(self, sequence: int) -> Item | None:
        """Its fate is known: forget it. None when it was settled before."""
        return self.items.pop(sequence, None)

    def _seal(self, sequence: int, commands: Rows, final_height: int) -> Bundle:
        trader = self.trader
        return seal_bundle(
            trader.key, self._chain_id, trader.account, sequence, final_height + VALIDITY_BLOCKS, commands
        )
