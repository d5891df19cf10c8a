"""Running one node: open the home, compile, restore, join, live; until a signal or a failure.

Start: files first (they may say no), then kernels, the listeners, the replica. Stop: the network first, so
that nothing new comes in; then the threads, in the order in which they hand work to each other.
"""

import asyncio
import contextlib
import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop

from lockstep.base.errors import LockstepError, StorageFailed
from lockstep.ledger.subtree import warm_up as warm_up_subtrees
from lockstep.ledger.warm import warm_up as warm_up_ledger
from lockstep.node.effects import Halt, Severity
from lockstep.node.follower import Follower
from lockstep.node.recovery import Restored
from lockstep.node.replacement import Standing
from lockstep.node.replica import Identity, Replica
from lockstep.runtime.archive import Archive, Installed
from lockstep.runtime.clock import Clock
from lockstep.runtime.connection import Traffic
from lockstep.runtime.driver import Driver, Parts
from lockstep.runtime.execution import Execution, KeepState
from lockstep.runtime.home import Home, load_home, lock_home, take_seat
from lockstep.runtime.in_use import InUse
from lockstep.runtime.journal import Journal
from lockstep.runtime.kept import kept_folder
from lockstep.runtime.progress import Progress, print_progress
from lockstep.runtime.pruning import Pruner
from lockstep.runtime.restore import Opened, open_files
from lockstep.runtime.server import ClientLimits, ClientServer
from lockstep.runtime.serving import Serving
from lockstep.runtime.set_files import SetFiles
from lockstep.runtime.storage import Storage
from lockstep.runtime.transport import Transport
from lockstep.sync.state_hash import warm_up as warm_up_parts
from lockstep.venue.warm import warm_up
from lockstep.wire.roster import Roster, genesis_roster

if TYPE_CHECKING:
    from lockstep.runtime.metrics import Metrics

SWITCH_SECONDS: Final = 0.0005
"""Python's default of 5 ms would let a worker thread hold up the event loop for that long."""
GC_THRESHOLDS: Final = (50_000, 50, 1_000)
"""Hardly anything here is in a reference cycle (a run of 8 s collected 400 objects), but with Python's defaults a full
collection stopped the loop for 120 to 210 ms."""
_REPLAY_STEP: Final = 64


class Node:
    """One node: `open`, `run`, `conclude`."""

    def __init__(self, home: Home, progress: Progress, before: Standing | None = None) -> None:
        """`before`: what the node that ended by installing a state left in memory."""
        self._home = home
        self._before = before
        self._progress = progress
        self._journal = Journal(home.path / "node.log")
        self._failure: BaseException | None = None
        self._replay_to = 0
        self._is_live = False
        self._metrics: Metrics | None = None
        self.begins_anew = False
        """It ended because a fetched state became the checkpoint: a new one is to begin from that."""
        self._installation: Installed | None = None
        self.standing: Standing | None = None
        """What the new one begins with."""

    def open(self) -> Opened | None:
        """Files and kernels, before there is a loop: a signal still ends the process at once. None: it failed."""
        home = self._home
        began = time.monotonic()
        self._progress("opening", {"home": str(home.path)})
        try:
            opened = open_files(home, self._warm_up, self._before)
        except (StorageFailed, OSError) as error:
            self._failure = error
            return None
        for note in opened.notes:
            self._journal.note(Severity.WARNING, note)
        self._replay_to = opened.newest_height
        height = opened.restored.header.height
        seconds = round(time.monotonic() - began, 3)
        self._progress("replaying", {"from": height, "to": self._replay_to, "seconds": seconds})
        self._note(Severity.INFO, f"{home.name} restored at height {height}; its log goes to {self._replay_to}")
        return opened

    async def run(self, opened: Opened) -> None:
        """Run until stopped."""
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._stopped.set)
        try:
            await self._live(opened)
        except (LockstepError, OSError) as error:
            self._failed(error)

    def _warm_up(self) -> None:
        self._progress("compiling", {})
        warm_up_ledger()
        warm_up_subtrees()
        warm_up_parts()
        warm_up()

    async def _live(self, opened: Opened) -> None:
        home, clock = self._home, Clock()
        driver = Driver(clock, self._failed)
        transport = Transport(
            home.genesis, None if home.is_observer else home.index, home.key, home.config.peer_listen, driver.handle,
            self._note, home.admission, home.announce if home.is_observer else "", home.config.follow,
            opened.restored.roster.members,
        )  # fmt: skip
        limits = ClientLimits(home.config.clients_max, requests_per_second=home.config.client_requests_per_second)
        server = ClientServer(home.key, home.config.client_listen, driver.handle, self._refused_client, limits)
        in_use = InUse(home.path)
        rule = home.config.retention_rule
        archive = Archive(
            opened.history, opened.index, opened.store, self._to_loop(driver.handle), self._to_loop(self._installed),
            self._failed_elsewhere, Pruner(rule, home.log, home.history, opened.store, opened.index, in_use),
        )  # fmt: skip
        storage = Storage(
            opened.log, opened.places, archive, home.config.durability == "fsync",
            self._to_loop(driver.carry_out_all), self._failed_elsewhere,
        )  # fmt: skip
        metrics = self._make_metrics(driver, transport)
        execution = Execution(
            opened.executor, [storage.room, archive.room], self._to_loop(driver.handle), self._failed_elsewhere,
            (lambda _: None) if metrics is None else metrics.executed,
        )  # fmt: skip
        self._execution = execution
        carry_one = self._to_loop(lambda effect: driver.carry_out((effect,)))
        sets = SetFiles(home.sets, home.genesis.chain_id)
        for roster in (genesis_roster(home.genesis), opened.restored.roster):
            sets.put(roster)
        serving = Serving(
            home.log, home.history, opened.index, opened.store, sets, carry_one, self._failed_elsewhere, in_use,
            transport.plain,
        )  # fmt: skip
        replica = _core(home, opened.restored, clock.now_us())
        parts = Parts(
            transport, server, storage, execution, serving, sets, self._joined, self._note, self._halted,
            self._committed, lambda: archive.stored,
        )  # fmt: skip
        gc.collect()
        gc.freeze()  # what lives as long as the process need not be looked at again
        gc.set_threshold(*GC_THRESHOLDS)
        transport.start()
        server.start()
        self._progress("joining", {"peers": len(transport.traffic), "peer_port": transport.port})
        driver.start(replica, parts)
        self._joined(opened.restored.roster)
        async with self._shown(metrics):
            await self._stopped.wait()
        driver.stop()
        await transport.close()
        await server.close()
        if self._failure is None:
            storage.room.open(True)
            archive.room.open(True)
            for part in (execution, storage, archive, serving, opened.store):
                part.close()
            if self._installation is not None:
                self.standing = Standing(opened.executor.venue, self._installation.fetched)

    def _make_metrics(self, driver: Driver, transport: Transport) -> "Metrics | None":
        """If the operator wants any: importing them takes a good part of a node's start."""
        config = self._home.config
        if not config.metrics_listen:
            return None
        from lockstep.runtime.metrics import Metrics, Sources

        def traffic() -> dict[str, Traffic]:
            return {str(peer): passed for peer, passed in transport.traffic.items()} | {
                "observers": transport.observer_traffic
            }

        self._metrics = Metrics(config.metrics_prefix, Sources(driver.status, driver.queues, traffic))
        return self._metrics

    @asynccontextmanager
    async def _shown(self, metrics: "Metrics | None") -> AsyncIterator[None]:
        """While this lasts, metrics are served, if there are any."""
        if metrics is None:
            yield
            return
        from lockstep.runtime.metrics_server import MetricsServer

        server = MetricsServer(self._home.config.metrics_listen, metrics)
        await server.start()
        try:
            yield
        finally:
            await server.close()

    def conclude(self) -> int:
        """Say how it ended; returns the exit status."""
        failure = self._failure
        if failure is not None:
            text = f"STOPPED: {failure}" if str(failure) else f"STOPPED: {type(failure).__name__}"
            self._note(Severity.ALARM, text)
            if not isinstance(failure, StorageFailed):  # a mistake of ours: keep what is needed to find it
                self._journal.note(Severity.ALARM, "".join(traceback.format_exception(failure)))
        else:
            self._note(Severity.INFO, "beginning anew" if self.begins_anew else "stopped")
        if not self.begins_anew:
            self._progress("stopped", {"reason": "" if failure is None else str(failure)})
        self._journal.close()
        return 0 if failure is None else 1

    # -- told by the parts ------------------------------------------------------------------------------

    def _to_loop(self, callback: Callable[[Any], None]) -> Callable[[Any], None]:
        """Make a callback that other threads may call."""

        def call(argument: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the node has stopped
                self._loop.call_soon_threadsafe(callback, argument)

        return call

    def _failed_elsewhere(self, error: BaseException) -> None:
        """A thread failed; told on that thread."""
        self._to_loop(self._failed)(error)

    def _failed(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
        self._stopped.set()

    def _note(self, severity: Severity, text: str) -> None:
        self._journal.note(severity, text)
        if severity is Severity.ALARM:
            sys.stderr.write(f"{self._home.name}: {text}\n")
            sys.stderr.flush()

    def _refused_client(self, error: str) -> None:
        self._note(Severity.INFO, f"a connection to the client port failed: {error}")

    def _halted(self, effect: Halt) -> None:
        self._note(Severity.ALARM, f"HALTED: {effect.text}")
        self._progress("halted", {"reason": effect.text})
        if effect.block:
            told = self._to_loop(lambda text: self._note(Severity.ALARM, text))
            self._execution.put(KeepState(effect.block, kept_folder(self._home.path, effect.height), told))

    def _installed(self, installation: Installed) -> None:
        self._progress("installed", {"height": installation.height})
        self._installation = installation
        self.begins_anew = True
        self._stopped.set()

    def _joined(self, roster: Roster) -> None:
        """When this observer's key is among the validators', it begins anew as one of them."""
        keys = [member.public_key for member in roster.members]
        if self._home.is_observer and self._home.key.public in keys:
            index = keys.index(self._home.key.public)
            take_seat(self._home, index)
            self._note(Severity.INFO, f"this node's key is validator {index} now: it begins anew as that")
            self.begins_anew = True
            self._stopped.set()

    def _committed(self, height: int) -> None:
        if self._metrics is not None:
            self._metrics.committed()
        if self._is_live:
            return
        if height > self._replay_to:
            self._is_live = True
            self._progress("live", {"height": height})
        elif height % _REPLAY_STEP == 0:
            self._progress("replaying", {"from": height, "to": self._replay_to})


def _core(home: Home, restored: Restored, now_us: int) -> Replica | Follower:
    if home.is_observer:
        return Follower(home.genesis, home.name, home.key, restored, now_us)
    return Replica(home.genesis, Identity(home.index, home.key, home.config.feed_key), restored, now_us)


def run_node(path: Path, progress: Progress = print_progress) -> int:
    """Run the node whose home is `path` until SIGINT or SIGTERM. Returns the exit status: 0, or 1 after a failure,
    whose reason is on standard error and in node.log. Raises `ConfigurationError`."""
    home = load_home(path)
    lock = lock_home(home)
    sys.setswitchinterval(SWITCH_SECONDS)
    standing: Standing | None = None

    try:
        while True:
            node = Node(home, progress, standing)
            opened = node.open()
            if opened is not None:
                uvloop.run(node.run(opened))
            if not node.begins_anew:
                return node.conclude()
            node.conclude()
            home, standing = load_home(path), node.standing  # it may be a validator's now
            del node, opened
            gc.unfreeze()
            gc.collect()
    finally:
        os.close(lock)
