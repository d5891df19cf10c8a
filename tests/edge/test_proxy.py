"""The proxy between validators, before real nodes: what it does to plain bytes and to TLS."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import cast

import pytest
from msgspec.structs import replace

from lockstep.chaos.proxy import HOST, Proxy, Weather
from lockstep.node.events import PeerConnected, PeerSaid
from lockstep.runtime.transport import Transport
from lockstep.wire.message import Ping
from tests.support.real_network import Witness, free_ports, real_genesis, run, validator_key
from tests.support.real_network import until as until_

ONE, OTHER = 0, 1


async def until(condition: Callable[[], bool]) -> None:
    await until_(condition, 60.0)


class Echo(asyncio.Protocol):
    """Says what it hears."""

    def __init__(self, made: list[asyncio.Transport]) -> None:
        self._made = made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports do not say so themselves
        self._made.append(self.transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


def with_echo(check: Callable[[Proxy, int], Awaitable[None]]) -> None:
    """Validator 0 dials validator 1, who repeats what it hears."""

    async def main() -> None:
        made: list[asyncio.Transport] = []
        server = await asyncio.get_running_loop().create_server(lambda: Echo(made), HOST, 0)
        proxy = Proxy(Random(1), lambda port, remote: ONE)
        ports = await proxy.bind(2)
        proxy.aim([(HOST, 1), server.sockets[0].getsockname()[:2]])
        try:
            await check(proxy, ports[OTHER])
        finally:
            await proxy.close()
            server.close()
            for transport in made:
                transport.abort()
            await asyncio.sleep(0.01)

    run(main)


async def ask(port: int, data: bytes, seconds: float = 60.0) -> bytes:
    """What comes back; empty when the connection ends instead."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(data)
        async with asyncio.timeout(seconds):
            return await reader.readexactly(len(data))
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
    finally:
        writer.transport.abort()


def test_in_fine_weather_nothing_changes() -> None:
    async def check(proxy: Proxy, port: int) -> None:
        data = Random(2).randbytes(300_000)
        assert await ask(port, data) == data
        assert proxy.fired == {}

    with_echo(check)


def test_late_and_trickling_bytes_arrive_in_order() -> None:
    async def check(proxy: Proxy, port: int) -> None:
        way = proxy.weather(ONE, OTHER)
        way.delay_seconds, way.jitter_seconds, way.bytes_per_second = 0.02, 0.05, 1_000_000
        data = Random(3).randbytes(100_000)
        began = asyncio.get_running_loop().time()
        assert await ask(port, data) == data
        assert asyncio.get_running_loop().time() - began >= 0.1  # 100,000 bytes at a million a second
        assert proxy.fired["late"] > 0

    with_echo(check)


def test_a_cut_ends_connections_and_refuses_new_ones_until_it_is_mended() -> None:
    async def check(proxy: Proxy, port: int) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        assert list(proxy.connected()) == [(ONE, OTHER)]
        proxy.weather(OTHER, ONE).is_cut = True
        proxy.changed(ONE, OTHER)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.transport.abort()
        assert await ask(port, b"y") == b""
        proxy.clear()
        assert await ask(port, b"y") == b"y"
        assert proxy.fired == {"reset": 1, "refused": 1}

    with_echo(check)


def test_what_is_swallowed_never_comes_and_nothing_follows_it() -> None:
    async def check(proxy: Proxy, port: int) -> None:
        proxy.weather(OTHER, ONE).is_swallowed = True
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"heard, but not answered")
        await until(lambda: "swallowed" in proxy.fired)
        proxy.clear()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.transport.abort()

    with_echo(check)


def test_one_bit_flips_in_one_direction() -> None:
    async def check(proxy: Proxy, port: int) -> None:
        proxy.weather(ONE, OTHER).flips = 1
        back = await ask(port, bytes(50))
        assert sum(byte.bit_count() for byte in back) == 1
        assert await ask(port, bytes(50)) == bytes(50)

    with_echo(check)


async def _meet(proxy: Proxy, ports: list[int]) -> tuple[list[Transport], list[Witness]]:
    """Two real transports whose genesis names the proxy."""
    own = free_ports(2)
    genesis = real_genesis(2)
    members = zip(genesis.validators, ports, strict=True)
    genesis = replace(genesis, validators=tuple(replace(v, peer_address=f"{HOST}:{port}") for v, port in members))
    proxy.aim([(HOST, port) for port in own])
    witnesses = [Witness(), Witness()]
    transports = [
        Transport(genesis, i, validator_key(i), f"{HOST}:{own[i]}", witnesses[i].on_event, witnesses[i].note)
        for i in range(2)
    ]
    for transport in transports:
        transport.start()
    await until(lambda: all(w.of(PeerConnected) for w in witnesses))
    return transports, witnesses


def _between_transports(
    turn: Callable[[Weather], None], check: Callable[[list[Transport], list[Witness], Proxy], Awaitable[None]]
) -> None:
    async def main() -> None:
        proxy = Proxy(Random(1), lambda port, remote: ONE)
        transports, witnesses = await _meet(proxy, await proxy.bind(2))
        try:
            turn(proxy.weather(ONE, OTHER))
            await check(transports, witnesses, proxy)
        finally:
            for transport in transports:
                await transport.close()
            await proxy.close()

    run(main)


def test_tls_notices_a_flipped_bit_and_the_validators_meet_again_without_blame() -> None:
    def flip(weather: Weather) -> None:
        weather.flips = 1

    async def check(transports: list[Transport], witnesses: list[Witness], proxy: Proxy) -> None:
        transports[ONE].send(OTHER, Ping(1, 2, 3))
        transports[ONE].flush()
        await until(lambda: len(witnesses[OTHER].of(PeerConnected)) == 2)
        assert proxy.fired["flipped"] == 1
        assert witnesses[OTHER].of(PeerSaid) == []
        assert not witnesses[OTHER].noted("dropping") and not witnesses[OTHER].noted("refused")
        await until(lambda: transports[ONE].connected == [OTHER])
        transports[ONE].send(OTHER, Ping(1, 2, 3))
        transports[ONE].flush()
        await until(lambda: bool(witnesses[OTHER].of(PeerSaid)))

    _between_transports(flip, check)


def test_copies_of_a_connection_attempt_do_not_take_its_place() -> None:
    def copy(weather: Weather) -> None:
        weather.copies = 5

    async def check(transports: list[Transport], witnesses: list[Witness], proxy: Proxy) -> None:
        proxy.weather(ONE, OTHER).is_cut = True
        proxy.changed(ONE, OTHER)
        proxy.weather(ONE, OTHER).is_cut = False
        await until(lambda: proxy.fired.get("copy") == 5)
        await until(lambda: len(witnesses[OTHER].of(PeerConnected)) == 2)

        def is_heard() -> bool:
            """One end may know of the connection before the other does: what is sent meanwhile is lost."""
            transports[ONE].send(OTHER, Ping(1, 2, 3))
            transports[ONE].flush()
            return bool(witnesses[OTHER].of(PeerSaid))

        await until(is_heard)
        assert len(witnesses[OTHER].of(PeerConnected)) == 2

    _between_transports(copy, check)
