"""A node's files without the node: real blocks are written, checkpointed, pruned and read back, one step at a time."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import SimpleQueue

from lockstep.base.digest import digest
from lockstep.log.log import open_log
from lockstep.node.checks import observation_rows
from lockstep.node.effects import Commit, Effect
from lockstep.node.executor import Executor
from lockstep.node.places import Places
from lockstep.node.record import Record, StoredBlock, decode_record, encode_record
from lockstep.node.retention import Retention
from lockstep.runtime.archive import Archive, CheckpointJob, FinalBlock
from lockstep.runtime.directory import Directory
from lockstep.runtime.history import History
from lockstep.runtime.in_use import InUse
from lockstep.runtime.index import Index
from lockstep.runtime.pruning import Pruner
from lockstep.runtime.serving import Serving
from lockstep.runtime.set_files import SetFiles
from lockstep.runtime.store import Store
from lockstep.venue.venue import Venue
from lockstep.wire.block import Block, Header, Payload, genesis_header
from lockstep.wire.bundle import seal_bundle
from lockstep.wire.certificate import Finalization, finalization
from lockstep.wire.codec import encode
from lockstep.wire.command import Side
from lockstep.wire.observation import Observation, seal_observation
from lockstep.wire.roster import genesis_roster
from lockstep.wire.validators import validator_set
from lockstep.wire.vote import Notarize, sign_finalize, sign_notarize
from tests.support.small_network import PRICE, orders, small_genesis, trader_key, validator_key

BLOCKS = 100
BLOCK_MS = 1_000
SEGMENT_BYTES = 8 * 1024
GENESIS = small_genesis()
CHAIN = GENESIS.chain_id
SET = validator_set(GENESIS).hash


@dataclass(frozen=True)
class Made:
    """One final block, and what executing it gave. Every third has no certificate of its own."""

    stored: StoredBlock
    certificate: Finalization | None
    commit: Commit
    state_root: bytes
    vote: Notarize


def _bundles(height: int) -> tuple:
    account, sequence = height % 4, (height - 1) // 4
    side = Side.SELL if account % 2 else Side.BUY
    return (seal_bundle(trader_key(account), CHAIN, account, sequence, 1_000, orders(side, PRICE, [3, 2])),)


@cache
def chain() -> list[Made]:
    """Blocks 1 to BLOCKS, really executed."""
    header = genesis_header(CHAIN, GENESIS.time_ms)
    executor = Executor(Venue(GENESIS), header.digest, 0)
    made: list[Made] = []
    for height in range(1, BLOCKS + 1):
        time_ms = GENESIS.time_ms + height * BLOCK_MS
        bundles = _bundles(height)
        seen = tuple(seal_observation(validator_key(v), CHAIN, v, time_ms - v, (PRICE,)) for v in range(4))
        payload = Payload(b"".join(b.digest for b in bundles), tuple(o.raw for o in seen), ())
        header = Header(
            CHAIN, height, height, height - 1, time_ms, height % 4, len(bundles), sum(b.count for b in bundles),
            header.digest, digest(payload.encode()), SET, SET,
        )  # fmt: skip
        stored = StoredBlock(Block(header, payload), bundles)
        execution = execute(executor, stored)
        roots = (execution.state_root, execution.event_root)
        votes = [sign_finalize(validator_key(v), CHAIN, v, height, height, header.digest, *roots) for v in range(3)]
        fates = ((bundles[0].digest, 0, 0, int((execution.events["command"] < 2).sum())),)
        made.append(
            Made(
                stored, finalization(votes, 4) if height % 3 else None,
                Commit(header.digest, height, execution.events, fates), execution.state_root,
                sign_notarize(validator_key(0), CHAIN, 0, height, header.digest),
            )
        )  # fmt: skip
    return made


def execute(executor: Executor, stored: StoredBlock):
    observations = observation_rows([Observation(raw) for raw in stored.block.payload.observations])
    execution = executor.execute(stored, observations)
    executor.commit(stored.block.digest)
    return execution


class PrunedHome:
    """Files in a folder, open. Nothing happens by itself: the archive's thread and the pruner are driven by hand."""

    def __init__(self, folder: Path, retention: Retention, checkpoints_kept: int = 1) -> None:
        self.folder = folder
        self.store = Store(folder / "checkpoints", checkpoints_kept=checkpoints_kept)
        self.index = Index(self.store)
        meta = self.store.checkpoint()
        self.places, self.records = Places(), list[Record]()

        def visit(position: int, payload: bytes) -> None:
            record = decode_record(payload)
            self.places.note(record, position)
            self.records.append(record)

        start = None if meta is None else meta.log_position
        self.log = open_log(Directory(folder / "log"), start, visit, SEGMENT_BYTES)
        self.height = 0 if meta is None else meta.height
        position = None if meta is None else meta.history_position
        history = History(folder / "history", position, self.height, SEGMENT_BYTES)
        self.in_use = InUse(folder)
        self.archive = Archive(
            history, self.index, self.store, lambda _: None, lambda _: None, self._failed
        )  # fmt: skip
        self.pruner = Pruner(retention, folder / "log", folder / "history", self.store, self.index, self.in_use)
        self.pruner.checkpointed(0)
        self.answers: SimpleQueue[Effect] = SimpleQueue()
        self.serving = Serving(
            folder / "log",
            folder / "history",
            self.index,
            self.store,
            self._sets(),
            self.answers.put,
            self._failed,
            self.in_use,
        )
        saved = self.store.state()
        base = genesis_header(CHAIN, GENESIS.time_ms) if meta is None else chain()[meta.height - 1].stored.block.header
        venue = Venue(GENESIS, None if saved is None else (saved[0].manifest, saved[1]))
        self.executor = Executor(venue, base.digest, base.height)
        self._recover()

    def _sets(self) -> SetFiles:
        sets = SetFiles(self.folder / "sets", CHAIN)
        sets.put(genesis_roster(GENESIS))
        return sets

    def _failed(self, error: BaseException) -> None:
        raise error

    def _recover(self) -> None:
        """What a restart does: execute the log's final blocks above the checkpoint again."""
        blocks = {r.block.header.height: r for r in self.records if isinstance(r, StoredBlock)}
        while self.height + 1 in blocks:
            self._final(blocks[self.height + 1])

    def _final(self, stored: StoredBlock) -> None:
        execute(self.executor, stored)
        self.height += 1
        block, certificate = self.places.final(stored.block.digest, self.height)
        self.archive._work([FinalBlock(chain()[self.height - 1].commit, block, certificate)])

    @property
    def root(self) -> bytes:
        return self.executor.venue.ledger.root

    def grow(self, count: int) -> None:
        """The next blocks become final here."""
        for made in chain()[self.height : self.height + count]:
            records: list[Record] = [made.stored, made.vote]
            records += [made.certificate] if made.certificate is not None else []
            for record, at in zip(records, self.log.append([encode_record(r) for r in records]), strict=True):
                self.places.note(record, at)
            self._final(made.stored)

    def checkpoint(self) -> None:
        """At the newest block, if it has a certificate and there was none at it."""
        made = chain()[self.height - 1] if self.height else None
        meta = self.store.checkpoint()
        if made is None or made.certificate is None or (meta is not None and meta.height == self.height):
            return
        self.log.sync()
        job = CheckpointJob(self.height, made.stored.block.header.encode(), encode(made.certificate))
        job.log_position = self.places.start_after(made.stored.block.header.view)
        job.state.set_result(self.executor.venue.ledger.checkpoint())
        self.archive._work([job])
        self.pruner.checkpointed(self.height - (0 if meta is None else meta.height))

    def prune(self, steps: int = 1_000_000) -> int:
        """So many pieces; returns how many there were."""
        done = 0
        while done < steps and self.pruner.step():
            done += 1
        return done

    def close(self) -> None:
        self.serving.close()
        self.archive.close()
        self.pruner.close()
        self.log.close()
        self.store.close()

    def files(self, name: str) -> list[str]:
        return sorted(path.name for path in (self.folder / name).glob("*.log"))
