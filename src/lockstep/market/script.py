"""A script: what one trader does, written once and played in a circle, relative to the index price.

A generator that makes an object per command can't feed a venue of hundreds of thousands of commands a second from
the same machine. So each trader's commands are rows prepared at the start, with prices as offsets from the index;
a batch is one slice, copied, with the present index added.
"""

from typing import Any, Final

import numpy as np

from lockstep.base.limits import BUNDLE_COMMANDS_MAX
from lockstep.wire.command import COMMAND, Kind

Rows = np.ndarray[Any, Any]
_PRICED: Final = (Kind.PLACE, Kind.REPLACE)
_PRICE_WORD: Final = COMMAND.fields["price"][1] // 8 if COMMAND.fields else 0


class Script:
    """An opening, played once, and a cycle, played for ever."""

    def __init__(self, opening: Rows, cycle: Rows, instruments: int) -> None:
        """Both are (n,) COMMAND rows whose `price` is an offset in ticks from the instrument's index price."""
        if len(cycle) == 0:
            raise ValueError("a script needs a cycle")
        self._opening = len(opening)
        self._cycle = len(cycle)
        # The cycle's start is repeated behind its end, so that every batch is one contiguous slice.
        turns = 1 + -(-BUNDLE_COMMANDS_MAX // len(cycle))
        rows = np.concatenate([opening, *[cycle] * turns])[: len(opening) + len(cycle) + BUNDLE_COMMANDS_MAX]
        priced = np.isin(rows["kind"], _PRICED) & (rows["instrument"] < instruments)
        self._book = np.where(priced, rows["instrument"], instruments).astype(np.intp)
        self._words = rows.view(np.int64).reshape(len(rows), -1)
        """(n, 5): copying words takes a twentieth of the time of copying structured rows."""
        self._position = 0

    def take(self, count: int, prices: Rows) -> Rows:
        """The next `count` commands. `prices` are (instruments + 1,) int64 ticks, the last one 0."""
        start = self._position
        batch = self._words[start : start + count].copy()
        batch[:, _PRICE_WORD] += prices[self._book[start : start + count]]
        self._position += count
        if self._position >= self._opening + self._cycle:
            self._position = self._opening + (self._position - self._opening) % self._cycle
        return batch.view(COMMAND).reshape(count)
