"""A genesis whose validators have real certificates and free loopback ports."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import uvloop

from lockstep.base.keys import PrivateKey
from lockstep.node.effects import Severity
from lockstep.node.events import Event
from lockstep.runtime.tls import make_certificate
from lockstep.wire.genesis import Account, Genesis, Instrument, Parameters, Validator, check_genesis


def validator_key(index: int) -> PrivateKey:
    return PrivateKey(bytes([index + 1]) * 32)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something that the code under test brings about; there is no event to wait for."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a test's coroutine on the loop that nodes use."""
    uvloop.run(main())


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on. They are all held at once, so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def real_genesis(validators: int = 4, name: str = "small", **parameters: int) -> Genesis:
    """One instrument; accounts 0 … 2 are the bridge, fees and insurance."""
    ports = free_ports(2 * validators)
    keys = [validator_key(i) for i in range(validators)]
    genesis = Genesis(
        name=name,
        time_ms=1_700_000_000_000,
        validators=tuple(
            Validator(
                f"validator-{i}", key.public, 1, make_certificate(key),
                f"127.0.0.1:{ports[2 * i]}", f"127.0.0.1:{ports[2 * i + 1]}",
            )
            for i, key in enumerate(keys)
        ),
        instruments=(Instrument("BTC-PERP", 1_000, 4096, 1_000_000, 0, 500, 100_000, 50_000, 500_000),),
        accounts=tuple(Account(PrivateKey(bytes([100 + i]) * 32).public, 10_000_000_000) for i in range(3)),
        bridge_account=0,
        fee_account=1,
        insurance_account=2,
        parameters=Parameters(
            **{"delta_ms": 100, "idle_block_ms": 40, "accounts_max": 1024, "orders_max": 4096, "positions_max": 1024}
            | parameters
        ),
    )  # fmt: skip
    check_genesis(genesis)
    return genesis


@dataclass
class Witness:
    """Collects what a part of the runtime tells."""

    events: list[Event] = field(default_factory=list)
    notes: list[tuple[Severity, str]] = field(default_factory=list)
    react: Callable[[Event], None] | None = None

    def on_event(self, event: Event) -> None:
        self.events.append(event)
        if self.react is not None:
            self.react(event)

    def note(self, severity: Severity, text: str) -> None:
        self.notes.append((severity, text))

    def noted(self, text: str) -> bool:
        return any(text in noted for _, noted in self.notes)

    def of(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]
