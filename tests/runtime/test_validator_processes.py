"""Real processes: an observer becomes a validator and a founder leaves while trading goes on, and a light client
follows from genesis over the changes."""

import asyncio
import time
from pathlib import Path

import msgspec
import pytest

from lockstep.gateway.light import Follower
from lockstep.gateway.link import Link
from lockstep.runtime.network import make_observer
from lockstep.runtime.tls import make_certificate
from lockstep.sync.light_client import LightClient
from lockstep.sync.light_trust import genesis_trust
from lockstep.wire.client import ValidatorsReply
from lockstep.wire.genesis import Validator
from lockstep.wire.set_change import SetChange, approve, sign_change
from tests.runtime.test_processes import Network
from tests.support.real_network import run, until

EPOCH_BLOCKS = 16


class GrowingNetwork(Network):
    """Four validators and an observer, at place 4."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, epoch_blocks=EPOCH_BLOCKS)
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

    async def change(self, epoch: int, stakes: tuple[tuple[int, int], ...], added: tuple[Validator, ...] = ()) -> None:
        """Have a change ordered that validators 1, 2 and 3 approve, and wait until it is in force everywhere."""
        change = SetChange(self.genesis.chain_id, epoch, added, stakes)
        count = 4 if epoch == 0 else 5
        raw = approve(change, {i: sign_change(self.homes[i].key, change) for i in self.approving(epoch)}, count)
        client = self.links[1].client
        assert client is not None
        reply = await client.submit_change(raw.encode())
        assert not reply.reason, reply.detail

    def approving(self, epoch: int) -> tuple[int, ...]:
        return (1, 2, 3) if epoch == 0 else (1, 2, 3, 4)

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
            fifth = network.homes[4]
            member = Validator(
                "fifth", fifth.key.public, 1, make_certificate(fifth.key), fifth.config.peer_listen,
                fifth.config.client_listen,
            )  # fmt: skip
            await network.change(0, (), (member,))
            await network.in_force(1, [0, 1, 2, 3, 4], 90)
            before = network.submit(2)
            await until(lambda: before.digest in network.fates, 30)
            await network.change(1, ((0, 0),))
            await network.in_force(2, [1, 2, 3, 4], 90)
            network.kill(0)
            network.kill(1)  # 2, 3 and 4 are a quorum of 1, 2, 3 and 4 only if the fifth one votes
            after = network.submit(2)
            await until(lambda: after.digest in network.fates, 60)
            network.start(1)
            await network.up([1, 2, 3, 4])
            validators = await network.validators(4)
            assert validators is not None and validators.stakes == (0, 1, 1, 1, 1)
            source = network.genesis.validators[2].client_address
            light = Follower(LightClient(genesis_trust(network.genesis), 1), [source], lambda: time.time_ns() // 10**6)
            await light.follow()
            state = light.light.state
            assert state is not None and state.validators.stakes == (0, 1, 1, 1, 1) and state.height > 2 * EPOCH_BLOCKS
            await light.close()
        finally:
            network.processes.pop(0, None)
            exits = await network.close()
        assert exits == [0] * 4

    run(main)


def test_a_validators_record_is_json_for_operators() -> None:
    record = Validator("fifth", bytes(32), 1, b"certificate", "10.0.0.5:7000", "10.0.0.5:7001")
    assert msgspec.json.decode(msgspec.json.encode(record), type=Validator) == record
