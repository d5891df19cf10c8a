"""A real home is taken back over changes of the validators, catches up again, and votes: in no view for the second
time."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lockstep.wire.client import SubmitSetChange
from lockstep.wire.set_change import SetChange, approve, sign_change
from tests.runtime.test_processes import START_SECONDS, Network
from tests.support.real_network import run, until

BACK = 1
SIGNERS = (0, 1, 2, 3)


class ChangingNetwork(Network):
    """Stakes change at the ends of short epochs."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, epoch_blocks=16, idle_block_ms=50)

    async def change(self, epoch: int, stakes: tuple[tuple[int, int], ...]) -> int:
        """Have stakes changed; returns the height of the epoch's last block."""
        change = SetChange(self.genesis.chain_id, epoch, (), stakes)
        approved = approve(change, {i: sign_change(self.homes[i].key, change) for i in SIGNERS}, 4)
        assert self.links[2].send(SubmitSetChange(approved.encode()))
        client = self.links[0].client
        assert client is not None
        last = 0
        async with asyncio.timeout(60):
            while (reply := await client.validators()).epoch == epoch:
                last = max(last, reply.change_height)
                await asyncio.sleep(0.01)
        await self.up([0, 1, 2, 3])
        return last

    async def rollback(self, index: int, height: int) -> tuple[int, dict[str, Any], str]:
        """`lockstep rollback`: exit code, what it found, and what it said."""
        words = ["rollback", "--home", str(self.homes[index].path), "--height", str(height), "--json"]
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "lockstep.cli", *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, errors = await asyncio.wait_for(child.communicate(), 120)
        return child.returncode or 0, json.loads(out or b"{}"), errors.decode()


@pytest.mark.processes
@pytest.mark.timeout(500)
def test_a_home_taken_back_over_two_changes_catches_up_and_votes(tmp_path: Path) -> None:
    async def main() -> None:
        network = ChangingNetwork(tmp_path)
        try:
            for link in network.links:
                link.start()
            for index in range(4):
                network.start(index)
            await network.up([0, 1, 2, 3])
            first = network.submit(0)
            await until(lambda: first.digest in network.fates, 30)
            last = await network.change(0, ((0, 2),))
            await network.change(1, ((0, 1), (3, 2)))
            second = network.submit(0)
            await until(lambda: second.digest in network.fates, 30)

            network.kill(BACK)
            code, _, said = await network.rollback(BACK, last)
            assert code == 2 and f"block {last} is the last of its epoch" in said
            for height in range(last - 1, 0, -1):  # one of these has a certificate of its own
                code, found, said = await network.rollback(BACK, height)
                if code == 0:
                    break
                assert "no certificate of its own" in said, said
            assert found["height"] == height and found["votes_kept"] > 0
            network.start(BACK)
            await until(lambda: network.heights[BACK] > max(network.heights) - 3, START_SECONDS)

            network.kill(0)  # three of five: with the vote of the one that was taken back, and of the heavier one
            third = network.submit(BACK)
            await until(lambda: third.digest in network.fates, START_SECONDS)
            for index in (1, 2, 3):
                client = network.links[index].client
                assert client is not None
                assert (await client.status()).evidence == 0, "a node that was taken back contradicts nothing"
                assert (await client.validators()).epoch == 2
                for bundle in (first, second):
                    assert await client.fate(bundle.digest) == network.fates[bundle.digest]
        finally:
            statuses = await network.close()
        assert statuses == [0] * 3

    run(main)
