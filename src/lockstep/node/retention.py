"""How much of the past a node keeps. Pure: from heights to the lowest heights that must stay.

- archive: everything.
- full: blocks and events of a period, which covers what light clients are promised, and of some blocks at least.
- pruned: blocks and events of some blocks only; certified headers of the period, so that the promise holds too.

Whatever the mode, what a restart reads stays (from the oldest checkpoint that is kept), and what peers ask for who are
fetching a state here: the blocks above it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

DAY_MS: Final = 24 * 3600 * 1000
KEEP_DAYS: Final = 14
"""As long as a light client trusts a header by default (`sync.light_rule`)."""
KEEP_BLOCKS: Final = 2_048
"""Peers that are further behind fetch a state, so they ask for no older block."""
KEEP_BLOCKS_MIN: Final = 512
"""Below `BEHIND_BLOCKS_MIN` (256) a peer always replays: it must find the blocks, and some more while it does so."""


class Mode(StrEnum):
    """What is kept."""

    ARCHIVE = "archive"
    FULL = "full"
    PRUNED = "pruned"


@dataclass(frozen=True, slots=True)
class Retention:
    """What the operator decided."""

    mode: Mode = Mode.ARCHIVE
    period_ms: int = KEEP_DAYS * DAY_MS
    blocks: int = KEEP_BLOCKS


@dataclass(frozen=True, slots=True)
class Needs:
    """Heights that somebody still needs."""

    checkpoint: int
    """The newest checkpoint."""
    oldest_checkpoint: int
    """The oldest that is kept: a rollback may begin there."""
    served: int | None
    """The lowest checkpoint that a peer is fetching from here now."""
    aged: int
    """The lowest height whose block is younger than the period."""


@dataclass(frozen=True, slots=True)
class Floors:
    """The lowest heights that stay: of blocks with their events and outcomes, and of certified headers."""

    blocks: int
    headers: int


def floors(retention: Retention, needs: Needs) -> Floors:
    """What stays. Never above the newest checkpoint's block, which a restart reads."""
    if retention.mode is Mode.ARCHIVE:
        return Floors(1, 1)
    lowest = min(needs.checkpoint - retention.blocks + 1, needs.oldest_checkpoint, needs.checkpoint)
    if needs.served is not None:
        lowest = min(lowest, needs.served)
    aged = max(1, min(needs.aged, needs.checkpoint))
    if retention.mode is Mode.FULL:
        lowest = min(lowest, aged)
    lowest = max(1, lowest)
    return Floors(lowest, min(lowest, aged))


def pruned_text(lowest: int) -> str:
    """What is told to somebody who asks for more."""
    return f"pruned below height {lowest}: ask an archive node"
