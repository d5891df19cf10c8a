"""The loop, with a replica that says what to do: order, iteration, time, failure."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from lockstep.consensus.interface import Tick as EngineTick
from lockstep.node.effects import Commit, DropPeer, Effect, Halt, Note, Persist, Reply, Resume, Send, Severity
from lockstep.node.events import EngineResumed, Event, PeerConnected, Tick
from lockstep.runtime.clock import Clock
from lockstep.runtime.driver import Driver, Parts
from lockstep.wire.client import AccountReply
from lockstep.wire.message import Ping, Pong
from tests.support.real_network import run, until


@dataclass
class StubReplica:
    """Answers events by a function."""

    answer: Callable[[Event], list[Effect]]
    due: int | None = None
    seen: list[Event] = field(default_factory=list)

    def start(self, now_us: int) -> list[Effect]:
        return [Note(Severity.INFO, "started")]

    def step(self, event: Event, now_us: int) -> list[Effect]:
        self.seen.append(event)
        return self.answer(event)

    def deadline(self) -> int | None:
        return self.due


class Recorder:
    """Stands for every part; writes down what it is asked to do."""

    def __init__(self) -> None:
        self.done: list[tuple[str, Any]] = []

    def part(self, name: str) -> SimpleNamespace:
        def call(method: str) -> Callable[..., None]:
            return lambda *arguments: self.done.append((f"{name}.{method}", arguments))

        methods = (
            "send", "broadcast", "flush", "drop", "reply", "persist", "commit", "checkpoint", "put", "pass_on",
        )  # fmt: skip
        return SimpleNamespace(**{method: call(method) for method in methods})

    def parts(self) -> Parts:
        names = ("transport", "server", "storage", "execution", "serving", "sets")
        notes = {name: self.callback(name) for name in ("note", "halted", "committed", "joined")}
        return Parts(**{name: self.part(name) for name in names}, **notes)

    def callback(self, name: str) -> Callable[..., None]:
        return lambda *arguments: self.done.append((name, arguments))

    def names(self) -> list[str]:
        return [name for name, _ in self.done]


def driven(replica: StubReplica) -> tuple[Driver, Recorder, list[BaseException]]:
    failures: list[BaseException] = []
    driver, recorder = Driver(Clock(), failures.append), Recorder()
    driver.start(replica, recorder.parts())  # type: ignore[arg-type]
    return driver, recorder, failures


def test_effects_are_carried_out_in_order_each_by_its_part() -> None:
    async def main() -> None:
        commit = Commit(bytes(32), 7, np.zeros(0), ())
        effects: list[Effect] = [
            Send(1, Pong(1)), Persist(()), commit, Reply(3, AccountReply(1, True, 0, 0)), DropPeer(2, "lied"),
            Halt("diverged"), Note(Severity.WARNING, "x"),
        ]  # fmt: skip
        driver, recorder, _ = driven(StubReplica(lambda _: effects))
        recorder.done.clear()
        driver.handle(PeerConnected(1))
        assert recorder.names() == [
            "transport.send", "storage.persist", "execution.put", "storage.commit", "committed", "server.reply",
            "transport.drop", "halted", "note",
        ]  # fmt: skip
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert recorder.names()[-2:] == ["transport.flush", "server.flush"]

    run(main)


def test_resuming_is_iterative_and_comes_after_the_effects_before_it() -> None:
    async def main() -> None:
        count = 50_000

        def answer(event: Event) -> list[Effect]:
            if isinstance(event, EngineResumed) and len(replica.seen) > count:
                return [Note(Severity.INFO, "end")]
            return [Resume(EngineResumed(EngineTick())), Send(0, Ping(1, 1, 1))]

        replica = StubReplica(answer)
        driver, recorder, failures = driven(replica)
        driver.handle(PeerConnected(1))
        assert failures == [] and len(replica.seen) == count + 1
        assert recorder.names()[:3] == ["note", "transport.send", "transport.send"]
        assert recorder.names().count("transport.flush") <= 1, "one flush a turn, whatever happened in it"

    run(main)


def test_the_deadline_brings_a_tick_and_an_earlier_one_replaces_a_later() -> None:
    async def main() -> None:
        def answer(event: Event) -> list[Effect]:
            if isinstance(event, Tick):
                replica.due = None
            return []

        replica = StubReplica(answer)
        driver, _, _ = driven(replica)
        now = Clock().now_us()
        replica.due = now + 60_000_000
        driver.handle(PeerConnected(1))
        await asyncio.sleep(0.01)
        assert replica.seen == [PeerConnected(1)]
        replica.due = now + 20_000
        driver.handle(PeerConnected(2))
        await until(lambda: Tick() in replica.seen)
        assert Clock().now_us() >= now + 20_000, "not before its time"
        driver.stop()

    run(main)


def test_an_error_in_the_replica_stops_everything_and_is_told_once() -> None:
    async def main() -> None:
        def answer(event: Event) -> list[Effect]:
            raise ValueError("broken")

        replica = StubReplica(answer)
        driver, recorder, failures = driven(replica)
        driver.handle(PeerConnected(1))
        driver.handle(PeerConnected(2))
        driver.carry_out([Note(Severity.INFO, "too late")])
        await asyncio.sleep(0.01)
        assert [str(f) for f in failures] == ["broken"] and len(replica.seen) == 1
        assert recorder.names() == ["note"]

    run(main)


def test_events_before_the_start_are_not_lost() -> None:
    async def main() -> None:
        replica = StubReplica(lambda _: [])
        failures: list[BaseException] = []
        driver = Driver(Clock(), failures.append)
        driver.handle(PeerConnected(1))
        assert replica.seen == []
        driver.start(replica, Recorder().parts())  # type: ignore[arg-type]
        assert replica.seen == [PeerConnected(1)]

    run(main)
