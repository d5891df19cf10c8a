"""Where two homes or snapshots part: the first block after which they differ, and what differs then.

A home's roots stand in its log: what its node voted for, and what certificates say. The first block on which two
homes' roots differ is found there. Its states are the one that a halted node kept (`diverged-HEIGHT` in its home), or
are made by executing the home's blocks again; if executing again does not give the recorded root, the report says so.
Homes whose records agree are executed side by side until their roots part.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from lockstep.base.digest import digest
from lockstep.base.errors import ConfigurationError, StorageFailed
from lockstep.ledger.difference import HashTree, StateDifference, compare, dtype_of, row_values, tree_of_bytes
from lockstep.ledger.manifest import Manifest, parse_manifest
from lockstep.ledger.snapshot import MANIFEST_FILE
from lockstep.node.cause import Cause, Causes
from lockstep.node.record import StoredBlock
from lockstep.runtime.kept import KEPT, kept_folder
from lockstep.runtime.stored_chain import HomeMoved, Replay, StoredChain
from lockstep.venue import schema

CAUSES_MAX: Final = 20
"""Rows whose cause is looked for: each takes some executions of the block."""
_TRIES: Final = 5


class SnapshotState:
    """A snapshot's folder; a table is read, and checked, when it is looked at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        text = (folder / MANIFEST_FILE).read_bytes()
        self.root = digest(text)
        self.manifest: Manifest = parse_manifest(text)

    @property
    def height(self) -> int:
        """Of the block after which the state is; raises `StorageFailed` when the tables do not say."""
        for number, entry in enumerate(self.manifest.tables):
            if entry.name == schema.ROWS[schema.VENUE][0]:
                found = row_values(self.tree(number), dtype_of(entry), 0).get("height")
                if isinstance(found, int):
                    return found
        raise StorageFailed(f"{self.folder} does not say of which height it is")

    def tree(self, number: int) -> HashTree:
        """A table's tree."""
        entry = self.manifest.tables[number]
        data = np.fromfile(self.folder / f"{entry.name}.bin", np.uint8)
        if digest(data.data) != entry.hash:
            raise StorageFailed(f"{self.folder}: {entry.name}.bin is not what the manifest says: see snapshot verify")
        return tree_of_bytes(data)


class ReplayState:
    """A state made by executing blocks."""

    def __init__(self, replay: Replay) -> None:
        self._ledger = replay.venue.ledger
        self.root = self._ledger.root
        self.manifest: Manifest = parse_manifest(self._ledger.manifest())

    def tree(self, number: int) -> HashTree:
        """A table's tree, as it is in memory."""
        return self._ledger.hash_tree(number)


@dataclass(slots=True)
class Report:
    """What was found."""

    height: int
    roots: tuple[bytes, bytes]
    """State roots at that height."""
    first_block: int | None
    """The first block after which the two differ; None when they don't, or when it cannot be known."""
    difference: StateDifference
    notes: list[str] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    """By row of the difference, for the first of them."""
    causes_from: str = ""
    """The home whose blocks were executed to find the causes."""

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs."""
        return self.roots[0] == self.roots[1] and self.first_block is None


Side = SnapshotState | StoredChain
_State = SnapshotState | ReplayState


def open_side(path: Path, from_genesis: bool = False) -> Side:
    """A snapshot's folder, a node's home, or a network's folder (its first validator). The folder of a state that a
    node kept when it halted stands for that node's home."""
    if path.name.startswith(KEPT) and (path.parent / "genesis.json").is_file():
        path = path.parent
    if (path / MANIFEST_FILE).is_file():
        return SnapshotState(path)
    for home in (path, path / "validator-0"):
        if (home / "genesis.json").is_file():
            return StoredChain(home, from_genesis)
    raise ConfigurationError(f"{path} is neither a node's home nor a snapshot's folder")


def examine_folders(one: Path, other: Path, height: int | None, from_genesis: bool = False) -> Report:
    """Compare what is in two folders; raises `ConfigurationError`. Their nodes may run: where one makes a checkpoint
    meanwhile, it is begun anew, a few times."""
    for _ in range(_TRIES - 1):
        with suppress(HomeMoved):
            return examine(open_side(one, from_genesis), open_side(other, from_genesis), height)
    return examine(open_side(one, from_genesis), open_side(other, from_genesis), height)


def examine(one: Side, other: Side, height: int | None) -> Report:
    """Compare; raises `ConfigurationError` when the two cannot be compared at one height."""
    first = None
    if isinstance(one, StoredChain) and isinstance(other, StoredChain):
        if one.genesis.chain_id != other.genesis.chain_id:
            raise ConfigurationError("the two homes are of different chains")
        one.begin_like(other)
        other.begin_like(one)
        first = _first_recorded(one, other)
        if first is not None and height is not None and height < first:
            first = None
    at = first if first is not None else _height(one, other, height)
    notes: list[str] = []
    states = _state(one, other, at, notes), _state(other, one, at, notes)
    if first is None and states[0].root != states[1].root:
        first = _first_by_execution(one, other, at)
        if first is not None and first != at:
            at = first
            states = _state(one, other, at, notes), _state(other, one, at, notes)
    report = Report(at, (states[0].root, states[1].root), first, compare(*states), notes)
    _find_causes(report, one, other)
    return report


def _height(one: Side, other: Side, height: int | None) -> int:
    fixed = [side.height for side in (one, other) if isinstance(side, SnapshotState)]
    fixed += [height] if height is not None else []
    if len(set(fixed)) > 1:
        raise ConfigurationError(f"two states are compared at one height, and these are of {fixed[0]} and {fixed[1]}")
    return fixed[0] if fixed else min(side.newest for side in (one, other) if isinstance(side, StoredChain))


def _first_recorded(one: StoredChain, other: StoredChain) -> int | None:
    """The lowest height for which the two logs name different roots of one block, or different final blocks."""
    heights = [
        mine.height
        for block, mine in one.roots.items()
        if (theirs := other.roots.get(block)) is not None
        and (mine.state_root, mine.event_root) != (theirs.state_root, theirs.event_root)
    ]
    heights += [h for h, final in one.finals.items() if h in other.finals and other.finals[h].block != final.block]
    return min(heights, default=None)


def _state(side: Side, helper: Side, height: int, notes: list[str]) -> _State:
    """A side's state at a height. A home that stopped just below it is lent the block by the other."""
    if isinstance(side, SnapshotState):
        return side
    kept = kept_folder(side.home, height)
    if (kept / MANIFEST_FILE).is_file():
        notes.append(f"the state of {side.home} is the one that its node kept when it halted")
        return SnapshotState(kept)
    if height < side.base.height:
        side = StoredChain(side.home, from_genesis=True)
    if height == side.newest + 1 and isinstance(helper, StoredChain) and helper.base.height < height <= helper.newest:
        replay = side.replay_to(side.newest)
        stored: StoredBlock | None = helper.block(height)
        replay.execute(helper.block(height))
    else:
        replay = side.replay_to(height)
        stored = side.block(height) if height > side.base.height else None
    state = ReplayState(replay)
    recorded = side.roots.get(stored.block.digest) if stored is not None else None
    if recorded is not None and recorded.state_root != state.root:
        notes.append(
            f"{side.home}: executing block {height} again gives state root {state.root.hex()}, but its log says "
            f"{recorded.state_root.hex()}: what its node did then is not what this software does now"
        )
    return state


def _first_by_execution(one: Side, other: Side, height: int) -> int | None:
    """Execute both homes' blocks side by side; the first whose roots differ. None when they differ from the start."""
    if not isinstance(one, StoredChain) or not isinstance(other, StoredChain):
        return None
    start = max(one.base.height, other.base.height)
    mine, theirs = one.replay_to(start), other.replay_to(start)
    if mine.venue.ledger.root != theirs.venue.ledger.root:
        return None
    for at in range(start + 1, height + 1):
        if mine.execute(one.block(at)) != theirs.execute(other.block(at)):
            return at
    return None


def state_at(side: StoredChain, height: int, notes: list[str]) -> _State:
    """A home's state after the block at this height."""
    return _state(side, side, height, notes)


def causes_in(side: Side, height: int, difference: StateDifference) -> tuple[list[Cause], str]:
    """(the commands that wrote the first of the rows that differ, the home that told), from one home's block."""
    report = Report(height, (b"", b""), None, difference)
    _find_causes(report, side, side)
    return report.causes, report.causes_from


def _find_causes(report: Report, one: Side, other: Side) -> None:
    """Look for the commands in the block after which the two differ, in the second home if it has the block."""
    rows = report.difference.rows[:CAUSES_MAX]
    for side in (other, one):
        if rows and isinstance(side, StoredChain) and side.base.height < report.height <= side.newest:
            numbers = {entry[0]: number for number, entry in enumerate(schema.ROWS)}
            replay = side.replay_to(report.height - 1)
            causes = Causes(replay.venue, side.block(report.height))
            report.causes = causes.find([(numbers[row.table], row.row) for row in rows])
            report.causes_from = str(side.home)
            return
