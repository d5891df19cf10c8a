"""Villains: what they try is checked against what they get; and steering by lines."""

import asyncio
import os
from typing import Any

import pytest

from lockstep.market import villain as villain_
from lockstep.market.cast import Role, Trader, derive_key
from lockstep.market.meter import Meter
from lockstep.market.steering import Steering
from lockstep.market.villain import Villains
from lockstep.wire.client import ClientReply, Goodbye, SubmitReply
from lockstep.wire.genesis import Account, Genesis, Validator

KEY = derive_key(1, "villain")
CAST = (Trader(3, Role.VILLAIN, KEY, 0),)
GENESIS = Genesis(
    "x", 0, tuple(Validator(f"v{n}", KEY.public, 1, b"", "h:1", "h:2") for n in range(2)), (),
    (Account(KEY.public, 0),), 0, 0, 0,
)  # fmt: skip


class FakeLink:
    """A connection that is always up, and writes down what is sent."""

    made: list["FakeLink"]

    def __init__(self, address: str, certificate: bytes, on_message: Any) -> None:
        self.hear = on_message
        self.sent: list[bytes] = []
        self.client = self
        FakeLink.made.append(self)

    def start(self) -> None:
        """Nothing to do."""

    def send(self, frame: bytes) -> bool:
        self.sent.append(frame)
        return True

    def flush(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> list[FakeLink]:
    FakeLink.made = []
    monkeypatch.setattr(villain_, "Link", FakeLink)
    return FakeLink.made


def reply(reason: str) -> ClientReply:
    return SubmitReply(bytes(32), reason, "")


def test_the_right_reason_is_counted_and_a_wrong_one_reported(links: list[FakeLink]) -> None:
    meter = Meter(0.0)
    villains = Villains(GENESIS, CAST, 1, meter)
    for now, reason in enumerate(("bad-signature", "", "busy", "malformed")):
        villains.attempt(lambda v: v == 0, 100, b"", float(now))
        links[0].hear(reply(reason))
    assert meter.turned_away == {"forged signature": 1}
    assert meter.wronged == [
        "v0: expired bundle was taken",
        "v0: unknown account was refused as 'malformed'",
    ]  # `busy` is an excuse: the node looked no further
    assert links[1].sent == []


def test_a_node_that_is_behind_may_say_so(links: list[FakeLink]) -> None:
    """Its status may be older than that: a validator that came back with an empty home was `live` a moment ago."""
    meter = Meter(0.0)
    Villains(GENESIS, CAST, 1, meter).attempt(lambda v: v == 0, 100, b"", 0.0)
    links[0].hear(reply("behind"))
    assert not meter.wronged and not meter.turned_away


def test_only_one_attempt_at_a_time_but_not_for_ever(links: list[FakeLink]) -> None:
    villains = Villains(GENESIS, CAST, 1, Meter(0.0))
    for now in (0.0, 0.1, 0.2, 10.0):
        villains.attempt(lambda v: v == 1, 100, b"", now)
    assert len(links[1].sent) == 2


def test_garbage_must_end_the_connection(links: list[FakeLink]) -> None:
    meter = Meter(0.0)
    villains = Villains(GENESIS, CAST, 1, meter)
    for now in range(12):
        villains.attempt(lambda v: v == 0, 100, b"", 10.0 * now)
    links[0].hear(Goodbye("malformed", ""))
    assert meter.turned_away == {"garbage frame": 1}


def test_with_nobody_live_nothing_is_tried(links: list[FakeLink]) -> None:
    Villains(GENESIS, CAST, 1, Meter(0.0)).attempt(lambda v: False, 1, b"", 0.0)
    assert all(link.sent == [] for link in links)


def test_lines_steer_and_the_end_of_input_is_a_stop() -> None:
    async def main() -> tuple[list[str], list[bool]]:
        reading, writing = os.pipe()
        windows: list[str] = []
        stops: list[bool] = []
        steering = Steering(windows.append, reading)
        for data in (b"window one\nwin", b"dow two\nnonsense\n"):
            os.write(writing, data)
            await asyncio.sleep(0.01)
        stops.append(steering.stopped.is_set())
        os.close(writing)
        await asyncio.wait_for(steering.stopped.wait(), 5)
        stops.append(steering.stopped.is_set())
        os.close(reading)
        return windows, stops

    assert asyncio.run(main()) == (["one", "two"], [False, True])
