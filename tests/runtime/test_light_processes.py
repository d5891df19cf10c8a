"""A light client with one line of trust, and four real nodes; and what becomes of nodes that lie to it."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lockstep.gateway.client import Client
from lockstep.gateway.light import Follower, NothingTrusted
from lockstep.sync.light_client import Dropped, Effect, LightClient
from lockstep.sync.light_trust import genesis_trust
from lockstep.venue.event import EventKind
from lockstep.wire.client import ClientReply
from lockstep.wire.light import LightReply, OutcomeReply, Query, StateReply
from tests.runtime.test_processes import Network
from tests.support.real_network import run, until


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def follower(network: Network, sources: list[int], told: list[Effect]) -> Follower:
    addresses = [network.genesis.validators[i].client_address for i in sources]
    return Follower(LightClient(genesis_trust(network.genesis), len(sources)), addresses, now_ms, told.append)


def alter(message: ClientReply) -> ClientReply:
    """What a lying node sends: one byte of the content changed."""
    match message:
        case StateReply() if message.rows:
            row = message.rows[-1]
            changed = msgspec.structs.replace(row, chunk=bytes([row.chunk[0] ^ 1]) + row.chunk[1:])
            return msgspec.structs.replace(message, rows=(*message.rows[:-1], changed))
        case OutcomeReply() if message.events:
            piece = message.events[0]
            changed_piece = msgspec.structs.replace(piece, chunk=bytes([piece.chunk[0] ^ 1]) + piece.chunk[1:])
            return msgspec.structs.replace(message, events=(changed_piece, *message.events[1:]))
        case LightReply() if message.finalization is not None:
            final = msgspec.structs.replace(message.finalization, state_root=bytes(32))
            return msgspec.structs.replace(message, finalization=final)
        case _:
            return message


@pytest.mark.processes
@pytest.mark.timeout(400)
def test_proven_answers_from_a_live_network_and_lies_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        network = Network(tmp_path)
        try:
            for index in range(4):
                network.start(index)
            for link in network.links:
                link.start()
            await network.up([0, 1, 2, 3])
            bundle = network.submit(0)
            await until(lambda: bundle.digest in network.fates, 30)
            told: list[Effect] = []
            light = follower(network, [0, 1, 2], told)
            await light.follow()
            first = light.light.state
            assert first is not None and network.finals.get(first.height, (first.block,))[0] == first.block
            answer, proof = await light.state(Query.ACCOUNT, 0)
            assert answer.fields["balance"] == 10**12 - 5 and answer.fields["next_sequence"] == 1
            assert proof.finalization.state_root == network.finals[proof.header.height][1]
            rows, proof = await light.outcome(bundle.digest)
            fate = network.fates[bundle.digest]
            assert rows.tobytes() == fate.outcomes and proof.header.height == fate.height
            assert set(rows["kind"].tolist()) == {EventKind.ACCEPTED}
            assert (await light.genesis()) == network.genesis
            await asyncio.sleep(0.5)
            await light.follow()
            assert light.light.state is not None and light.light.state.height > first.height
            assert not any(isinstance(effect, Dropped) for effect in told)
            await light.close()
            await command(network, tmp_path / "light-state", bundle.digest)
            await lies(network, bundle.digest)
        finally:
            assert await network.close() == [0] * 4

    async def command(network: Network, file: Path, digest: bytes) -> None:
        """`lockstep light` as a person runs it: once from the trust line, then from what it remembers."""
        line = genesis_trust(network.genesis).line()
        node, witness = (network.genesis.validators[i].client_address for i in (0, 1))
        options = ["--node", node, "--witness", witness, "--state", str(file), "--json"]
        found = await lockstep("light", "account", "0", "--trust", line, *options)
        assert found["fields"]["balance"] == 10**12 - 5 and found["signers"] >= 3
        assert found["witnesses"] == 1 and len(file.read_bytes()) < 400  # noqa: ASYNC240
        price = await lockstep("light", "price", "BTC-PERP", *options)
        assert price["exists"] and price["height"] >= found["height"]
        outcome = await lockstep("light", "outcome", digest.hex(), *options)
        assert len(outcome["commands"]) == 5 and outcome["height"] == network.fates[digest].height
        absent = await lockstep("light", "position", "0", "0", *options)
        assert not absent["exists"] and absent["fields"] == {}
        live = await lockstep("light", "--seconds", "2", *options)
        assert live["height"] > found["height"] and live["age_ms"] < 60_000

    async def lies(network: Network, digest: bytes) -> None:
        """The primary's replies are altered on the way, one kind at a time: it is dropped, and the next is asked."""
        honest = Client.received
        for kind in (LightReply, StateReply, OutcomeReply):
            told: list[Effect] = []
            light = follower(network, [0, 3], told)
            if kind is not LightReply:
                await light.follow()
            liar = network.genesis.validators[0].client_address

            def received(self: Client, body: bytes | memoryview, kind: type = kind, liar: str = liar) -> None:
                message = msgspec.msgpack.decode(body, type=kind, strict=True) if _is(body, kind) else None
                peer = self.transport.get_extra_info("peername") if self.transport is not None else None
                is_liar = peer is not None and f"{peer[0]}:{peer[1]}" == liar
                honest(self, msgspec.msgpack.encode(alter(message)) if message is not None and is_liar else body)

            with monkeypatch.context() as patched:
                patched.setattr(Client, "received", received)
                await light.follow()
                light.light.sources.sort()  # a witness that was ahead leads now: the liar is to be asked first
                answer, _ = await light.state(Query.ACCOUNT, 0)
                assert answer.fields["balance"] == 10**12 - 5
                light.light.sources.sort()
                rows, _ = await light.outcome(digest)
                assert len(rows) == 5
            dropped = [effect for effect in told if isinstance(effect, Dropped)]
            assert [effect.source for effect in dropped] == [0], f"{kind.__name__}: {dropped}"
            await light.close()
        lonely = follower(network, [0], [])
        with monkeypatch.context() as patched, pytest.raises(NothingTrusted):
            patched.setattr(Client, "received", received)
            await lonely.follow()
            await lonely.outcome(digest)
        await lonely.close()

    run(main)


async def lockstep(*arguments: str) -> dict[str, Any]:
    """The last JSON object that the command prints."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lockstep.cli", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    out, errors = await asyncio.wait_for(child.communicate(), 60)
    assert child.returncode == 0, errors.decode()
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def _is(body: bytes, kind: type) -> bool:
    tags = {LightReply: 17, StateReply: 18, OutcomeReply: 19}
    return len(body) > 1 and body[1] == tags[kind] and body[0] & 0xF0 == 0x90
