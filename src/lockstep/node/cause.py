"""Which command of a block wrote a row: the block is executed again up to a command, and the row looked at.

A row has its final value after some command and did not have it before that one: this command wrote it, whatever came
in between. Found by halving, so a block of n commands is executed about log2(n) times for each row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lockstep.node.checks import observation_rows
from lockstep.node.executor import join
from lockstep.node.record import StoredBlock
from lockstep.venue.venue import Venue
from lockstep.wire.command import COMMAND, Kind
from lockstep.wire.observation import Observation


@dataclass(frozen=True, slots=True)
class Cause:
    """What gave a row its value. `by` is "command", "block" (its prices, or the check for liquidations), or "earlier"
    when the block left the row alone."""

    by: str
    command: int = -1
    """Place in the block."""
    bundle: bytes = b""
    account: int = -1
    sequence: int = -1
    fields: tuple[tuple[str, int], ...] = ()
    """The command's fields that are not zero."""
    kind: str = ""


class Causes:
    """A block to be executed again on its parent's state, which `venue` holds and keeps."""

    def __init__(self, venue: Venue, stored: StoredBlock) -> None:
        self._venue = venue
        self._stored = stored
        self._commands, self._spans = join(stored.bundles)
        observations = [Observation(raw) for raw in stored.block.payload.observations]
        self._observations = observation_rows(observations)

    def find(self, rows: Sequence[tuple[int, int]]) -> list[Cause]:
        """The cause of each row's value, given as (table number, row)."""
        before = self._look(rows)
        self._execute(len(self._commands))
        final = self._look(rows)
        self._venue.rollback()
        return [self._find(row, old, new) for row, old, new in zip(rows, before, final, strict=True)]

    def _find(self, row: tuple[int, int], before: bytes, final: bytes) -> Cause:
        if before == final:
            return Cause("earlier")
        if self._after(0, row) == final:
            return Cause("block")
        low, high = 0, len(self._commands)
        while high - low > 1:
            middle = (low + high) // 2
            if self._after(middle, row) == final:
                high = middle
            else:
                low = middle
        return self._cause(high - 1)

    def _after(self, commands: int, row: tuple[int, int]) -> bytes:
        """The row's bytes after that many commands."""
        self._execute(commands)
        (found,) = self._look([row])
        self._venue.rollback()
        return found

    def _execute(self, commands: int) -> None:
        header = self._stored.block.header
        spans = self._spans[self._spans["first"] < commands].copy()
        spans["count"] = np.minimum(spans["count"], commands - spans["first"])
        self._venue.run(header.height, header.time_ms, self._observations, spans, self._commands[:commands])

    def _look(self, rows: Sequence[tuple[int, int]]) -> list[bytes]:
        found = []
        for table, row in rows:
            held = self._venue.rows(table)
            found.append(held[row].tobytes() if row < len(held) else b"")
        return found

    def _cause(self, command: int) -> Cause:
        place = int(np.searchsorted(self._spans["first"], command, "right")) - 1
        bundle = self._stored.bundles[place]
        row = self._commands[command]
        fields = tuple((name, int(row[name])) for name in COMMAND.names or () if name != "kind" and int(row[name]))
        number = int(row["kind"])
        kind = Kind(number).name.lower() if number in list(Kind) else f"kind {number}"
        return Cause("command", command, bundle.digest, bundle.account, bundle.sequence, fields, kind)
