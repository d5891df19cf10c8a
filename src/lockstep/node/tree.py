"""Blocks that are not final yet, as a tree rooted at the newest final block.

Each entry knows what a child needs from it: the sequences that it leaves accounts at, and the observations that
are on the chain already. Both are looked up through the ancestors down to the root.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from lockstep.node.directory import Directory
from lockstep.node.record import StoredBlock
from lockstep.venue.venue import Execution
from lockstep.wire.block import Block, Header
from lockstep.wire.roster import Roster
from lockstep.wire.set_change import decode_change


@dataclass(slots=True, eq=False)
class Entry:
    """One block, and how far this node has got with it."""

    header: Header
    block: Block | None = None
    """With its payload, once that is here."""
    stored: StoredBlock | None = None
    """With its bundles, once all are here and it was found valid."""
    valid: bool | None = None
    wanted: bool = False
    """The ordering engine asked for it, or it is notarized: fetch, check and execute it."""
    notarized: bool = False
    persisted: bool = False
    execution: Execution | None = None
    sequences: dict[int, int] = field(default_factory=dict)
    """Next sequence of each account that has a bundle in this block."""
    observed_ms: dict[int, int] = field(default_factory=dict)
    """Time of each observation in this block, by validator."""
    signers: tuple[int, ...] = ()
    """Who notarized it, so who should have it."""
    roster: Roster | None = None
    """What it leaves behind, once somebody has asked (`Tree.roster_after`)."""
    view: int = 0
    """The newest view that it was notarized in: its header's, or, for the last block of an epoch, a later one."""

    def __post_init__(self) -> None:
        self.view = self.header.view


class Tree:
    """Entries by block digest, over the newest final block."""

    def __init__(self, root: Header, directory: Directory, roster: Roster) -> None:
        self.root = root
        self.directory = directory
        self.root_roster = roster
        self.root_observed_ms: dict[int, int] = {}
        self._entries: dict[bytes, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, block: bytes) -> Entry | None:
        """The entry of a block that is not final."""
        return self._entries.get(block)

    def entry(self, header: Header) -> Entry:
        """The entry of this block, made if need be."""
        entry = self._entries.get(header.digest)
        if entry is None:
            entry = self._entries[header.digest] = Entry(header)
        return entry

    def entries(self) -> Iterator[Entry]:
        """All entries, in the order in which they came."""
        return iter(list(self._entries.values()))

    def header(self, block: bytes) -> Header | None:
        """The header of a block of the tree, the root included."""
        if block == self.root.digest:
            return self.root
        entry = self._entries.get(block)
        return entry.header if entry else None

    def is_valid(self, block: bytes) -> bool:
        """Whether the block is the root or was found valid (then so are its ancestors)."""
        if block == self.root.digest:
            return True
        entry = self._entries.get(block)
        return entry is not None and entry.valid is True

    def path(self, block: bytes) -> list[Entry] | None:
        """Entries from the child of the root to `block`; [] for the root; None when an ancestor is missing."""
        path: list[Entry] = []
        while block != self.root.digest:
            entry = self._entries.get(block)
            if entry is None or entry.header.height <= self.root.height:
                return None
            path.append(entry)
            block = entry.header.parent
        path.reverse()
        return path

    def above(self, base: Header, block: bytes) -> list[Entry]:
        """Entries from the child of `base` to `block`; [] when an entry between them is missing, or there is none."""
        path: list[Entry] = []
        while block != base.digest:
            entry = self._entries.get(block)
            if entry is None or entry.header.height <= base.height:
                return []
            path.append(entry)
            block = entry.header.parent
        path.reverse()
        return path

    def missing_ancestor(self, block: bytes) -> bytes | None:
        """The nearest block at or below `block` that is not here; None when the path to the root is whole, or leads
        past it."""
        while block != self.root.digest:
            entry = self._entries.get(block)
            if entry is None:
                return block
            if entry.header.height <= self.root.height:
                return None
            block = entry.header.parent
        return None

    def next_sequence(self, block: bytes, account: int) -> int:
        """The sequence that `block` (valid, or the root) leaves `account` at."""
        while block != self.root.digest:
            entry = self._entries[block]
            known = entry.sequences.get(account)
            if known is not None:
                return known
            block = entry.header.parent
        return self.directory.next_sequence(account)

    def observed_ms(self, block: bytes, validator: int) -> int:
        """Time of the newest observation of `validator` on the chain up to `block`; -1 for none."""
        while block != self.root.digest:
            entry = self._entries[block]
            known = entry.observed_ms.get(validator)
            if known is not None:
                return known
            block = entry.header.parent
        return self.root_observed_ms.get(validator, -1)

    def roster_after(self, block: bytes) -> Roster:
        """The roster that a block leaves, which is here with its ancestors and valid, or is the root: who decides its
        child."""
        if block == self.root.digest:
            return self.root_roster
        known = self._entries[block].roster
        if known is not None:
            return known
        path: list[Entry] = []
        while block != self.root.digest and self._entries[block].roster is None:
            path.append(self._entries[block])
            block = path[-1].header.parent
        roster = self.root_roster if block == self.root.digest else self._entries[block].roster
        assert roster is not None
        for entry in reversed(path):
            assert entry.block is not None, "a valid block is here"
            change = entry.block.payload.change
            roster = roster.after(entry.header.height, decode_change(change).change if change else None)
            entry.roster = roster
        return roster

    def advance(self, entry: Entry) -> list[Entry]:
        """`entry`, a child of the root, is final: make it the root. Returns the entries that this made obsolete."""
        self.root, self.root_roster = entry.header, self.roster_after(entry.header.digest)
        del self._entries[entry.header.digest]
        for account, sequence in entry.sequences.items():
            self.directory.sequences[account] = sequence
        self.root_observed_ms.update(entry.observed_ms)
        obsolete = [e for e in self._entries.values() if e.header.height <= self.root.height]
        for old in obsolete:
            del self._entries[old.header.digest]
        return obsolete
