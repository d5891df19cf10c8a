"""Plain connections for parts of a state: who gets one, what comes over it, and what is left when it is gone."""

import asyncio
import os
import socket
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from lockstep.node.events import PeerSaid, PlainLost, PlainPart
from lockstep.runtime import plain_client, plain_server
from lockstep.runtime.buffers import Buffers
from lockstep.runtime.flat_tables import OpenFile, Span
from lockstep.runtime.plain_server import PREAMBLE
from lockstep.runtime.transport import Transport
from lockstep.wire.genesis import Genesis
from lockstep.wire.message import PART_BYTES_MAX, FetchState, Ping, StatePart
from tests.runtime.test_transport import network
from tests.support.real_network import Witness, free_ports, real_genesis, run, until

MEBIBYTE = 1 << 20


def ask(number: int) -> FetchState:
    return FetchState(number, 512, 0, 8, bytes(4), True)


def parts(witness: Witness) -> list[tuple[int, int, bytes]]:
    return [(e.peer, e.part.request, bytes(e.part.data)) for e in witness.of(PlainPart)]


@asynccontextmanager
async def connected_pair():
    """Validator 1 fetches from validator 0, over a plain connection: (their transports, the witnesses)."""
    async with network(real_genesis(2), [0, 1]) as (transports, witnesses):
        await until(lambda: all(t.connected for t in transports))
        transports[1].send(0, ask(0))
        transports[1].flush()
        await until(lambda: transports[0].plain(1) is not None)
        yield transports, witnesses


def test_parts_come_from_files_and_memory_as_they_are(tmp_path: Path) -> None:
    data = np.random.default_rng(1).bytes(3 * MEBIBYTE)
    (tmp_path / "chunks").write_bytes(data)

    async def main() -> None:
        async with connected_pair() as ((server, client), (_, witness)):
            sender = server.plain(1)
            assert sender is not None
            file = OpenFile(tmp_path / "chunks")
            wanted = [
                (0, MEBIBYTE, [Span(file, MEBIBYTE, MEBIBYTE)], data[MEBIBYTE : 2 * MEBIBYTE]),
                (1, 3_000, [Span(file, 0, 2048), data[-2048:]], data[:2048] + data[-2048:][:952]),
                (2, 500, [Span(file, 7 * 1024, 1024)], data[7 * 1024 :][:500]),
                (3, MEBIBYTE, [data[:MEBIBYTE]], data[:MEBIBYTE]),
            ]
            (tmp_path / "chunks").unlink()
            for number, size, pieces, _ in wanted:
                client.send(0, ask(number))
                assert sender.send(number, size, pieces)
            await until(lambda: len(parts(witness)) == len(wanted))
            assert parts(witness) == [(0, number, expected) for number, _, _, expected in wanted]
            assert server.traffic[1].bytes_out > 2 * MEBIBYTE and client.traffic[0].bytes_in > 2 * MEBIBYTE

    run(main)


def test_who_leaves_it_is_served_on_the_other_connection() -> None:
    async def main() -> None:
        async with connected_pair() as ((server, client), (server_witness, witness)):
            client.leave_plain(0)
            client.send(0, ask(1))
            client.flush()
            await until(lambda: len(server_witness.of(PeerSaid)) == 2)
            assert server.plain(1) is None  # when what is asked for next arrives, it is known
            server.send(1, StatePart(1, b"x" * 2_000))
            server.flush()
            await until(lambda: len(witness.of(PeerSaid)) == 1)
            assert witness.of(PeerSaid)[0].message == StatePart(1, b"x" * 2_000)
            assert not witness.of(PlainLost) and server.plain(1) is None

    run(main)


@pytest.mark.parametrize("wrong", ["not asked for", "twice", "too long"])
def test_what_is_no_answer_ends_it(wrong: str) -> None:
    async def main() -> None:
        async with connected_pair() as ((server, client), (_, witness)):
            sender = server.plain(1)
            assert sender is not None
            sender.send(7 if wrong == "not asked for" else 0, 4, [b"some"])
            sender.send(0, PART_BYTES_MAX, [bytes(PART_BYTES_MAX)])
            await until(lambda: bool(witness.of(PlainLost)))
            assert len(parts(witness)) == (wrong != "not asked for")
            assert client.connected == [0]
            client.flush()
            await until(lambda: server.plain(1) is None)

    run(main)


def test_a_peer_that_is_lost_loses_it_too() -> None:
    async def main() -> None:
        async with connected_pair() as ((server, client), _):
            client.drop(0, "for the test")
            await until(lambda: server.plain(1) is None)
            await until(lambda: bool(client.connected))
            client.send(0, ask(0))
            client.flush()
            await until(lambda: server.plain(1) is not None)

    run(main)


async def shown(genesis: Genesis, *first: bytes) -> bytes:
    """Connect to validator 0's port, and say so; what comes before the other side closes."""
    host, port = genesis.validators[0].peer_address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for data in first:
        writer.write(data)
        await asyncio.sleep(0.01)
    try:
        return await asyncio.wait_for(reader.read(), 8)
    except OSError:
        return b""
    finally:
        writer.close()


def test_without_a_good_token_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        genesis = real_genesis(2)
        async with network(genesis, [0]) as ((server,), (witness,)):
            assert await shown(genesis, PREAMBLE, bytes(32)) == b""
            assert await shown(genesis, b"GET / HTTP/1.1\r\nHost: somewhere.example.org\r\nAccept: */*\r\n\r\n") == b""
            token = server._plain_server.token(1)
            taken = asyncio.create_task(shown(genesis, PREAMBLE[:5], PREAMBLE[5:] + token[:9], token[9:]))
            await until(lambda: server.plain(1) is not None)
            assert await shown(genesis, PREAMBLE + token) == b""  # it is good once
            assert witness.noted("without a token")
            replaced = server._plain_server.token(1)
            server._plain_server.token(1)
            assert await shown(genesis, PREAMBLE + replaced) == b""
            monkeypatch.setattr(plain_server, "TOKEN_SECONDS", -1.0)
            assert await shown(genesis, PREAMBLE + server._plain_server.token(1)) == b""
            assert not taken.done()
            server._plain_server.lost(1)
            assert await taken == b""

    run(main)


def test_tokens_and_connections_are_bounded() -> None:
    async def main() -> None:
        genesis = real_genesis(2)
        async with network(genesis, [0]) as ((server,), _):
            plain = server._plain_server
            assert all(plain.token(plain_server.FIRST_OBSERVER + i) for i in range(plain_server.OBSERVERS_MAX))
            assert not plain.token(plain_server.FIRST_OBSERVER + 99)
            others = plain_server.SENDERS_MAX - plain_server.OBSERVERS_MAX
            assert all(plain.token(i) for i in range(others)) and not plain.token(others)
            assert plain.token(0)  # instead of the one that it has

    run(main)


def test_who_does_not_read_loses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_server, "STALLED_SECONDS", 1)

    async def main() -> None:
        genesis = real_genesis(2)
        async with network(genesis, [0]) as ((server,), _):
            host, port = genesis.validators[0].peer_address.split(":")
            with socket.create_connection((host, int(port))) as reader:
                reader.sendall(PREAMBLE + server._plain_server.token(1))
                await until(lambda: server.plain(1) is not None)
                sender = server.plain(1)
                assert sender is not None
                queued = sum(sender.send(i, MEBIBYTE, [bytes(MEBIBYTE)]) for i in range(100))
                assert queued < plain_server.PARTS_WAITING_MAX + 40  # some are in the buffers of the kernel
                await until(lambda: server.plain(1) is None)
                assert not sender.send(0, 1, [b"x"])

    run(main)


def test_where_there_is_no_token_all_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_server, "SENDERS_MAX", 0)

    async def main() -> None:
        async with network(real_genesis(2), [0, 1]) as ((server, client), witnesses):
            await until(lambda: bool(server.connected and client.connected))
            for number in range(20):
                client.send(0, ask(number))
                client.send(0, Ping(number, 0, 0))
            client.flush()
            await until(lambda: len(witnesses[0].of(PeerSaid)) == 40)
            await until(lambda: not client._plain_client._links)
            assert server.plain(1) is None

    run(main)


def test_where_it_cannot_be_dialled_all_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Transport, "_address_of", lambda self, peer: f"127.0.0.1:{free_ports(1)[0]}")

    async def main() -> None:
        async with network(real_genesis(2), [0, 1]) as ((server, client), (server_witness, witness)):
            await until(lambda: bool(server.connected and client.connected))
            client.send(0, ask(1))
            client.flush()
            await until(lambda: not client._plain_client._links)
            server.send(1, StatePart(1, b"x" * 2_000))
            server.flush()
            await until(lambda: len(witness.of(PeerSaid)) == 1)
            assert len(server_witness.of(PeerSaid)) == 1
            assert not witness.of(PlainLost)  # what was asked for is on its way, and is not asked for again

    run(main)


def test_requests_that_nobody_answers_are_forgotten() -> None:
    async def main() -> None:
        async with connected_pair() as ((_, client), _):
            for number in range(2 * plain_client.EXPECTED_MAX):
                client.send(0, ask(number))
            assert len(client._plain_client._links[0].expected) == plain_client.EXPECTED_MAX

    run(main)


def test_memory_is_used_again_when_nobody_looks_at_it() -> None:
    buffers = Buffers(PART_BYTES_MAX)
    first = buffers.take(PART_BYTES_MAX)
    address = np.frombuffer(first, np.uint8).ctypes.data
    aligned = Buffers(PART_BYTES_MAX, 16).take(PART_BYTES_MAX)
    assert (np.frombuffer(aligned, np.uint8).ctypes.data + 16) % 4096 == 0
    view = np.frombuffer(first, np.uint8)[16:].reshape(-1, 1024)[3:9]
    del first
    held = buffers.take(1_000)
    assert np.frombuffer(held, np.uint8).ctypes.data != address
    del view
    again = buffers.take(MEBIBYTE)
    assert np.frombuffer(again, np.uint8).ctypes.data == address and len(again) == MEBIBYTE
    assert len(buffers.take(3 * PART_BYTES_MAX)) == 3 * PART_BYTES_MAX
    many = [buffers.take(PART_BYTES_MAX) for _ in range(200)]  # more than it has
    for number, piece in enumerate(many):
        piece[:8] = number.to_bytes(8, "little")
    assert [int.from_bytes(piece[:8], "little") for piece in many] == list(range(200))


def test_a_file_is_open_as_long_as_somebody_has_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"some")
    span = Span(OpenFile(tmp_path / "file"), 0, 4)
    handle = span.file.handle
    assert os.pread(handle, 4, 0) == b"some"
    del span
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle)
