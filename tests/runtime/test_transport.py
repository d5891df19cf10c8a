"""Connections between validators: who gets in, who does not, and what a bad one costs the others."""

import asyncio
import ssl
import struct
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest

from lockstep.base.keys import PrivateKey
from lockstep.node.events import Event, PeerConnected, PeerLost, PeerSaid
from lockstep.runtime import connection as connection_module
from lockstep.runtime import listener as listener_module
from lockstep.runtime import peer_connection as peer_connection_module
from lockstep.runtime.tls import client_context, peer_client_context
from lockstep.runtime.transport import Transport
from lockstep.wire.genesis import Genesis
from lockstep.wire.message import PROTOCOL_VERSION, BundleBody, Hello, Ping, Pong, encode_message
from tests.support.real_network import Witness, real_genesis, run, until, validator_key


def transport_of(genesis: Genesis, index: int, witness: Witness, key: PrivateKey | None = None) -> Transport:
    address = genesis.validators[index].peer_address
    return Transport(genesis, index, key or validator_key(index), address, witness.on_event, witness.note)


@asynccontextmanager
async def network(genesis: Genesis, indices: list[int]):
    """Started transports and their witnesses, closed at the end."""
    witnesses = [Witness() for _ in indices]
    transports = [transport_of(genesis, i, w) for i, w in zip(indices, witnesses, strict=True)]
    for transport in transports:
        transport.start()
    try:
        yield transports, witnesses
    finally:
        for transport in transports:
            await transport.close()
        await asyncio.sleep(0.02)


class Raw:
    """Somebody who speaks TLS with a key of their choice, and then sends what they like."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def frame(self, body: bytes) -> None:
        self.writer.write(struct.pack("<I", len(body)) + body)

    async def gone(self) -> bool:
        """Wait for the other side to close."""
        try:
            async with asyncio.timeout(8):
                while await self.reader.read(65536):
                    pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


async def dial(genesis: Genesis, target: int, key: PrivateKey) -> Raw:
    host, port = genesis.validators[target].peer_address.split(":")
    context = peer_client_context(key, [v.certificate for v in genesis.validators])
    return Raw(*await asyncio.open_connection(host, int(port), ssl=context, server_hostname=host))


def hello(genesis: Genesis, index: int, version: int = PROTOCOL_VERSION) -> bytes:
    return encode_message(Hello(version, genesis.chain_id, index))


def test_all_connect_and_messages_arrive_in_order() -> None:
    async def main() -> None:
        async with network(real_genesis(4), [0, 1, 2, 3]) as (transports, witnesses):
            await until(lambda: all(len(t.connected) == 3 for t in transports))
            for number in range(1_000):
                transports[2].broadcast(Ping(number, 0, 0))
            transports[2].flush()
            others = [w for i, w in enumerate(witnesses) if i != 2]
            await until(lambda: all(len(w.of(PeerSaid)) == 1_000 for w in others))
            for witness in others:
                assert [e.message.time_us for e in witness.of(PeerSaid)] == list(range(1_000))
                assert {e.peer for e in witness.of(PeerSaid)} == {2}
            assert sorted(e.peer for e in witnesses[0].of(PeerConnected)) == [1, 2, 3]

    run(main)


def test_large_messages_pass_whole() -> None:
    async def main() -> None:
        async with network(real_genesis(2), [0, 1]) as (transports, witnesses):
            await until(lambda: all(t.connected for t in transports))
            raws = [bytes([i]) * 40_000 for i in range(100)]
            for raw in raws:
                transports[1].send(0, BundleBody(raw))
            transports[1].flush()
            await until(lambda: len(witnesses[0].of(PeerSaid)) == 100)
            assert [e.message.raw for e in witnesses[0].of(PeerSaid)] == raws

    run(main)


@pytest.mark.parametrize("restarted", [0, 1])
def test_a_restarted_validator_is_connected_again(restarted: int) -> None:
    async def main() -> None:
        genesis = real_genesis(2)
        async with network(genesis, [1 - restarted]) as ((staying,), (witness,)):
            for _ in range(3):
                async with network(genesis, [restarted]) as ((coming,), _):
                    await until(lambda coming=coming: bool(staying.connected and coming.connected))
                await until(lambda: not staying.connected)
            assert len(witness.of(PeerConnected)) == len(witness.of(PeerLost)) == 3

    run(main)


def test_a_stranger_does_not_get_through_the_handshake() -> None:
    async def main() -> None:
        genesis = real_genesis(2)
        async with network(genesis, [1]) as (_, (witness,)):
            raw = await dial(genesis, 1, PrivateKey(b"\x99" * 32))
            raw.frame(hello(genesis, 0))
            assert await raw.gone()
            await raw.close()
            await until(lambda: witness.noted("failed before it said who it is"))
            assert not witness.events

    run(main)


def test_a_client_without_a_certificate_does_not_get_through() -> None:
    async def main() -> None:
        genesis = real_genesis(2)
        async with network(genesis, [1]) as (_, (witness,)):
            host, port = genesis.validators[1].peer_address.split(":")
            context = client_context(genesis.validators[1].certificate)
            raw = Raw(*await asyncio.open_connection(host, int(port), ssl=context, server_hostname=host))
            assert await raw.gone()
            await raw.close()
            assert not witness.events

    run(main)


def test_tls_1_2_is_refused() -> None:
    async def main() -> None:
        genesis = real_genesis(2)
        async with network(genesis, [1]) as (_, (witness,)):
            host, port = genesis.validators[1].peer_address.split(":")
            context = peer_client_context(validator_key(0), [v.certificate for v in genesis.validators])
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            with pytest.raises(OSError):
                await asyncio.open_connection(host, int(port), ssl=context, server_hostname=host)
            await until(lambda: witness.noted("UNSUPPORTED_PROTOCOL"))

    run(main)


def test_a_validator_at_the_wrong_address_is_not_taken_for_another() -> None:
    """The certificate must be the dialled validator's, not just any validator's."""

    async def main() -> None:
        genesis = real_genesis(3)
        witness, other = Witness(), Witness()
        impostor = Transport(
            genesis, 2, validator_key(2), genesis.validators[1].peer_address, other.on_event, other.note
        )
        dialler = transport_of(genesis, 0, witness)
        impostor.start()
        dialler.start()
        await until(lambda: witness.noted("validator 2 answers at the address of 1"))
        await dialler.close()
        await impostor.close()
        assert not witness.of(PeerConnected)

    run(main)


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (lambda g: hello(msgspec.structs.replace(g, name="other"), 0), "wrong-chain"),
        (lambda g: hello(g, 0, PROTOCOL_VERSION + 1), "protocol version"),
        (lambda g: hello(g, 1), "its key says validator 0"),
        (lambda g: encode_message(Ping(1, 1, 1)), "not a Hello"),
        (lambda g: b"\xff\xff", "malformed"),
        (lambda g: b"", "malformed"),
    ],
)
def test_a_bad_greeting_ends_the_connection(first: Callable[[Genesis], bytes], reason: str) -> None:
    async def main() -> None:
        genesis = real_genesis(2)
        async with network(genesis, [1]) as (_, (witness,)):
            raw = await dial(genesis, 1, validator_key(0))
            raw.frame(first(genesis))
            assert await raw.gone()
            await raw.close()
            assert witness.noted(reason) and not witness.events

    run(main)


def test_a_higher_validator_may_not_dial() -> None:
    async def main() -> None:
        genesis = real_genesis(3)
        async with network(genesis, [1]) as (_, (witness,)):
            raw = await dial(genesis, 1, validator_key(2))
            assert await raw.gone()
            await raw.close()
            assert witness.noted("the lower one dials")

    run(main)


def test_an_oversize_frame_is_refused_by_its_length_alone() -> None:
    async def main() -> None:
        genesis = real_genesis(2)
        async with network(genesis, [1]) as (_, (witness,)):
            raw = await dial(genesis, 1, validator_key(0))
            raw.frame(hello(genesis, 0))
            await until(lambda: bool(witness.of(PeerConnected)))
            raw.writer.write(struct.pack("<I", 8 * 1024 * 1024 + 1))
            assert await raw.gone()
            await raw.close()
            assert witness.noted("oversize")
            assert witness.of(PeerLost)

    run(main)


@pytest.mark.parametrize(
    "garbage", [b"", b"\xff\xff\xff", encode_message(Ping(1, 1, 1))[:-1], encode_message(Ping(-1, 1, 1))]
)
def test_garbage_after_the_greeting_ends_the_connection(garbage: bytes) -> None:
    async def main() -> None:
        genesis = real_genesis(2)
        async with network(genesis, [1]) as (_, (witness,)):
            raw = await dial(genesis, 1, validator_key(0))
            raw.frame(hello(genesis, 0))
            raw.frame(encode_message(Pong(5)))
            raw.frame(garbage)
            raw.frame(encode_message(Pong(6)))
            assert await raw.gone()
            await raw.close()
            assert witness.noted("validator 0 (validator-0) refused: malformed")
            assert [type(event) for event in witness.events] == [PeerConnected, PeerSaid, PeerLost]

    run(main)


def test_connections_left_half_open_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that never starts TLS, and one that never says Hello."""
    monkeypatch.setattr(listener_module, "HANDSHAKE_SECONDS", 0.2)
    monkeypatch.setattr(peer_connection_module, "HELLO_SECONDS", 0.2)

    async def main() -> None:
        genesis = real_genesis(2)
        async with network(genesis, [1]) as (_, (witness,)):
            host, port = genesis.validators[1].peer_address.split(":")
            silent = Raw(*await asyncio.open_connection(host, int(port)))
            assert await silent.gone()
            await silent.close()
            mute = await dial(genesis, 1, validator_key(0))
            assert await mute.gone()
            await mute.close()
            assert witness.noted("no Hello within") and not witness.of(PeerConnected)

    run(main)


def test_many_half_open_connections_do_not_keep_a_validator_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "HANDSHAKES_MAX", 8)

    async def main() -> None:
        genesis = real_genesis(2)
        async with network(genesis, [1]) as ((transport,), (witness,)):
            host, port = genesis.validators[1].peer_address.split(":")
            idle = [Raw(*await asyncio.open_connection(host, int(port))) for _ in range(40)]
            await until(lambda: witness.noted("too many handshakes"))
            async with network(genesis, [0]):
                await until(lambda: transport.connected == [0])
            for raw in idle:
                await raw.close()

    run(main)


def test_a_slow_reader_loses_messages_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    small = connection_module.Limits(1024 * 1024, 1024 * 1024, 1e9, 1e6)
    monkeypatch.setattr(peer_connection_module, "PEER_LIMITS", small)

    async def main() -> None:
        genesis = real_genesis(3)
        async with network(genesis, [1, 2]) as ((transport, _), (_, witness)):
            raw = await dial(genesis, 1, validator_key(0))
            raw.frame(hello(genesis, 0))
            await until(lambda: transport.connected == [0, 2])
            raw.writer.transport.pause_reading()
            body = BundleBody(bytes(40_000))
            for _ in range(1_000):
                transport.broadcast(body)
                transport.flush()
                await asyncio.sleep(0)
            await until(lambda: len(witness.of(PeerSaid)) + transport.traffic[2].frames_dropped == 1_000)
            assert transport.traffic[0].frames_dropped > 100
            assert transport.connected == [0, 2]
            raw.writer.transport.abort()

    run(main)


def test_a_flood_is_slowed_down_to_its_rate_and_others_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the time that others exchange 200 messages, a peer that sends without end gets little through."""
    monkeypatch.setattr(peer_connection_module, "PEER_LIMITS", connection_module.Limits(1 << 20, 1 << 22, 1e9, 2_000))

    async def main() -> None:
        genesis = real_genesis(3)
        async with network(genesis, [1, 2]) as (transports, witnesses):
            one, two = transports
            raw = await dial(genesis, 1, validator_key(0))
            raw.frame(hello(genesis, 0))
            await until(lambda: one.connected == [0, 2] and two.connected == [1])
            flood = struct.pack("<I", len(encode_message(Pong(7)))) + encode_message(Pong(7))
            loop = asyncio.get_running_loop()
            began = loop.time()
            raw.writer.write(flood * 200_000)

            def answer(event: Event) -> None:
                if isinstance(event, PeerSaid) and isinstance(event.message, Ping) and event.message.time_us < 200:
                    two.send(1, Ping(event.message.time_us + 1, 0, 0))
                    two.flush()

            def ask(event: Event) -> None:
                if isinstance(event, PeerSaid) and event.peer == 2:
                    one.send(2, event.message)
                    one.flush()

            witnesses[0].react, witnesses[1].react = ask, answer
            one.send(2, Ping(0, 0, 0))
            one.flush()
            await until(lambda: any(e.peer == 2 and e.message.time_us == 200 for e in witnesses[0].of(PeerSaid)))
            flooded = sum(1 for e in witnesses[0].of(PeerSaid) if e.peer == 0)
            assert flooded <= 2_000 * (1 + loop.time() - began) + connection_module.FRAMES_PER_TURN
            raw.writer.transport.abort()

    run(main)


def test_dropping_a_peer_closes_its_connection_and_it_may_come_back() -> None:
    async def main() -> None:
        async with network(real_genesis(2), [0, 1]) as (transports, witnesses):
            await until(lambda: all(t.connected for t in transports))
            transports[0].drop(1, "sent a bad signature")
            await until(lambda: all(len(w.of(PeerConnected)) == 2 for w in witnesses))
            assert witnesses[0].noted("dropping validator 1 (validator-1): sent a bad signature")
            transports[0].send(1, Pong(3))
            transports[0].flush()
            await until(lambda: bool(witnesses[1].of(PeerSaid)))

    run(main)


def test_a_message_to_nobody_is_counted_not_queued() -> None:
    async def main() -> None:
        async with network(real_genesis(2), [0]) as ((transport,), _):
            transport.send(1, Pong(1))
            transport.broadcast(Pong(1))
            assert transport.traffic[1].frames_dropped == 2

    run(main)
