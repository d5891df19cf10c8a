"""The process that fetches a state: the node's own transport, state sync and store, without a venue."""

import asyncio
import contextlib
import gc
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import uvloop

from lockstep.ledger.difference import dtype_of
from lockstep.ledger.ledger import Ledger, TableLayout
from lockstep.ledger.manifest import parse_manifest
from lockstep.ledger.subtree import warm_up
from lockstep.node.effects import ReadLeaves
from lockstep.node.events import Event, PeerConnected, PeerLost, PeerSaid, PlainLost, PlainPart
from lockstep.node.replacement import replace
from lockstep.runtime.home import Home, load_home
from lockstep.runtime.node import GC_THRESHOLDS, SWITCH_SECONDS
from lockstep.runtime.store import CheckpointMeta, Store
from lockstep.runtime.transport import Transport
from lockstep.runtime.worker import Worker
from lockstep.sync.state_hash import warm_up as warm_up_parts
from lockstep.sync.state_offer import Target
from lockstep.sync.state_sync import StateSync
from lockstep.sync.state_walk import Arrived
from lockstep.wire.codec import encode
from lockstep.wire.message import CheckpointOffer, StatePart
from lockstep.wire.validators import validator_set

_TICK_SECONDS: Final = 0.02
_GIVE_UP_SECONDS: Final = 120.0


def fetch(home: Home, store: Path, peers: int, stands: bool = False) -> dict[str, Any]:
    """Fetch what `peers` processes serve into `store`, in a process of its own; times in seconds from the moment that
    all are connected. `stands`: that process has the tables of the store's checkpoint in memory, like a validator, and
    brings them to the new one."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_fetch, home.path, store, peers, stands).result()


def _fetch(home: Path, store: Path, peers: int, stands: bool) -> dict[str, Any]:
    result: dict[str, Any] = uvloop.run(_Fetcher(load_home(home), store, peers, stands).run())
    return result


def _tables_of(store: Store) -> Ledger:
    """The checkpoint's tables, in memory."""
    state = store.state()
    assert state is not None
    entries = parse_manifest(state[0].manifest).tables
    ledger = Ledger([TableLayout(entry.name, dtype_of(entry), 2 * entry.rows) for entry in entries])
    ledger.load(state[0].manifest, state[1])
    return ledger


class _Fetcher:
    def __init__(self, home: Home, store: Path, peers: int, stands: bool) -> None:
        self._home = home
        self._peers = peers
        self._store = Store(store)
        self._ledger = _tables_of(self._store) if stands else None
        meta = self._store.checkpoint()
        self._sync = StateSync(validator_set(home.genesis), 0 if meta is None else meta.height)
        self._connected: list[int] = []
        self._blamed: list[int] = []
        self._failure: BaseException | None = None

    async def run(self) -> dict[str, Any]:
        home = self._home
        self._loop = asyncio.get_running_loop()
        self._done = asyncio.Event()
        self._all_here = asyncio.Event()
        self._worker: Worker[Target | Arrived | ReadLeaves] = Worker("store", self._work, self._failed)
        self._transport = Transport(
            home.genesis, home.index, home.key, home.config.peer_listen, self._event, lambda *_: None
        )
        warm_up()
        warm_up_parts()
        settle_as_a_node()
        self._transport.start()
        await self._all_here.wait()
        resident, began, cpu = resident_mib_peak(), time.monotonic(), time.process_time()
        self._read_seconds = 0.0
        async with asyncio.timeout(_GIVE_UP_SECONDS):
            while not self._done.is_set():
                self._step()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._done.wait(), _TICK_SECONDS)
        fetched = time.monotonic() - began
        parts = self._install()
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        if self._failure is not None:
            raise self._failure
        bytes_in = sum(traffic.bytes_in for traffic in self._transport.traffic.values())
        bytes_out = sum(traffic.bytes_out for traffic in self._transport.traffic.values())
        await self._transport.close()
        self._store.close()
        return {
            "seconds": seconds, "cpu_seconds": round(cpu, 3), "fetch_seconds": fetched, **parts,
            "local_read_seconds": self._read_seconds,
            "bytes_in": bytes_in, "bytes_out": bytes_out,
            "payload_bytes": self._sync.bytes_fetched, "blamed": sorted(set(self._blamed)),
            "stalled": sorted(i for i, p in self._sync.peers.peers.items() if p.stalls and not p.answers),
            "resident_mib_before": resident, "resident_mib_peak": resident_mib_peak(),
        }  # fmt: skip

    def _install(self) -> dict[str, float]:
        """Make it the checkpoint; seconds for the store, and for the tables in memory."""
        target = self._sync.target
        assert target is not None
        certificate = target.certificate
        meta = CheckpointMeta(
            target.header.height, target.offer.header, encode(certificate), target.offer.manifest,
            certificate.state_root, 0, 0,
        )  # fmt: skip
        began = time.monotonic()
        fetched = self._store.install(meta, {}, {})
        installed = time.monotonic()
        if self._ledger is None:
            return {"install_seconds": installed - began}
        pinned = self._store.pin()
        assert pinned is not None
        replace(self._ledger, fetched, meta.manifest, pinned.read)
        pinned.close()
        return {"install_seconds": installed - began, "memory_seconds": time.monotonic() - installed}

    # -- the loop -------------------------------------------------------------------------------------

    def _event(self, event: Event) -> None:
        now = time.monotonic_ns() // 1_000
        match event:
            case PeerConnected():
                self._connected.append(event.peer)
                if len(self._connected) == self._peers:
                    self._all_here.set()
            case PeerLost() if event.peer in self._connected:
                self._connected.remove(event.peer)
            case PeerSaid(peer, CheckpointOffer() as offer):
                self._sync.offered(peer, offer, now)
            case PeerSaid(peer, StatePart() as part):
                self._sync.answered(peer, part, now)
            case PlainPart():
                self._sync.answered(event.peer, event.part, now, False, event.leaves)
            case PlainLost(peer):
                self._sync.plain_lost(peer, now)
            case _:
                return
        if self._all_here.is_set():
            self._carry()

    def _step(self) -> None:
        self._sync.tick(sorted(self._connected), time.monotonic_ns() // 1_000)
        self._carry()

    def _carry(self) -> None:
        sync = self._sync
        for peer, request in sync.asks:
            self._transport.send(peer, request)
        sync.asks.clear()
        for arrived in sync.arrived:
            self._worker.put(arrived)
        sync.arrived.clear()
        for peer, detail in sync.blamed:
            self._blamed.append(peer)
            self._transport.drop(peer, detail)
        sync.blamed.clear()
        for peer in sync.doubted:
            self._transport.leave_plain(peer)
        sync.doubted.clear()
        for table, ranges in sync.reads:
            assert sync.target is not None
            self._worker.put(ReadLeaves(sync.target, table, ranges))
        sync.reads.clear()
        if sync.needs_local and sync.target is not None:
            sync.needs_local = False
            self._worker.put(sync.target)
        self._transport.flush()
        if sync.is_complete or self._failure is not None:
            self._done.set()

    # -- the store's thread ---------------------------------------------------------------------------

    def _work(self, batch: list[Target | Arrived | ReadLeaves]) -> None:
        arrived = [piece for piece in batch if isinstance(piece, Arrived)]
        if arrived:
            self._store.stage(arrived)
            self._loop.call_soon_threadsafe(self._stored, sum(part.data.nbytes for part in arrived))
        for piece in batch:
            began = time.monotonic()
            if isinstance(piece, Target):
                local = self._store.local(piece.manifest)
                self._loop.call_soon_threadsafe(self._begin, piece, local)
            elif isinstance(piece, ReadLeaves):
                leaves = self._store.local_leaves(piece.target.manifest, piece.table, piece.ranges)
                self._loop.call_soon_threadsafe(self._read, piece, leaves)
            else:
                continue
            self._read_seconds += time.monotonic() - began

    def _begin(self, target: Target, local: list[Any]) -> None:
        self._sync.begin_walk(target, local, time.monotonic_ns() // 1_000)
        self._carry()

    def _read(self, piece: ReadLeaves, leaves: Any) -> None:
        self._sync.leaves_read(piece.target, piece.table, piece.ranges, leaves, time.monotonic_ns() // 1_000)
        self._carry()

    def _stored(self, size: int) -> None:
        self._sync.stored(size, time.monotonic_ns() // 1_000)
        self._carry()

    def _failed(self, error: BaseException) -> None:
        self._failure = error
        self._loop.call_soon_threadsafe(self._done.set)


def settle_as_a_node() -> None:
    """The settings of the interpreter that a node runs with."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    sys.setswitchinterval(SWITCH_SECONDS)


def resident_mib_peak(process: int | str = "self") -> int:
    """The most memory that a process ever had resident. (`getrusage` also counts what it was forked from.)"""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) >> 10
    return 0
