"""One devnet, from making its homes to its summary: the processes, the driver, the view, the killing, the end."""

import asyncio
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from lockstep.base.errors import ConfigurationError, LockstepError
from lockstep.cli import kernels, process
from lockstep.cli.fleet import Fleet, row_of
from lockstep.cli.process import Process
from lockstep.dashboard.screen import Event, Screen
from lockstep.dashboard.view import View
from lockstep.market.cast import BRIDGE, FEES, INSURANCE, genesis_accounts
from lockstep.market.plan import Plan
from lockstep.market.report import Progress, Summary, Validator, decode_report
from lockstep.runtime.guests import OBSERVERS_MAX_DEFAULT
from lockstep.runtime.home import GENESIS_FILE, Home, load_home
from lockstep.runtime.network import FEED_KEY_FILE, init_network, make_observer
from lockstep.wire.genesis import Genesis, load_genesis

_FRAME_SECONDS: Final = 0.25
_RESTART_SECONDS: Final = 1.0
_DRIVER_END_SECONDS: Final = 30.0
_START_SECONDS_MAX: Final = 120.0


Steer = Callable[["Session"], Coroutine[Any, Any, None]]
"""Something that runs beside a session and steers it."""


class DevnetFailed(LockstepError):
    """The devnet could not do what was asked; the message says why."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a devnet is to be, besides the driver's plan."""

    validators: int = 4
    home: Path | None = None
    kill_every: float | None = None
    durability: str = "fsync"
    retention: str = "archive"
    observers: int = 0
    """Nodes that don't vote."""
    observers_max: int = OBSERVERS_MAX_DEFAULT
    """How many of them each validator lets in."""


class Session:
    """Runs one devnet. `window` and `fleet` let a caller steer it while it runs."""

    def __init__(self, options: Options, plan: Plan, view: View) -> None:
        self._options = options
        self._plan = plan
        self._view = view
        self._stop = asyncio.Event()
        self._began = time.monotonic()
        self._driver: Process | None = None
        self._seen: dict[str, Validator] = {}
        self._validators: list[str] = []
        self._result: dict[str, Any] | None = None
        self._kills = 0
        self._is_over = False
        self.first_final_seconds: float | None = None
        beside = f", {options.observers} observers" if options.observers else ""
        self.screen = Screen(f"lockstep devnet · {options.validators} validators{beside}")
        self.fleet = Fleet([])
        self.measuring = asyncio.Event()
        """Set when the driver's first measured window begins."""

    # -- the course of it -----------------------------------------------------------------------------

    async def run(self, steer: Steer | None = None) -> dict[str, Any]:
        """Run to the end; returns the result (see docs/operations.md). Raises `DevnetFailed`."""
        self._plan.check()
        self._plan.recording()  # refuse an unreadable recording before anything is started
        if self._plan.genesis:
            check_market(load_genesis(Path(self._plan.genesis)), Path(self._plan.genesis), self._plan)
            self._plan = msgspec.structs.replace(self._plan, resumed=True)
            return await self._run_in([], steer)
        temporary = None if self._options.home is not None else Path(tempfile.mkdtemp(prefix="lockstep-devnet-"))
        directory = temporary or self._options.home
        assert directory is not None
        genesis = directory / "validator-0" / GENESIS_FILE
        self._plan = msgspec.structs.replace(
            self._plan, genesis=str(genesis), feed_key=str(directory / FEED_KEY_FILE), resumed=genesis.exists()
        )
        try:
            homes = open_network(directory, self._options, self._plan)
            observers = open_observers(directory, homes[0].genesis, self._options)
            self._plan = msgspec.structs.replace(self._plan, observers=tuple(str(home.path) for home in observers))
            return await self._run_in([*homes, *observers], steer)
        finally:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)

    async def _run_in(self, homes: list[Home], steer: Steer | None) -> dict[str, Any]:
        """`homes` are of nodes to be started here; none, when the network runs elsewhere."""
        self.fleet = Fleet([home.path for home in homes])
        self.screen.seconds = self._plan.seconds
        helpers: list[asyncio.Task[None]] = [asyncio.create_task(self._redraw())]
        try:
            if homes:
                await self._compile()
            if not self._stop.is_set():
                await self._start()
                if self._options.kill_every is not None:
                    helpers.append(asyncio.create_task(self._keep_killing(self._options.kill_every)))
                if steer is not None:
                    helpers.append(asyncio.create_task(steer(self)))
                await self._watch(helpers)
            return self._conclude(homes)
        finally:
            self._is_over = True
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            await self._end()

    async def _compile(self) -> None:
        if kernels.are_compiled():
            return
        self.event("compiling the kernels: once, for half a minute or so")
        self.screen.phase = "compiling"
        compiler = await process.start(["warm"], lambda line: None)
        stopped = asyncio.create_task(self._stop.wait())
        done = asyncio.create_task(compiler.wait())
        try:
            await asyncio.wait({stopped, done}, return_when=asyncio.FIRST_COMPLETED)
            if not done.done():
                compiler.kill()
            status = await done
        finally:
            compiler.kill()
            stopped.cancel()
        if status != 0 and not self._stop.is_set():
            raise DevnetFailed(f"the kernels could not be compiled: {last_words(compiler)}")
        self.event(f"kernels compiled in {self.elapsed:.0f} s")

    async def _start(self) -> None:
        self.screen.phase = "starting"
        await self.fleet.start_all()
        self._driver = await process.start(["drive", msgspec.json.encode(self._plan).decode()], self._reported)

    async def _watch(self, helpers: list[asyncio.Task[None]]) -> None:
        """Until the driver has ended; a stop is passed on to it. Another failure ends everything."""
        assert self._driver is not None
        ended = asyncio.create_task(self._driver.wait())
        asked = False
        try:
            while not ended.done():
                await asyncio.wait({ended}, timeout=0.1)
                if self._stop.is_set() and not asked:
                    asked = True
                    self._driver.tell("stop")
                    asyncio.get_running_loop().call_later(_DRIVER_END_SECONDS, self._driver.kill)
                self._check_members()
                for helper in helpers:
                    if helper.done() and not helper.cancelled() and helper.exception() is not None:
                        helper.result()
        finally:
            self._driver.kill()
            await ended

    def _check_members(self) -> None:
        """A node that ends by itself is said so; one that can't even start ends the run."""
        for member in self.fleet.failed():
            assert member.process is not None
            words = last_words(member.process)
            if self.first_final_seconds is None:
                raise DevnetFailed(f"{member.name} could not start: {words}")
            if member.detail != words:
                member.detail = words
                self.event(f"{member.name} stopped: {words}", alarm=True)
        if self.first_final_seconds is None and self.elapsed > _START_SECONDS_MAX and kernels.are_compiled():
            raise DevnetFailed(f"no block became final within {_START_SECONDS_MAX:.0f} s of the start")

    def _conclude(self, homes: list[Home]) -> dict[str, Any]:
        if self._result is None:
            if self._stop.is_set():
                raise DevnetFailed("stopped before anything was measured")
            assert self._driver is not None
            raise DevnetFailed(f"the load driver ended without a result: {last_words(self._driver)}")
        for member in self.fleet.members:
            member.measure()
        peaks = [member.peak_rss_mib for member in self.fleet.members]
        return {
            **self._result,
            "durability": homes[0].config.durability if homes else "unknown",
            "peak_rss_mib": max(peaks, default=0),
            "peak_rss_mib_total": sum(peaks),
            "kills": self._kills,
            "cold_start_seconds": self.first_final_seconds,
        }

    async def _end(self) -> None:
        if self._driver is not None:
            self._driver.kill()
        await self.fleet.stop_all()

    # -- steering -------------------------------------------------------------------------------------

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def observer_bytes(self) -> list[int]:
        """What each validator has sent to nodes that don't vote, as it said last."""
        return [node.observers_bytes_out for name, node in self._seen.items() if name in self._validators]

    def stop(self) -> None:
        """End in order. Asked twice: at once."""
        if self._stop.is_set():
            if self._driver is not None:
                self._driver.kill()
            self.fleet.kill_all()
        self._stop.set()

    def window(self, name: str) -> None:
        """Begin another measured window."""
        if self._driver is not None:
            self._driver.tell(f"window {name}")

    def event(self, text: str, alarm: bool = False) -> None:
        """Show something that happened."""
        event = Event(self.elapsed, text, alarm)
        self.screen.events.append(event)
        self._view.event(event)

    async def _keep_killing(self, every: float) -> None:
        """Kill a random validator, bring it back a second later, again and again; but only while all others are well,
        so that a machine on which starting takes long doesn't end up without a quorum."""
        chooser = random.Random(self._plan.seed)
        await self.measuring.wait()
        due = self.elapsed + every
        while self.screen.phase == "measuring":
            await asyncio.sleep(_FRAME_SECONDS)
            if self.elapsed < due or not all(row.state == "live" for row in self.screen.validators):
                continue
            due += every
            index = chooser.randrange(self._options.validators)
            self.fleet.kill(index)
            self._kills += 1
            self.event(f"{self.fleet.members[index].name} killed (SIGKILL)")
            await asyncio.sleep(_RESTART_SECONDS)
            await self.fleet.start(index)
            self.event(f"{self.fleet.members[index].name} started again")

    # -- showing --------------------------------------------------------------------------------------

    def _reported(self, line: bytes) -> None:
        """A report of the driver."""
        report = decode_report(line)
        if isinstance(report, Summary):
            self._result = report.result
            return
        self._take(report)

    def _take(self, progress: Progress) -> None:
        self.screen.take(progress)
        self._validators = [node.name for node in progress.validators]
        self._seen = {node.name: node for node in (*progress.validators, *progress.observers)}
        if self.first_final_seconds is None and progress.final_height > 0:
            self.first_final_seconds = round(self.elapsed, 2)
            self.event(f"first final block {self.first_final_seconds:.1f} s after the start")
        if progress.phase == "measuring":
            self.measuring.set()
        if not progress.roots_agree and not any("ROOTS" in event.text for event in self.screen.events):
            self.event("STATE ROOTS DIFFER", alarm=True)

    async def _redraw(self) -> None:
        while not self._is_over:
            for member in self.fleet.members:
                member.measure()
            self.screen.validators = tuple(m.row(self._seen.get(m.name)) for m in self.fleet.members) or tuple(
                row_of(seen) for seen in self._seen.values()
            )
            self.screen.elapsed = max(self.screen.elapsed, self.elapsed)
            self._view.show(self.screen)
            await asyncio.sleep(_FRAME_SECONDS)


def run_session(
    options: Options,
    plan: Plan,
    view: View,
    steer: Steer | None = None,
) -> dict[str, Any]:
    """Run a session to its end, with SIGINT and SIGTERM ending it in order. Returns the result of the run."""

    async def main() -> dict[str, Any]:
        session = Session(options, plan, view)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, session.stop)
        return await session.run(steer)

    result = asyncio.run(main())
    result["cpu_count"] = os.cpu_count()
    return result


def open_network(directory: Path, options: Options, plan: Plan) -> list[Home]:
    """The homes in `directory`: those that are there, or new ones. Raises `ConfigurationError`."""
    first = directory / "validator-0" / GENESIS_FILE
    if not first.exists():
        return init_network(
            directory, options.validators, plan.listed(), genesis_accounts(plan.seed, plan.cast()),
            bridge_account=BRIDGE, fee_account=FEES, insurance_account=INSURANCE, durability=options.durability,
            observers_max=options.observers_max,
            retention=options.retention,
        )  # fmt: skip
    genesis = load_genesis(first)
    if len(genesis.validators) != options.validators:
        raise ConfigurationError(f"{directory} holds {len(genesis.validators)} validators, not {options.validators}")
    check_market(genesis, directory, plan)
    return [load_home(directory / validator.name) for validator in genesis.validators]


def open_observers(directory: Path, genesis: Genesis, options: Options) -> list[Home]:
    """The homes of the nodes that don't vote: those that are there, and new ones."""
    homes = [directory / f"observer-{number}" for number in range(options.observers)]
    return [
        load_home(home)
        if (home / GENESIS_FILE).exists()
        else make_observer(home, genesis, home.name, durability=options.durability)
        for home in homes
    ]


def check_market(genesis: Genesis, path: Path, plan: Plan) -> None:
    """Whether the plan's traders and instruments are those of the network; raises `ConfigurationError`."""
    if genesis.accounts != genesis_accounts(plan.seed, plan.cast()) or genesis.instruments != plan.listed():
        raise ConfigurationError(f"{path} was made with another --seed, --instruments or --replay format")


def last_words(child: Process) -> str:
    """Why a process ended, as far as it said."""
    for line in reversed(child.errors):
        if line.strip():
            return line.strip()
    return f"exit status {child.status}"
