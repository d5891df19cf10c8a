"""From a home's files to what a replica starts with: the newest checkpoint, and the log's records after it."""

from collections.abc import Callable
from dataclasses import dataclass

from lockstep.base.errors import StorageFailed
from lockstep.log.log import Log, open_log
from lockstep.node.executor import Executor
from lockstep.node.places import Places
from lockstep.node.record import Record, StoredBlock, decode_record
from lockstep.node.recovery import Restored
from lockstep.node.replacement import Standing, replaced
from lockstep.node.restore import directory_of, observed_of
from lockstep.runtime.directory import Directory
from lockstep.runtime.history import History
from lockstep.runtime.home import Home
from lockstep.runtime.index import Index
from lockstep.runtime.store import Store
from lockstep.venue.venue import Venue
from lockstep.wire.block import Header, decode_header, genesis_header


@dataclass(frozen=True, slots=True)
class Opened:
    """A home's files, open, and the replica's start."""

    store: Store
    index: Index
    history: History
    log: Log
    places: Places
    executor: Executor
    restored: Restored
    newest_height: int
    """Height of the highest block that the log holds."""
    notes: list[str]


def open_files(home: Home, warm_up: Callable[[], None] = lambda: None, standing: Standing | None = None) -> Opened:
    """Open everything; raises `StorageFailed` when anything is not as it was written.

    Files are read before the state is rebuilt, because they may say no; `warm_up` is called in between. After a fetched
    state has become the checkpoint, memory is brought to it from what it holds (`standing`).
    """
    _check_log_is_there(home)
    store = Store(home.checkpoints, checkpoints_kept=home.config.checkpoints_kept)
    meta = store.checkpoint()
    header = genesis_header(home.genesis.chain_id, home.genesis.time_ms)
    if meta is not None:
        header = decode_header(meta.header)
        _check_chain(home, header)
    places, records = Places(), list[Record]()

    def visit(position: int, payload: bytes) -> None:
        record = decode_record(payload)
        places.note(record, position)
        records.append(record)

    segment_bytes = home.config.segment_bytes
    log = open_log(Directory(home.log), None if meta is None else meta.log_position, visit, segment_bytes)
    history = History(home.history, None if meta is None else meta.history_position, header.height, segment_bytes)
    warm_up()
    venue = _loaded(home, store) if standing is None else _replaced(store, standing)
    newest = max((r.block.header.height for r in records if isinstance(r, StoredBlock)), default=header.height)
    is_rebuilt = meta is not None and meta.is_rebuilt
    restored = Restored(
        header, venue.ledger.root, directory_of(venue), venue.roster, observed_of(venue), records, is_rebuilt
    )
    executor = Executor(venue, header.digest, header.height)
    notes = [*log.notes, *history.notes]
    return Opened(store, Index(store), history, log, places, executor, restored, newest, notes)


def _loaded(home: Home, store: Store) -> Venue:
    saved = store.state()
    return Venue(home.genesis, None if saved is None else (saved[0].manifest, saved[1]))


def _replaced(store: Store, standing: Standing) -> Venue:
    pinned = store.pin()
    if pinned is None:
        raise StorageFailed(f"the checkpoint store in {store.folder} is empty, though a state was just installed there")
    try:
        return replaced(standing, pinned.offer.manifest, pinned.read)
    finally:
        pinned.close()


def _check_log_is_there(home: Home) -> None:
    """The log is made before the history. Without it a validator that has voted would begin as if it never had."""
    if any(home.history.glob("*.log")) and not any(home.log.glob("*.log")):
        raise StorageFailed(
            f"{home.log} is empty, but {home.history} is not: the record of this validator's own votes is lost. Put "
            f"the log back; without it this home must not be used"
        )


def _check_chain(home: Home, header: Header) -> None:
    if header.chain_id != home.genesis.chain_id:
        raise StorageFailed(
            f"the checkpoint in {home.checkpoints} is of chain {header.chain_id.hex()}, the genesis file of chain "
            f"{home.genesis.chain_id.hex()}: one of them does not belong to this home"
        )
