"""Carries out a plan: every fault begins at its time, lasts, and is undone, also when others overlap it."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from lockstep.chaos.autopsy import log_records
from lockstep.chaos.clients import now_us
from lockstep.chaos.fleet import Fleet
from lockstep.chaos.plan import Fault, Plan
from lockstep.chaos.proxy import Proxy, Weather
from lockstep.runtime.address import parse_address
from lockstep.simulator.history import Violation

CLOCK_MS_MAX: Final = 3_000
STRANGERS_MAX: Final = 80
"""More than the handshakes that a node bears at a time."""
_ROOM_BYTES: Final = 8_000
_WATCH_SECONDS: Final = 0.05
_OUTPUT_SHOWN: Final = 400


class Saboteur:
    """Disturbs a fleet, and knows which ends of processes are its own doing."""

    def __init__(self, fleet: Fleet, proxy: Proxy, plan: Plan, random: Random) -> None:
        self._fleet = fleet
        self._proxy = proxy
        self._plan = plan
        self._random = random
        self._tasks: list[asyncio.Task[None]] = []
        self._starved: dict[int, None] = {}
        self._skewed: dict[int, None] = {}
        self._down: dict[int, int] = {}
        """Node → how many faults want it down."""
        self._is_dead: dict[int, None] = {}
        self.fired: dict[str, int] = {}
        self.logs: dict[int, list[list[bytes]]] = {}
        """Node → what its log held each time that it was found dead."""
        self.violations: list[Violation] = []
        self._actions: dict[str, Callable[[Fault], contextlib.AbstractContextManager[None]]] = {
            "kill": self._killed, "kill_several": self._killed, "kill_all": self._killed, "pause": self._paused,
            "clock": self._clock, "late": self._late, "trickle": self._trickle, "cut": self._cut,
            "partition": self._partition, "swallow": self._swallow, "one_way": self._one_way, "flip": self._flip,
            "copies": self._copies, "full": self._full,
        }  # fmt: skip

    def begin(self) -> None:
        """The plan's time starts now."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._carry_out(fault)) for fault in self._plan.faults]
        self._watching = loop.create_task(self._watch())

    async def heal(self) -> None:
        """Everything is well from now on, and everybody runs with the right time."""
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        self._proxy.clear()
        self._kill(tuple(self._skewed))
        self._skewed.clear()
        self._starved.clear()
        self._down.clear()
        for index in range(len(self._fleet.homes)):
            self._fleet.resume(index)
            self._fleet.limit_files(index, None)
            self._start(index)

    async def end(self) -> None:
        """Stop watching."""
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)

    # -- time -------------------------------------------------------------------------------------------

    async def _carry_out(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at)
        self.fired[fault.kind] = self.fired.get(fault.kind, 0) + 1
        if fault.kind == "strangers":
            await self._strangers(fault)
            return
        with self._actions[fault.kind](fault):
            await asyncio.sleep(fault.seconds)

    async def _watch(self) -> None:
        """A process that ends by itself must have had a reason: a write of it failed."""
        while True:
            for index in range(len(self._fleet.homes)):
                if not self._fleet.is_running(index) and index not in self._is_dead:
                    self._died(index)
                    self._judge(index)
            await asyncio.sleep(_WATCH_SECONDS)

    def _judge(self, index: int) -> None:
        output = self._fleet.output(index)[-_OUTPUT_SHOWN:]
        status = self._fleet.status(index)
        if index in self._starved and status == 1 and "STOPPED: writing to" in output:
            self.fired["stopped: a write failed"] = self.fired.get("stopped: a write failed", 0) + 1
        else:
            text = f"validator {index} ended by itself with status {status}: {output}"
            self.violations.append(Violation("ended", text, now_us()))

    # -- processes --------------------------------------------------------------------------------------

    def _kill(self, nodes: tuple[int, ...]) -> None:
        dying = [index for index in nodes if self._fleet.is_running(index)]
        self._fleet.kill(dying)
        for index in dying:
            self._died(index)

    def _died(self, index: int) -> None:
        """What its log holds now must be there for ever."""
        self._is_dead[index] = None
        self.logs.setdefault(index, []).append(log_records(self._fleet.homes[index]))

    def _start(self, index: int, clock_ms: int = 0) -> None:
        if not self._down.get(index) and not self._fleet.is_running(index):
            if index not in self._is_dead:
                self._died(index)
                self._judge(index)
            self._is_dead.pop(index)
            self._fleet.start(index, clock_ms)

    @contextlib.contextmanager
    def _held_down(self, nodes: tuple[int, ...]) -> Iterator[None]:
        """A node is started again when the last fault that wants it down is over."""
        for index in nodes:
            self._down[index] = self._down.get(index, 0) + 1
        yield
        for index in nodes:
            self._down[index] -= 1

    @contextlib.contextmanager
    def _killed(self, fault: Fault) -> Iterator[None]:
        with self._held_down(fault.nodes):
            self._kill(fault.nodes)
            yield
        for index in fault.nodes:
            self._start(index)

    @contextlib.contextmanager
    def _paused(self, fault: Fault) -> Iterator[None]:
        self._fleet.pause(fault.nodes[0])
        yield
        self._fleet.resume(fault.nodes[0])

    @contextlib.contextmanager
    def _clock(self, fault: Fault) -> Iterator[None]:
        """A process knows the wall time from its start: it is started again with a wrong one, then with the right."""
        index = fault.nodes[0]
        self._kill(fault.nodes)
        self._skewed[index] = None
        self._start(index, fault.amount % (2 * CLOCK_MS_MAX) - CLOCK_MS_MAX)
        yield
        self._kill(fault.nodes)
        self._skewed.pop(index, None)
        self._start(index)

    @contextlib.contextmanager
    def _full(self, fault: Fault) -> Iterator[None]:
        index = fault.nodes[0]
        log = self._fleet.homes[index].log
        size = max((path.stat().st_size for path in log.glob("*.log")), default=0)
        self._starved[index] = None
        self._fleet.limit_files(index, size + fault.amount % _ROOM_BYTES)
        with self._held_down((index,)):
            yield
        self._fleet.limit_files(index, None)
        self._start(index)

    # -- the network ------------------------------------------------------------------------------------

    def _pairs(self, fault: Fault) -> list[tuple[int, int]]:
        """Of two nodes: that pair. Of one: it and everybody."""
        if len(fault.nodes) == 2:
            return [(fault.nodes[0], fault.nodes[1])]
        return [(fault.nodes[0], other) for other in range(self._plan.validators) if other != fault.nodes[0]]

    @contextlib.contextmanager
    def _turned(
        self, pairs: list[tuple[int, int]], turn: Callable[[Weather], None], back: Callable[[Weather], None],
        one_way: bool = False,
    ) -> Iterator[None]:  # fmt: skip
        ways = [(one, other) for one, other in pairs]
        ways += [] if one_way else [(other, one) for one, other in pairs]
        self._apply(ways, turn)
        yield
        self._apply(ways, back)

    def _apply(self, ways: list[tuple[int, int]], change: Callable[[Weather], None]) -> None:
        for one, other in ways:
            change(self._proxy.weather(one, other))
            self._proxy.changed(one, other)

    def _late(self, fault: Fault) -> contextlib.AbstractContextManager[None]:
        delay = 0.005 + fault.amount % 400 / 1_000

        def turn(weather: Weather) -> None:
            weather.delay_seconds, weather.jitter_seconds = delay, delay / 2

        def back(weather: Weather) -> None:
            weather.delay_seconds = weather.jitter_seconds = 0.0

        return self._turned(self._pairs(fault), turn, back)

    def _trickle(self, fault: Fault) -> contextlib.AbstractContextManager[None]:
        speed = 1_000.0 + fault.amount % 30_000

        def turn(weather: Weather) -> None:
            weather.bytes_per_second = speed

        def back(weather: Weather) -> None:
            weather.bytes_per_second = 0.0

        return self._turned(self._pairs(fault), turn, back)

    def _cut(self, fault: Fault) -> contextlib.AbstractContextManager[None]:
        return self._turned(self._pairs(fault), _cut, _mend)

    def _partition(self, fault: Fault) -> contextlib.AbstractContextManager[None]:
        others = [index for index in range(self._plan.validators) if index not in fault.nodes]
        return self._turned([(one, other) for one in fault.nodes for other in others], _cut, _mend)

    def _swallow(self, fault: Fault) -> contextlib.AbstractContextManager[None]:
        return self._turned(self._pairs(fault), _swallow, _spit)

    def _one_way(self, fault: Fault) -> contextlib.AbstractContextManager[None]:
        return self._turned(self._pairs(fault), _swallow, _spit, one_way=True)

    def _flip(self, fault: Fault) -> contextlib.AbstractContextManager[None]:
        def turn(weather: Weather) -> None:
            weather.flips = 1 + fault.amount % 3

        def back(weather: Weather) -> None:
            weather.flips = 0

        return self._turned(self._pairs(fault), turn, back)

    @contextlib.contextmanager
    def _copies(self, fault: Fault) -> Iterator[None]:
        """All connections of a node are reset; when they are made again, each is made several times."""

        def turn(weather: Weather) -> None:
            weather.copies, weather.is_cut = 1 + fault.amount % 8, True

        def back(weather: Weather) -> None:
            weather.copies = 0

        with self._turned(self._pairs(fault), turn, back):
            self._apply(self._pairs(fault), _mend)
            self._apply([(other, one) for one, other in self._pairs(fault)], _mend)
            yield

    async def _strangers(self, fault: Fault) -> None:
        """Connections that never speak, and some that speak nonsense, to a node's own ports."""
        config = self._fleet.homes[fault.nodes[0]].config
        writers: list[asyncio.StreamWriter] = []
        try:
            for number in range(1 + fault.amount % STRANGERS_MAX):
                listen = config.peer_listen if number % 4 else config.client_listen
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection(*parse_address(listen))
                    writers.append(writer)
                    if number % 3 == 0:
                        writer.write(self._random.randbytes(1 + self._random.randrange(600)))
            await asyncio.sleep(fault.seconds)
        finally:
            for writer in writers:
                writer.transport.abort()


def _cut(weather: Weather) -> None:
    weather.is_cut = True


def _mend(weather: Weather) -> None:
    weather.is_cut = False


def _swallow(weather: Weather) -> None:
    weather.is_swallowed = True


def _spit(weather: Weather) -> None:
    weather.is_swallowed = False
