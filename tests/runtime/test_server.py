"""The client port and the client library, against each other and against misuse."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from lockstep.base.keys import PrivateKey
from lockstep.gateway.client import Client, ConnectionGone, connect
from lockstep.gateway.link import Link
from lockstep.node.events import ClientAsked, ClientLeft, Event
from lockstep.runtime import server as server_module
from lockstep.runtime.server import ClientLimits, ClientServer
from lockstep.runtime.tls import make_certificate
from lockstep.wire.client import AccountReply, AskAccount, AskFate, Fate, Submit, SubmitReply, encode_client
from tests.support.real_network import Witness, run, until, validator_key

CERTIFICATE = make_certificate(validator_key(0))


@asynccontextmanager
async def serving(limits: ClientLimits | None = None, answers: bool = True, port: int = 0):
    """A server that answers account questions with the account's own number."""
    witness = Witness()
    server = ClientServer(validator_key(0), f"127.0.0.1:{port}", witness.on_event, witness.notes.append, limits)

    def answer(event: Event) -> None:
        if isinstance(event, ClientAsked) and isinstance(event.request, AskAccount) and answers:
            server.reply(event.client, AccountReply(event.request.account, True, event.request.account, 1))
            server.flush()

    witness.react = answer
    server.start()
    try:
        yield server, witness, f"127.0.0.1:{server.port}"
    finally:
        await server.close()
        await asyncio.sleep(0.02)


def test_questions_are_answered_in_any_number_at_once() -> None:
    async def main() -> None:
        async with serving() as (_, witness, address):
            one, two = await connect(address, CERTIFICATE), await connect(address, CERTIFICATE)
            replies = await asyncio.gather(*(c.account(n) for n in range(200) for c in (one, two)))
            assert [r.next_sequence for r in replies] == [n for n in range(200) for _ in (one, two)]
            await one.disconnect()
            await until(lambda: len(witness.of(ClientLeft)) == 1)
            assert (await two.account(7)).account == 7
            await two.disconnect()

    run(main)


def test_pushed_messages_reach_the_handler_and_the_one_who_waits() -> None:
    async def main() -> None:
        async with serving() as (server, witness, address):
            told: list[object] = []
            client = await connect(address, CERTIFICATE, told.append)
            waiting = asyncio.ensure_future(client.fate(b"d" * 32))
            await until(lambda: bool(witness.of(ClientAsked)))
            number = witness.of(ClientAsked)[0].client
            pushed = Fate(b"e" * 32, "final", 3, 0, "", b"")
            asked = Fate(b"d" * 32, "unknown", 0, 0, "", b"")
            server.reply(number, pushed)
            server.reply(number, asked)
            server.flush()
            assert await waiting == asked and told == [pushed, asked]
            await client.disconnect()

    run(main)


def test_a_node_with_another_certificate_is_not_talked_to() -> None:
    async def main() -> None:
        async with serving() as (_, _, address):
            with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
                await connect(address, make_certificate(PrivateKey(b"\x31" * 32)))

    run(main)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"\xff", "malformed"),
        (b"", "malformed"),
        (encode_client(SubmitReply(bytes(32), "", "")), "malformed"),
        (encode_client(AskFate(b"short")), "malformed"),
        (encode_client(Submit(bytes(50_000))), "oversize"),
        (bytes(300_000), "oversize"),
    ],
)
def test_what_is_no_request_is_answered_with_goodbye(bad: bytes, reason: str) -> None:
    async def main() -> None:
        async with serving() as (_, witness, address):
            client = await connect(address, CERTIFICATE)
            client.send(bad)
            client.flush()
            await asyncio.wait_for(client.gone.wait(), 5)
            assert client.goodbye is not None and client.goodbye.reason == reason
            assert not witness.of(ClientAsked)
            with pytest.raises(ConnectionGone, match=reason):
                await client.status()

    run(main)


def test_one_client_too_many_is_told_so() -> None:
    async def main() -> None:
        async with serving(ClientLimits(connections_max=2)) as (_, _, address):
            clients = [await connect(address, CERTIFICATE) for _ in range(3)]
            await asyncio.wait_for(clients[2].gone.wait(), 5)
            assert clients[2].goodbye is not None and clients[2].goodbye.reason == "busy"
            assert (await clients[0].account(1)).known
            await clients[0].disconnect()
            await asyncio.sleep(0.05)
            later = await connect(address, CERTIFICATE)
            assert (await later.account(2)).known
            await later.disconnect()
            await clients[1].disconnect()

    run(main)


def test_a_client_that_does_not_read_is_dropped_and_others_are_not() -> None:
    async def main() -> None:
        async with serving(ClientLimits(queue_bytes_max=256 * 1024)) as (server, witness, address):
            slow, quick = await connect(address, CERTIFICATE), await connect(address, CERTIFICATE)
            slow.request(AskFate(bytes(32)))
            await until(lambda: bool(witness.of(ClientAsked)))
            number = witness.of(ClientAsked)[0].client
            assert slow.transport is not None
            slow.transport.pause_reading()
            big = Fate(bytes(32), "final", 1, 1, "", bytes(60_000))
            for _ in range(500):
                server.reply(number, big)
                server.flush()
                await asyncio.sleep(0)
            await until(lambda: bool(witness.of(ClientLeft)))
            assert (await quick.account(5)).account == 5
            await quick.disconnect()
            slow.transport.abort()

    run(main)


def test_a_client_beyond_its_rate_is_slowed_down_not_refused() -> None:
    async def main() -> None:
        limits = ClientLimits(requests_per_second=500)
        async with serving(limits, answers=False) as (_, witness, address):
            client = await connect(address, CERTIFICATE)
            loop = asyncio.get_running_loop()
            began = loop.time()
            for number in range(750):
                client.request(AskAccount(number))
            await until(lambda: len(witness.of(ClientAsked)) == 750)
            assert loop.time() - began >= 0.4, "750 requests at 500 a second, 500 of them at once"
            assert [e.request.account for e in witness.of(ClientAsked)] == list(range(750))
            await client.disconnect()

    run(main)


def test_an_idle_client_is_told_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(server_module, "_SWEEP_SECONDS", 0.02)

    async def main() -> None:
        async with serving() as (_, _, address):
            client = await connect(address, CERTIFICATE)
            await asyncio.wait_for(client.gone.wait(), 5)
            assert client.goodbye is not None and "nothing was asked" in client.goodbye.detail

    run(main)


def test_a_stopping_node_says_so_and_a_link_comes_back() -> None:
    async def main() -> None:
        ups: list[Client] = []
        downs: list[str] = []
        async with serving() as (server, _, address):
            port = server.port
            link = Link(address, CERTIFICATE, lambda _: None, ups.append, downs.append)
            link.start()
            await until(lambda: link.client is not None)
            assert (await ups[0].account(3)).account == 3
        await until(lambda: link.client is None)
        assert downs == ["the node is stopping"]
        assert not link.send(AskAccount(1))
        async with serving(port=port) as (_, witness, _):
            await until(lambda: len(ups) == 2)
            assert link.send(AskAccount(1))
            await until(lambda: bool(witness.of(ClientAsked)))
            await link.close()

    run(main)


def test_the_answer_to_a_waiting_question_of_a_lost_connection_is_an_error() -> None:
    async def main() -> None:
        async with serving(answers=False) as (_, witness, address):
            client = await connect(address, CERTIFICATE)
            waiting = asyncio.ensure_future(client.account(1))
            await until(lambda: bool(witness.of(ClientAsked)))
            client.abort()
            with pytest.raises(ConnectionGone):
                await waiting

    run(main)
