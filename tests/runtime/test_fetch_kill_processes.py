"""`lockstep fetch`, killed twice at moments that nobody chose, goes on with what is there."""

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from lockstep.ledger.partial import FETCHING
from lockstep.sync.light_trust import genesis_trust
from tests.runtime.test_processes import Network
from tests.support.real_network import run, until

PRICE_TICKS = 1 << 20
CHUNKS_MIN = 16 * 1024
"""Of the levels: 16 bytes a price."""
BESIDE = CHUNKS_MIN // 8
"""In chunks: hashes that are asked for to find out what is missing, and what changed meanwhile."""


async def start_fetch(network: Network, folder: Path) -> asyncio.subprocess.Process:
    nodes = ",".join(v.client_address for v in network.genesis.validators[:3])
    words = ["fetch", "--node", nodes, "--trust", genesis_trust(network.genesis).line(), "--table", "levels"]
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lockstep.cli", *words, "--out", str(folder), "--json",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def here(folder: Path) -> int:
    """Chunks that came so far."""
    have = folder / FETCHING / "levels.0.have"
    if (folder / "levels.bin").exists():
        return (folder / "levels.bin").stat().st_size // 1024
    return have.read_bytes().count(1) if have.exists() else 0


async def kill_at(child: asyncio.subprocess.Process, folder: Path, chunks: int) -> int:
    """Kill it once so many chunks are there, or let it end; returns how many are there then."""
    while here(folder) < chunks and child.returncode is None:  # noqa: ASYNC110 (nothing tells)
        await asyncio.sleep(0.001)
    if child.returncode is None:
        child.kill()
    await child.wait()
    return here(folder)


@pytest.mark.processes
@pytest.mark.timeout(400)
def test_a_fetch_killed_twice_goes_on_with_what_is_there(tmp_path: Path) -> None:
    async def main() -> None:
        network = Network(tmp_path, PRICE_TICKS)
        moment = random.SystemRandom()
        folder = tmp_path / "part"
        try:
            for index in range(4):
                network.start(index)
            for link in network.links:
                link.start()
            await network.up([0, 1, 2, 3])
            await until(lambda: min(network.heights) > 25, 60)
            had = 0
            for share in (moment.uniform(0.05, 0.4), moment.uniform(0.5, 0.9)):
                left = await kill_at(await start_fetch(network, folder), folder, int(share * CHUNKS_MIN))
                assert left >= max(had, int(share * CHUNKS_MIN)), "what came is still there"
                had = left
            child = await start_fetch(network, folder)
            out, errors = await asyncio.wait_for(child.communicate(), 90)
            assert child.returncode == 0, errors.decode()
            found = json.loads(out.splitlines()[-1])
            chunks = here(folder)
            assert chunks >= CHUNKS_MIN
            assert found["bytes_fetched"] <= (chunks - had + BESIDE) * 1024, f"{had} of {chunks} were there"
            check = [sys.executable, "-m", "lockstep.cli", "snapshot", "verify", str(folder)]
            assert (
                await asyncio.to_thread(lambda: subprocess.run(check, capture_output=True, check=False).returncode) == 0
            )
        finally:
            statuses = await network.close()
        assert statuses == [0] * 4

    run(main)
