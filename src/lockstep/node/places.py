"""Where recent records are in the log: enough to index final blocks, and to say where a restart must begin to read.

A restart from a checkpoint needs its block's record and every record of a later view. Usually all of those come after
the block's, but not always: a node may have given up on a later view before it fetched this block, and a nullify
vote that is not read again could be contradicted. So the start is the first place of them all. Of the records that say
up to where nothing is signed, only the newest counts.
"""

from lockstep.base.errors import InvariantBroken
from lockstep.node.record import Mute, Record, StoredBlock
from lockstep.wire.certificate import Finalization


class Places:
    """Positions of records since the last checkpoint."""

    def __init__(self) -> None:
        self._views: list[tuple[int, int]] = []
        self._blocks: dict[bytes, tuple[int, int]] = {}
        self._finalizations: dict[bytes, tuple[int, int]] = {}
        self._newest_final = 0
        self._mute = 0, 0
        """(view, position)"""

    def note(self, record: Record, position: int) -> None:
        """A record is at this position. The first place of a block counts: it holds all that a later one does."""
        if isinstance(record, StoredBlock):
            header = record.block.header
            self._views.append((header.view, position))
            self._blocks.setdefault(header.digest, (header.height, position))
        elif type(record) is Mute:  # not isinstance, which takes long to say no to a msgspec structure
            self._mute = record.view, position
        else:
            self._views.append((record.view, position))
            if type(record) is Finalization:
                self._finalizations.setdefault(record.block, (record.height, position))

    def final(self, block: bytes, height: int) -> tuple[int, int]:
        """(position of the block, of its finalization or 0), as it becomes final; forgets all up to its height."""
        if block not in self._blocks:
            raise InvariantBroken(f"block {block.hex()} of height {height} is final, but is not in the log")
        self._newest_final = self._blocks[block][1]
        finalization = self._finalizations.get(block, (0, 0))[1]
        self._blocks = {b: at for b, at in self._blocks.items() if at[0] > height}
        self._finalizations = {b: at for b, at in self._finalizations.items() if at[0] > height}
        return self._newest_final, finalization

    def installed(self, certificate: Finalization) -> int:
        """A state that was fetched becomes the checkpoint; the log has its finalization. Where a restart must begin:
        there, or at the first record of a later view."""
        self._newest_final = self._finalizations[certificate.block][1]
        return self.start_after(certificate.view)

    def start_after(self, view: int) -> int:
        """Where a restart must begin, given a checkpoint at the newest final block, which is of this view."""
        self._views = [at for at in self._views if at[0] > view]
        mute = [self._mute] if self._mute[0] > view else []
        return min([self._newest_final, *(position for _, position in (*self._views, *mute))])
