"""Taking a stopped home back to an earlier certified height.

The state comes from the newest kept checkpoint at or below that height (or from genesis, while every block is here), by
executing the home's own blocks again; each root that a certificate names is compared on the way. What is above is
forgotten, and fetched from peers by the next run, like anything that a node has missed.

Own votes are never forgotten: those above the height are written once more behind everything else in the log, and that
is where the next run begins to read. So it can't contradict them, and signs nothing in a view in which it did.

Nothing is undone in the log or in the history; the store's one transaction makes it so. A crash before it changes
nothing, one after it nothing more.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from lockstep.base.errors import ConfigurationError, InvariantBroken, StorageFailed
from lockstep.log.log import Log, open_log
from lockstep.log.reader import LogReader
from lockstep.node.executor import Executor
from lockstep.node.pipeline import fates_of
from lockstep.node.record import Mute, Record, StoredBlock, decode_record, encode_record
from lockstep.runtime.block_index import BlockPlace, FatePlace
from lockstep.runtime.directory import Directory
from lockstep.runtime.history import History, HistoryReader
from lockstep.runtime.home import Home
from lockstep.runtime.set_files import SetFiles
from lockstep.runtime.stopped_store import StoppedStore
from lockstep.runtime.store import CheckpointMeta
from lockstep.runtime.stored_chain import execute_again
from lockstep.venue.venue import Execution, Venue
from lockstep.wire.block import Header, decode_header, genesis_header
from lockstep.wire.certificate import Finalization, verify_certificate
from lockstep.wire.codec import encode
from lockstep.wire.evidence import Evidence
from lockstep.wire.vote import Finalize, Notarize, Nullify, Vote

_NEAR: Final = 3


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What was done."""

    head: int
    """The newest final block that the home had."""
    height: int
    """Where it is now."""
    base: int
    """The checkpoint that the state was made from; 0: genesis."""
    executed: int
    votes: int
    """Own votes that are above the height, and bind as ever."""
    highest_view: int
    """Of those; 0 when there are none."""
    state_root: bytes


class _Block(NamedTuple):
    """A block in the log. There may be too many to have them all in memory."""

    header: Header
    position: int


@dataclass(slots=True)
class _Log:
    """What a home's log says, from some position on."""

    blocks: dict[bytes, _Block] = field(default_factory=dict)
    finals: dict[int, tuple[Finalization, int]] = field(default_factory=dict)
    """The finalization of a height, and its position."""
    own: list[Vote | Evidence] = field(default_factory=list)
    mute: tuple[Mute, ...] = ()
    """The newest word on up to where nothing is signed."""

    def visit(self, position: int, payload: bytes) -> None:
        record: Record = decode_record(payload)
        match record:
            case StoredBlock():
                self.blocks.setdefault(record.block.digest, _Block(record.block.header, position))
            case Finalization():
                self.finals.setdefault(record.height, (record, position))
            case Notarize() | Nullify() | Finalize() | Evidence():
                self.own.append(record)
            case Mute():
                self.mute = (record,)
            case _:
                pass

    def above(self, base: Header) -> list[_Block]:
        """The final blocks above `base`, as far as all are here."""
        for height in sorted(self.finals, reverse=True):
            path: list[_Block] = []
            tip = self.finals[height][0].block
            while tip != base.digest and (found := self.blocks.get(tip)) is not None:
                path.append(found)
                tip = found.header.parent
            if tip == base.digest:
                return path[::-1]
        return []


class Rollback:
    """One rollback of a home whose lock the caller holds. Made, then `run`; then `close`."""

    def __init__(self, home: Home) -> None:
        """Raises `StorageFailed`."""
        self._home = home
        self._genesis = genesis_header(home.genesis.chain_id, home.genesis.time_ms)
        self._store = StoppedStore(home.checkpoints, checkpoints_kept=home.config.checkpoints_kept)
        self._metas = self._store.checkpoints()

    def close(self) -> None:
        """Give the files back."""
        self._store.close()

    def run(self, height: int | None, blocks: int | None) -> RolledBack:
        """Go back to `height`, or by `blocks`. Raises `ConfigurationError` when that can't be, with what can."""
        newest = self._metas[-1] if self._metas else None
        log, said = self._read(newest)
        final = said.above(self._header(newest))
        head = (newest.height if newest else 0) + len(final)
        target = height if height is not None else head - (blocks or 0)
        if not 0 < target < head:
            raise ConfigurationError(f"the home's newest final block is {head}: there is no going back to {target}")
        base = max((m for m in self._metas if m.height <= target), key=lambda m: m.height, default=None)
        self._check_reachable(base, target)
        if base is not newest:
            log.close()
            log, said = self._read(base)
            final = said.above(self._header(base))
        try:
            return self._go_back(log, said, final, base, target, head)
        finally:
            log.close()

    # -- inside -----------------------------------------------------------------------------------------

    def _header(self, meta: CheckpointMeta | None) -> Header:
        return self._genesis if meta is None else decode_header(meta.header)

    def _read(self, base: CheckpointMeta | None) -> tuple[Log, _Log]:
        said = _Log()
        start = None if base is None else base.log_position
        return open_log(Directory(self._home.log), start, said.visit, self._home.config.segment_bytes), said

    def _check_reachable(self, base: CheckpointMeta | None, target: int) -> None:
        lowest = self._store.blocks.lowest().blocks
        if base is None and lowest > 1:
            oldest = self._metas[0].height
            raise ConfigurationError(
                f"height {target} can't be reached: blocks below {lowest} are not here, and the oldest checkpoint that "
                f"is kept is of height {oldest}. For less, begin a new home from a snapshot (lockstep snapshot import)"
            )

    def _go_back(
        self, log: Log, said: _Log, final: list[_Block], base: CheckpointMeta | None, target: int, head: int
    ) -> RolledBack:
        certificate = self._certificate(said, base, target)
        first = 0 if base is None else base.height
        path = final[: target - first]
        if len(path) != target - first:
            raise StorageFailed(f"the log in {self._home.log} has no unbroken chain of blocks up to {target}")
        header = path[-1].header if path else self._header(base)
        if header.closes_epoch:
            raise ConfigurationError(
                f"block {target} is the last of its epoch: its state tells the next validators, not those that signed "
                "it, so no checkpoint is made of it. Take a height below or above it"
            )
        sets = SetFiles(self._home.sets, self._genesis.chain_id)
        verify_certificate(certificate, sets.deciding(self._home.genesis, header))
        venue = self._venue(base)
        executor = Executor(venue, self._header(base).digest, first)
        history = self._history()
        made = self._execute(executor, path, said, history)
        state = venue.ledger.checkpoint()
        if state.root != certificate.state_root:
            raise StorageFailed(f"the state made for height {target} is not the one that its certificate is about")
        own = list(dict.fromkeys(record for record in said.own if record.view > header.view))
        events = made.events if path else self._events(base)
        history_position = history.begin_again(header.height, header.digest, events)
        log_position = log.append([encode_record(r) for r in (certificate, *said.mute, *own)])[0]
        log.sync()
        history.sync()
        history.close()
        is_rebuilt = bool(self._metas) and self._metas[-1].is_rebuilt
        meta = CheckpointMeta(
            target, header.encode(), encode(certificate), state.manifest, state.root, log_position, history_position,
            is_rebuilt,
        )  # fmt: skip
        self._store.roll_back(None if base is None else first, meta, state.sets, made.blocks, made.fates)
        votes = [record for record in own if not isinstance(record, Evidence)]
        views = [vote.view for vote in votes]
        return RolledBack(head, target, first, len(path), len(votes), max(views, default=0), state.root)

    def _certificate(self, said: _Log, base: CheckpointMeta | None, target: int) -> Finalization:
        """Of the target; raises `ConfigurationError` when it has none of its own."""
        if base is not None and base.height == target:
            found = msgspec.msgpack.decode(base.certificate, type=Finalization)
        elif target in said.finals:
            found = said.finals[target][0]
        else:
            near = sorted(said.finals, key=lambda height: (abs(height - target), height))[:_NEAR]
            raise ConfigurationError(
                f"block {target} is final through a later block and has no certificate of its own: nothing says what "
                f"its state is. Take one of {', '.join(map(str, sorted(near)))}"
            )
        return found

    def _venue(self, base: CheckpointMeta | None) -> Venue:
        if base is None:
            return Venue(self._home.genesis)
        venue = Venue(self._home.genesis, (base.manifest, self._store.older_state(base.height)))
        if venue.ledger.root != base.state_root:
            raise StorageFailed(f"the checkpoint of height {base.height} in {self._home.checkpoints} is damaged")
        return venue

    def _execute(self, executor: Executor, path: list[_Block], said: _Log, history: History) -> "_Made":
        """Execute the blocks again, compare with every certificate, and index what no checkpoint has covered yet."""
        reader = LogReader(Directory(self._home.log))
        covered = self._metas[-1].height if self._metas else 0
        made = _Made()
        waiting: list[tuple[Header, int, bytes]] = []
        for header, position in path:
            stored = decode_record(reader.read(position))
            if not isinstance(stored, StoredBlock):
                raise InvariantBroken(f"block {header.height} is not where it was read before")
            execution = execute_again(executor, stored)
            made.events = execution.events.tobytes()
            waiting.append((header, position, made.events))
            for digest, place, first, events in fates_of(stored, execution):
                made.fates[digest] = FatePlace(header.height, place, first, events)
            certificate, _ = said.finals.get(header.height, (None, 0))
            if certificate is None:
                continue
            _compare(execution, certificate)
            for above, at, rows in waiting:  # what a certificate has confirmed may go to the history
                if above.height > covered:
                    _, certified_at = said.finals.get(above.height, (None, 0))
                    written = history.add(above.height, above.digest, rows)
                    made.blocks[above.height] = BlockPlace(at, certified_at, written)
            waiting.clear()
        reader.close()
        return made

    def _history(self) -> History:
        newest = self._metas[-1] if self._metas else None
        start, height = (None, 0) if newest is None else (newest.history_position, newest.height)
        return History(self._home.history, start, height, self._home.config.segment_bytes)

    def _events(self, base: CheckpointMeta | None) -> bytes:
        """Of the checkpoint's own block."""
        if base is None:
            raise InvariantBroken("going back to genesis was refused before")
        reader = HistoryReader(self._home.history)
        events = reader.events(base.history_position, base.height)
        reader.close()
        return events


@dataclass(slots=True)
class _Made:
    """By executing blocks again."""

    events: bytes = b""
    """Of the last block."""
    blocks: dict[int, BlockPlace] = field(default_factory=dict)
    fates: dict[bytes, FatePlace] = field(default_factory=dict)


def _compare(execution: Execution, certificate: Finalization) -> None:
    if (certificate.state_root, certificate.event_root) != (execution.state_root, execution.event_root):
        raise StorageFailed(
            f"executing block {certificate.height} again gives state root {execution.state_root.hex()}, and a quorum "
            f"signed {certificate.state_root.hex()}: this software is not what the chain runs. Nothing was changed"
        )


def roll_back(home: Home, height: int | None, blocks: int | None) -> RolledBack:
    """Take a home back. Its lock is held by the caller. Raises `ConfigurationError` or `StorageFailed`, with nothing
    changed."""
    rollback = Rollback(home)
    try:
        return rollback.run(height, blocks)
    finally:
        rollback.close()
