"""Homes of four validators with a long log behind them, made in-process.

A real network takes ten minutes for 100,000 blocks. Here one process holds all four keys: it executes real blocks of
signed bundles on the real engine, signs the quorum's votes, and writes log, history and checkpoints through the node's
own classes. What a node finds at its restart is what it would have written itself, but for its own votes on blocks
that have long been final, which a restart does not look at.
"""

import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np

from lockstep.base.digest import digest
from lockstep.base.keys import PrivateKey
from lockstep.cli.benches.sessions import say
from lockstep.ledger.changes import Checkpoint
from lockstep.market.cast import Trader
from lockstep.node.record import Record, StoredBlock, encode_record
from lockstep.runtime.block_index import BlockPlace, FatePlace
from lockstep.runtime.home import Home
from lockstep.runtime.index import Index
from lockstep.runtime.restore import Opened, open_files
from lockstep.runtime.store import CheckpointMeta
from lockstep.venue.venue import Execution
from lockstep.wire.block import Block, Header, Payload, genesis_header
from lockstep.wire.bundle import seal_bundle
from lockstep.wire.certificate import Finalization, Notarization, finalization, notarization
from lockstep.wire.codec import encode
from lockstep.wire.command import COMMAND, Kind
from lockstep.wire.genesis import Genesis
from lockstep.wire.observation import OBSERVATION
from lockstep.wire.validators import validator_set
from lockstep.wire.vote import sign_finalize, sign_notarize

_SIGNERS: Final = 3
_COMMANDS: Final = 4
_NOTHING: Final = np.empty(0, OBSERVATION)


class _Writer:
    """Adds blocks to one home's files."""

    def __init__(self, homes: list[Home], traders: list[Trader]) -> None:
        self._genesis: Genesis = homes[0].genesis
        self._chain_id = homes[0].genesis.chain_id
        self._set = validator_set(homes[0].genesis).hash
        self._keys: list[PrivateKey] = [home.key for home in homes]
        self._traders = traders
        self._files: Opened = open_files(homes[0])
        self._parent = genesis_header(self._genesis.chain_id, self._genesis.time_ms)
        self._index: Index = self._files.index
        self._sequences = dict.fromkeys((trader.account for trader in traders), 0)

    def add(self, height: int) -> None:
        """One block: built, notarized, executed, finalised, written."""
        stored = self._build(height)
        block = stored.block
        execution = self._files.executor.execute(stored, _NOTHING)
        notarized, final = self._certify(block.header, execution)
        records: tuple[Record, ...] = (stored, notarized, final)
        positions = self._files.log.append([encode_record(record) for record in records])
        for record, position in zip(records, positions, strict=True):
            self._files.places.note(record, position)
        self._files.executor.commit(block.digest)
        self._parent = block.header
        self._archive(height, stored, execution)
        if height % self._genesis.parameters.checkpoint_interval_blocks == 0:
            self._checkpoint(height, final)

    def _build(self, height: int) -> StoredBlock:
        trader = self._traders[height % len(self._traders)]
        rows = np.zeros(_COMMANDS, COMMAND)
        rows["kind"], rows["size"] = Kind.TRANSFER, np.arange(1, _COMMANDS + 1) + height % 1000
        rows["target"] = self._traders[(height + 1) % len(self._traders)].account
        sequence = self._sequences[trader.account]
        self._sequences[trader.account] += 1
        bundle = seal_bundle(trader.key, self._chain_id, trader.account, sequence, height + 100, rows)
        payload = Payload(bundle.digest, (), ())
        header = Header(
            self._chain_id, height, height, self._parent.view, self._genesis.time_ms,
            height % len(self._keys), 1, _COMMANDS, self._parent.digest, digest(payload.encode()), self._set, self._set,
        )  # fmt: skip
        return StoredBlock(Block(header, payload), (bundle,))

    def _certify(self, header: Header, execution: Execution) -> tuple[Notarization, Finalization]:
        chain, view = self._chain_id, header.view
        signers = list(enumerate(self._keys))[:_SIGNERS]
        notarize = [sign_notarize(key, chain, signer, view, header.digest) for signer, key in signers]
        finalize = [
            sign_finalize(
                key, chain, signer, view, header.height, header.digest, execution.state_root, execution.event_root
            )
            for signer, key in signers
        ]
        return notarization(notarize, len(self._keys)), finalization(finalize, len(self._keys))

    def _archive(self, height: int, stored: StoredBlock, execution: Execution) -> None:
        block, certificate = self._files.places.final(stored.block.digest, height)
        position = self._files.history.add(height, stored.block.digest, execution.events.tobytes())
        self._index.blocks[height] = BlockPlace(block, certificate, position)
        self._index.fates[stored.bundles[0].digest] = FatePlace(height, 0, 0, len(execution.events))

    def _checkpoint(self, height: int, final: Finalization) -> None:
        files, index = self._files, self._index
        files.log.sync()
        files.history.sync()
        state: Checkpoint = files.executor.venue.ledger.checkpoint()
        meta = CheckpointMeta(
            height, self._parent.encode(), encode(final), state.manifest, state.root,
            files.places.start_after(self._parent.view), index.blocks[height].history,
        )  # fmt: skip
        files.store.write(meta, state.sets, index.blocks, index.fates)
        index.settle(height)

    def close(self) -> None:
        """Make everything durable."""
        self._files.log.sync()
        self._files.history.sync()
        self._files.log.close()
        self._files.history.close()
        self._files.store.close()


def write_long_log(homes: list[Home], traders: tuple[Trader, ...], blocks: int) -> dict[str, Any]:
    """Give all `homes` (new ones) the same `blocks` final blocks. Returns what was written."""
    writer = _Writer(homes, [trader for trader in traders if trader.weight])
    for height in range(1, blocks + 1):
        writer.add(height)
        if height % 10_000 == 0:
            say(f"{height:,} of {blocks:,} blocks written")
    writer.close()
    for home in homes[1:]:
        for source in (homes[0].log, homes[0].checkpoints, homes[0].history):
            _copy(source, home.path / source.name)
    return {"blocks": blocks, "log_mib": _mebibytes(homes[0].log), "history_mib": _mebibytes(homes[0].history)}


def _copy(source: Path, target: Path) -> None:
    """Without LMDB's lock file, which belongs to processes of one folder."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("lock.mdb"))


def _mebibytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) >> 20
