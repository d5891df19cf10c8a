"""Going on after a restart: from the checkpoint's block and the log's records after it.

Blocks of the log up to the newest finalization whose ancestors are all there are final and are executed again; blocks
above it are checked anew before anything is built on them. Own votes and certificates go back to the engine.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from lockstep.base.marks import reached
from lockstep.node.bodies import Bodies
from lockstep.node.context import Context
from lockstep.node.directory import Directory
from lockstep.node.pipeline import Pipeline
from lockstep.node.record import Mute, Record, StoredBlock
from lockstep.node.tree import Entry
from lockstep.wire.block import Header
from lockstep.wire.certificate import Certificate, Finalization, Notarization, Nullification
from lockstep.wire.evidence import Evidence
from lockstep.wire.observation import Observation
from lockstep.wire.roster import Roster
from lockstep.wire.vote import Finalize, Notarize, Nullify, Vote


@dataclass(frozen=True, slots=True)
class Restored:
    """What a world read back at start."""

    header: Header
    """The block whose state the executor holds (genesis, or the checkpoint's)."""
    state_root: bytes
    directory: Directory
    roster: Roster
    observed_ms: dict[int, int]
    records: Iterable[Record]
    """The log from the checkpoint on, in order."""
    is_rebuilt: bool = False
    """The home was made anew for a validator that may have voted before."""


@dataclass(slots=True)
class Recovery:
    """Puts the log's blocks into the tree and sorts the rest of its records."""

    ctx: Context
    bodies: Bodies
    pipeline: Pipeline
    votes: list[Vote] = field(default_factory=list)
    certificates: list[Certificate] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    mute: int = 0
    """Nothing is signed in views up to this one."""

    def read(self, records: Iterable[Record]) -> None:
        """Take every record."""
        for record in records:
            match record:
                case Notarize() | Nullify() | Finalize():
                    self.votes.append(record)
                case Notarization() | Nullification() | Finalization():
                    self.certificates.append(record)
                case Evidence():
                    self.evidence.append(record)
                case Mute():
                    self.mute = record.view
                case StoredBlock():
                    self._block(record)

    def _block(self, stored: StoredBlock) -> None:
        header = stored.block.header
        if header.height > self.ctx.tree.root.height:
            entry = self.ctx.tree.entry(header)
            entry.block, entry.stored, entry.persisted = stored.block, stored, True

    def floor(self) -> Header:
        """The newest final block that the log holds whole, with its ancestors; the path to it is made ready."""
        finals = [c for c in self.certificates if isinstance(c, Finalization)]
        floor = self.ctx.tree.root
        for certificate in sorted(finals, key=lambda c: c.height, reverse=True):
            path = self.ctx.tree.path(certificate.block)
            if path and all(entry.stored is not None for entry in path):
                for entry in path:
                    if entry.stored is not None:
                        adopt(entry, entry.stored)
                reached("recovery: final blocks of the log are executed again")
                floor = path[-1].header
                break
        for certificate in finals:
            if certificate.height <= floor.height and self.ctx.tree.get(certificate.block) is not None:
                self.pipeline.expect(certificate)
        self._unsettle()
        self.ctx.roster = self.ctx.tree.roster_after(floor.digest)
        return floor

    def _unsettle(self) -> None:
        for entry in self.ctx.tree.entries():
            if entry.valid is None and entry.stored is not None:
                for bundle in entry.stored.bundles:
                    self.bodies.keep(bundle)
                entry.stored = None


def adopt(entry: Entry, stored: StoredBlock) -> None:
    """Take a block that is proven final: it needs no checks, only what its children need from it."""
    entry.block, entry.stored, entry.valid = stored.block, stored, True
    entry.sequences = {bundle.account: bundle.sequence + 1 for bundle in stored.bundles}
    observations = [Observation(raw) for raw in stored.block.payload.observations]
    entry.observed_ms = {o.validator: o.time_ms for o in observations}
