"""The executor owns the venue's state. It runs on one thread, in the order that the replica asked.

It is a stack: the committed state, and above it the executed blocks that are not final yet. Executing a block
whose parent is not on top first rolls back what is above the parent.
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import numpy as np

from lockstep.base.errors import InvariantBroken
from lockstep.node.record import StoredBlock
from lockstep.venue.schema import BUNDLE_SPAN
from lockstep.venue.venue import Execution, Venue
from lockstep.wire.bundle import Bundle
from lockstep.wire.command import COMMAND
from lockstep.wire.set_change import decode_change

_NOTHING: Final = (np.zeros(0, COMMAND), np.zeros(0, BUNDLE_SPAN))
"""Commands and spans of a block without bundles."""


@dataclass(frozen=True, slots=True)
class _Level:
    block: bytes
    height: int


class Executor:
    """Executes blocks, speculatively, and commits them."""

    def __init__(self, venue: Venue, committed: bytes, height: int) -> None:
        """`venue` holds the committed state after the block with digest `committed` at `height`."""
        self.venue = venue
        self._levels = [_Level(committed, height)]

    @property
    def committed(self) -> tuple[bytes, int]:
        """Digest and height of the committed block."""
        return self._levels[0].block, self._levels[0].height

    @property
    def top(self) -> tuple[bytes, int]:
        """Digest and height of the block whose state the tables hold: the one executed last."""
        return self._levels[-1].block, self._levels[-1].height

    def execute(self, stored: StoredBlock, observations: np.ndarray) -> Execution:
        """Run the block on its parent's state; raises `InvariantBroken` when the parent was never executed."""
        header = stored.block.header
        while self._levels[-1].block != header.parent:
            if len(self._levels) == 1:
                raise InvariantBroken(f"block {header.digest.hex()} was to be executed, but its parent never was")
            self.venue.rollback()
            self._levels.pop()
        commands, spans = join(stored.bundles)
        change = stored.block.payload.change
        ordered = decode_change(change).change if change else None
        execution = self.venue.execute(header.height, header.time_ms, observations, spans, commands, ordered)
        self._levels.append(_Level(header.digest, header.height))
        return execution

    def drop_speculation(self) -> None:
        """Back to the committed state."""
        while len(self._levels) > 1:
            self.venue.rollback()
            self._levels.pop()

    def unwind(self, block: bytes) -> None:
        """Take back what was executed after this block; raises `InvariantBroken` when it is not among the executed."""
        if all(level.block != block for level in self._levels):
            raise InvariantBroken(f"block {block.hex()} is not among those that are executed and not taken back")
        while self._levels[-1].block != block:
            self.venue.rollback()
            self._levels.pop()

    def commit(self, block: bytes) -> None:
        """Make the oldest executed block final."""
        if len(self._levels) < 2 or self._levels[1].block != block:
            raise InvariantBroken(f"block {block.hex()} was to be committed, but is not the oldest executed one")
        self.venue.commit()
        self._levels.pop(0)


def join(bundles: tuple[Bundle, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Concatenate bundles' commands: ((n,) COMMAND rows, (bundles,) BUNDLE_SPAN rows)."""
    if not bundles:
        return _NOTHING
    commands = np.frombuffer(b"".join([bundle.command_bytes for bundle in bundles]), COMMAND)
    spans = np.zeros(len(bundles), BUNDLE_SPAN)
    counts = [bundle.count for bundle in bundles]
    spans["account"] = [bundle.account for bundle in bundles]
    spans["sequence"] = [bundle.sequence for bundle in bundles]
    spans["count"] = counts
    spans["first"] = list(accumulate(counts[:-1], initial=0))
    return commands, spans
