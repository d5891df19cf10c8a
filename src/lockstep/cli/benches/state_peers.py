"""Processes that serve a made-up state to one that fetches it: the node's own transport, serving thread and store.

Each peer is a process with TLS connections as between validators. `Mischief` makes one corrupt a share of the chunks
that it sends, or accept requests and answer none.
"""

import asyncio
import contextlib
import multiprocessing
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import uvloop

from lockstep.base.digest import ZERO_DIGEST, digest
from lockstep.cli.benches.state_fetch import settle_as_a_node
from lockstep.ledger.changes import ChunkSet
from lockstep.ledger.manifest import Manifest, TableEntry
from lockstep.ledger.subtree import ChunkTree, leaf_values, warm_up
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.node.effects import Effect, Send, ServeState
from lockstep.node.events import Event, PeerSaid
from lockstep.runtime.flat_tables import Span
from lockstep.runtime.home import Home, load_home
from lockstep.runtime.index import Index
from lockstep.runtime.network import init_network
from lockstep.runtime.plain_server import PlainSender
from lockstep.runtime.serving import Serving
from lockstep.runtime.set_files import SetFiles
from lockstep.runtime.store import CheckpointMeta, Store
from lockstep.runtime.transport import Transport
from lockstep.wire.block import Header
from lockstep.wire.certificate import finalization
from lockstep.wire.codec import encode
from lockstep.wire.genesis import Account, Instrument
from lockstep.wire.message import FetchCheckpoint, FetchState, StatePart
from lockstep.wire.validators import validator_set
from lockstep.wire.vote import sign_finalize

TABLES: Final = 4
HEIGHT: Final = 1_000
_ROW_BYTES: Final = 64
_WRITE_CHUNKS: Final = 65_536


@dataclass(frozen=True, slots=True)
class Mischief:
    """What a peer does wrong."""

    corrupts: float = 0.0
    """This share of its chunks."""
    stalls: bool = False


def make_homes(folder: Path) -> list[Home]:
    """Four validators' homes: three serve, the last one fetches."""
    instrument = Instrument("BTC-PERP", 1_000, 4096, 1_000_000, 0, 500, 100_000, 50_000, 500_000)
    account = Account(bytes(32), 10**9)
    return init_network(
        folder, 4, [instrument], [account], bridge_account=0, fee_account=0, insurance_account=0, durability="fsync"
    )


def write_state(homes: list[Home], folder: Path, tables: Sequence["np.ndarray[Any, Any]"], height: int) -> None:
    """A store whose checkpoint has these tables, (chunks, 1024) uint8 each, certified by three validators."""
    entries = []
    for number, data in enumerate(tables):
        tree = ChunkTree(leaf_values(data, np.arange(len(data)), data.nbytes))
        rows = data.nbytes // _ROW_BYTES
        entries.append(TableEntry(f"table_{number}", "words:<i8[8]@0", _ROW_BYTES, rows, tree.hash.hex()))
    manifest = msgspec.json.encode(Manifest("lockstep-state-1", tuple(entries)))
    chain_id, root = homes[0].genesis.chain_id, digest(manifest)
    named = validator_set(homes[0].genesis).hash
    header = Header(
        chain_id, height, height, height - 1, 1_700_000_000_000, 0, 0, 0, ZERO_DIGEST, ZERO_DIGEST, named, named
    )
    votes = [
        sign_finalize(home.key, chain_id, home.index, height, height, header.digest, root, ZERO_DIGEST)
        for home in homes[:3]
    ]
    meta = CheckpointMeta(height, header.encode(), encode(finalization(votes, len(homes))), manifest, root, 0, 0)
    store = Store(folder)
    store.write(meta, _parts(tables), {}, {})
    store.close()


def _parts(tables: Sequence["np.ndarray[Any, Any]"]) -> Iterator[ChunkSet]:
    for number, data in enumerate(tables):
        for first in range(0, len(data), _WRITE_CHUNKS):
            part = data[first : first + _WRITE_CHUNKS]
            yield ChunkSet(number, np.arange(first, first + len(part), dtype=np.int32), part)


@contextlib.contextmanager
def serving(homes: list[Home], store: Path, mischief: Sequence[Mischief]) -> Iterator[list[int]]:
    """The first homes' processes, one for each entry of `mischief`, serving the same store; their numbers."""
    context = multiprocessing.get_context("spawn")
    processes: list[BaseProcess] = []
    for home, wrong in zip(homes, mischief, strict=False):
        processes.append(context.Process(target=_serve, args=(home.path, store, wrong), daemon=True))
        processes[-1].start()
    try:
        yield [process.pid for process in processes if process.pid is not None]
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _serve(home: Path, store: Path, mischief: Mischief) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_Peer(load_home(home), store, mischief).run())


class _Peer:
    """A node reduced to what serves the state."""

    def __init__(self, home: Home, store: Path, mischief: Mischief) -> None:
        self._home = home
        self._store = Store(store, read_only=True)
        self._mischief = mischief
        self._random = random.Random(home.index)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        home = self._home
        self._transport = Transport(
            home.genesis, home.index, home.key, home.config.peer_listen, self._event, lambda *_: None
        )

        def answered(effect: Effect) -> None:
            loop.call_soon_threadsafe(self._answer, effect)

        warm_up()
        settle_as_a_node()
        sets = SetFiles(home.sets, home.genesis.chain_id)
        self._serving = Serving(
            home.log, home.history, Index(self._store), self._store, sets, answered, print, None, self._plain
        )
        self._transport.start()
        await asyncio.Event().wait()

    def _event(self, event: Event) -> None:
        if isinstance(event, PeerSaid) and isinstance(event.message, FetchCheckpoint | FetchState):
            if self._mischief.stalls and isinstance(event.message, FetchState):
                return
            self._serving.put(ServeState(event.peer, event.message))

    def _answer(self, effect: Effect) -> None:
        if not isinstance(effect, Send):
            return
        message = effect.message
        if isinstance(message, StatePart) and self.is_spoilt(len(message.data)):
            message = StatePart(message.request, spoilt(bytes(message.data)))
        self._transport.send(effect.peer, message)
        self._transport.flush()

    def _plain(self, peer: int) -> "_Spoiling | None":
        sender = self._transport.plain(peer)
        return None if sender is None else _Spoiling(sender, self)

    def is_spoilt(self, size: int) -> bool:
        """Whether to spoil an answer: it is as soon as one of its chunks is."""
        return self._random.random() < self._mischief.corrupts * max(1, size // CHUNK_BYTES)


class _Spoiling:
    """A plain connection on which a peer does wrong, if it does."""

    def __init__(self, sender: PlainSender, peer: _Peer) -> None:
        self._sender = sender
        self._peer = peer

    def send(self, request: int, size: int, pieces: "Sequence[bytes | Span]") -> bool:
        """As the sender's."""
        if not self._peer.is_spoilt(size):
            return self._sender.send(request, size, pieces)
        data = b"".join([
            piece if isinstance(piece, bytes) else os.pread(piece.file.handle, piece.size, piece.offset)
            for piece in pieces
        ])  # fmt: skip
        return self._sender.send(request, size, [spoilt(data[:size])])


def spoilt(data: bytes) -> bytes:
    """With one bit changed in the middle."""
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    return bytes(changed)
