"""Real processes: an observer becomes a validator and a founder leaves while trading goes on, by the commands that
operators type, and a light client follows from genesis over the changes."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from lockstep.cli.app import app
from lockstep.gateway.light import Follower
from lockstep.gateway.link import Link
from lockstep.runtime.network import make_observer
from lockstep.runtime.tls import make_certificate
from lockstep.sync.light_client import LightClient
from lockstep.sync.light_trust import TrustRoot, genesis_trust, parse_trust
from lockstep.wire.client import ValidatorsReply
from lockstep.wire.genesis import Validator
from tests.runtime.test_processes import Network
from tests.support.real_network import run, until

EPOCH_BLOCKS = 16


class GrowingNetwork(Network):
    """Four validators and an observer, at place 4."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, epoch_blocks=EPOCH_BLOCKS)
        self.directory = directory
        home = make_observer(directory / "fifth", self.genesis, "fifth")
        self.homes.append(home)
        self.heights.append(0)
        self.links.append(
            Link(
                home.config.client_listen, make_certificate(home.key), lambda m: self.told(4, m),
                lambda c: c.subscribe(True, True),
            )
        )  # fmt: skip

    async def validators(self, place: int) -> ValidatorsReply | None:
        """The roster as a node tells it; None while it cannot be asked."""
        client = self.links[place].client
        return None if client is None else await client.validators()

    async def command(self, *words: str) -> Any:
        """What `lockstep validators` says; it has an event loop of its own."""
        result = await asyncio.to_thread(CliRunner().invoke, app, ["validators", *words, "--json"])
        assert result.exit_code == 0, (result.output, result.exception)
        return json.loads(result.stdout)

    def home(self, place: int) -> tuple[str, str]:
        return "--home", str(self.homes[place].path)

    async def change(self, signers: tuple[int, ...], asked: int, *words: str) -> None:
        """Have a change ordered, as operators do: `asked` is the node that the commands talk to."""
        file = str(self.directory / "change.json")
        await self.command("propose", file, *self.home(asked), *words)
        for place in signers:
            signed = await self.command("sign", file, *self.home(place))
        assert signed["signed_by"] == list(signers)
        assert await self.command("submit", file, *self.home(asked)) == {"taken": True, "reason": "", "detail": ""}

    async def trust_of(self, validators_hash: bytes, seconds: float) -> TrustRoot:
        """What `lockstep trust` prints beside the fifth node, which runs, once its checkpoint is of this set."""
        async with asyncio.timeout(seconds):
            while True:
                shown = await asyncio.to_thread(CliRunner().invoke, app, ["trust", *self.home(4)])
                assert shown.exit_code == 0, shown.exception
                if (root := parse_trust(shown.stdout)).validators_hash == validators_hash:
                    return root
                await asyncio.sleep(0.2)

    async def in_force(self, epoch: int, places: list[int], seconds: float) -> None:
        async def all_there() -> bool:
            replies = [await self.validators(place) for place in places]
            return all(reply is not None and reply.epoch == epoch for reply in replies)

        async with asyncio.timeout(seconds):
            while not await all_there():  # noqa: ASYNC110
                await asyncio.sleep(0.2)


@pytest.mark.processes
@pytest.mark.timeout(500)
def test_a_fifth_validator_joins_and_a_founder_leaves(tmp_path: Path) -> None:
    async def main() -> None:
        network = GrowingNetwork(tmp_path)
        try:
            for link in network.links:
                link.start()
            for place in range(4):
                network.start(place)
            await network.up([0, 1, 2, 3])
            network.start(4)
            await network.up([0, 1, 2, 3, 4])
            record = str(tmp_path / "record.json")
            await asyncio.to_thread(
                CliRunner().invoke, app, ["validators", "record", record, *network.home(4), "--stake", "1"]
            )
            await network.change((1, 2, 3), 1, "--add", record)
            await network.in_force(1, [0, 1, 2, 3, 4], 90)
            before = network.submit(2)
            await until(lambda: before.digest in network.fates, 30)
            await network.change((1, 2, 3, 4), 4, "--stake", "0=0")
            await network.in_force(2, [1, 2, 3, 4], 90)
            network.kill(0)
            network.kill(1)  # 2, 3 and 4 are a quorum of 1, 2, 3 and 4 only if the fifth one votes
            after = network.submit(2)
            await until(lambda: after.digest in network.fates, 60)
            network.start(1)
            await network.up([1, 2, 3, 4])
            shown = await network.command("show", *network.home(4))
            assert [row["stake"] for row in shown["validators"]] == [0, 1, 1, 1, 1] and shown["epoch"] == 2
            recent = await network.trust_of(bytes.fromhex(shown["validators_hash"]), 60)
            assert recent.height >= 2 * EPOCH_BLOCKS
            source = network.genesis.validators[2].client_address
            light = Follower(LightClient(genesis_trust(network.genesis), 1), [source], lambda: time.time_ns() // 10**6)
            await light.follow()
            state = light.light.state
            assert state is not None and state.validators.stakes == (0, 1, 1, 1, 1) and state.height > 2 * EPOCH_BLOCKS
            await light.close()
            light = Follower(LightClient(recent, 1), [source], lambda: time.time_ns() // 10**6)
            await light.follow()
            assert light.light.state is not None and light.light.state.height > recent.height
            await light.close()
        finally:
            network.processes.pop(0, None)
            exits = await network.close()
        assert exits == [0] * 4

    run(main)


def test_a_validators_record_is_json_for_operators() -> None:
    record = Validator("fifth", bytes(32), 1, b"certificate", "10.0.0.5:7000", "10.0.0.5:7001")
    assert msgspec.json.decode(msgspec.json.encode(record), type=Validator) == record
