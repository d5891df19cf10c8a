"""Real processes that keep little: killed while they prune, away for too long, taken back, and looked at meanwhile."""

import asyncio
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import msgspec
import pytest

from lockstep.runtime.home import CONFIG_FILE
from lockstep.runtime.network import free_ports
from tests.runtime.test_processes import START_SECONDS, Network
from tests.support.real_network import run, until

BEHIND = 32
KEPT = 48
_CODE = f"""
import sys
from pathlib import Path
from lockstep.node import synchronizer
from lockstep.runtime import home
from lockstep.runtime.node import run_node
home.KEEP_BLOCKS_MIN = 1
synchronizer.BEHIND_BLOCKS_MIN = {BEHIND}
home.NodeConfig.segment_bytes = 16 * 1024  # many small segments
sys.exit(run_node(Path(sys.argv[1])))
"""
_ROLLBACK = """
from lockstep.cli import main
from lockstep.runtime import home
home.KEEP_BLOCKS_MIN = 1
main()
"""


class PrunedNetwork(Network):
    """Every node prunes, and the first one shows metrics."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, idle_block_ms=60)
        (self.metrics_port,) = free_ports(1)
        for index, home in enumerate(self.homes):
            config = msgspec.structs.replace(
                home.config, retention="pruned", keep_blocks=KEPT, keep_days=30 / 86_400,
                metrics_listen="" if index else f"127.0.0.1:{self.metrics_port}",
            )  # fmt: skip
            (home.path / CONFIG_FILE).write_bytes(msgspec.json.encode(config))

    def start(self, index: int) -> None:
        with (self.homes[index].path / "output").open("ab") as output:
            self.processes[index] = subprocess.Popen(
                [sys.executable, "-c", _CODE, str(self.homes[index].path)], stdout=output, stderr=output
            )

    def said(self, index: int) -> str:
        return (self.homes[index].path / "output").read_text()

    def segments(self, index: int) -> list[str]:
        return sorted(path.name for path in (self.homes[index].path / "log").glob("*.log"))

    async def metrics(self) -> str:
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        return await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=20).read().decode())


@pytest.mark.processes
@pytest.mark.timeout(500)
def test_pruned_nodes_killed_again_and_again_away_and_taken_back(tmp_path: Path) -> None:
    async def main() -> None:
        network = PrunedNetwork(tmp_path)
        try:
            for index in range(4):
                network.start(index)
            for link in network.links:
                link.start()
            await network.up([0, 1, 2, 3])
            old = network.submit(0)
            await until(lambda: old.digest in network.fates, 30)

            network.kill(3)  # it will miss more than the others keep
            missed = network.heights[3]
            for _ in range(2):  # at moments that nobody chose
                height = network.heights[1]
                await until(lambda h=height: network.heights[1] > h + 45, START_SECONDS)
                network.kill(2)
                network.start(2)
                await network.up([2])
            await until(lambda: network.segments(0)[0] > "00000001.log", START_SECONDS)
            client = network.links[0].client
            assert client is not None
            reply = await client.status()
            while reply.storage is None or reply.storage.lowest_block <= missed + 1:
                await asyncio.sleep(0.2)
                reply = await client.status()
            assert reply.storage.retention == "pruned" and reply.storage.log_bytes > 0
            fate = await client.fate(old.digest)
            assert fate.status == "unknown" and "ask an archive node" in fate.reason
            text = await network.metrics()
            assert f"lockstep_storage_lowest_block {float(reply.storage.lowest_block)}" in text
            assert "lockstep_p2p_peers 2.0" in text and "lockstep_storage_bytes" in text

            network.start(3)  # nobody has its next block: it fetches a state
            await until(lambda: '"installed"' in network.said(3), START_SECONDS)
            await network.up([3])

            await take_back(network, 1)
            await until(lambda: network.heights[1] > max(network.heights) - 3, START_SECONDS)
            network.kill(2)  # now nothing becomes final without the vote of the one that was taken back
            new = network.submit(0)
            await until(lambda: new.digest in network.fates, START_SECONDS)
            for link in (network.links[0], network.links[1], network.links[3]):
                assert link.client is not None
                assert (await link.client.status()).evidence == 0, "a node that was taken back contradicts nothing"
        finally:
            statuses = await network.close()
        assert statuses == [0] * 3

    run(main)


async def take_back(network: PrunedNetwork, index: int) -> None:
    """Kill a node, roll its home back by ten blocks or a few more, and start it again."""
    home = network.homes[index].path
    network.kill(index)
    for blocks in range(10, 20):  # one of these has a certificate of its own
        command = [sys.executable, "-c", _ROLLBACK, "rollback", "--home", str(home), "--blocks", str(blocks)]
        done = await asyncio.to_thread(
            lambda command=command: subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
        )
        if done.returncode == 0:
            break
        assert "no certificate of its own" in done.stderr, done.stderr
    found = json.loads(done.stdout)
    assert found["head"] - found["height"] == blocks and found["votes_kept"] > 0
    network.start(index)
