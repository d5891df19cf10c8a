"""A real process with an empty home joins a network that is far ahead: by the state of a checkpoint, not by replay."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.test_processes import START_SECONDS, Network
from tests.support.real_network import run, until

BEHIND = 64
_CODE = f"""
import sys
from pathlib import Path
from lockstep.node import synchronizer
from lockstep.runtime.node import run_node
synchronizer.BEHIND_BLOCKS_MIN = {BEHIND}  # a few hundred small blocks are replayed in no time:
synchronizer.replay_ms = lambda *_: 1 << 40  # have the other way taken, and don't replay before it is offered
chase = synchronizer.Synchronizer._chase
synchronizer.Synchronizer._chase = lambda self: None if self._behind >= {BEHIND} else chase(self)
sys.exit(run_node(Path(sys.argv[1])))
"""


class JoinedNetwork(Network):
    """Starts its last validator late, and so that it does not replay."""

    def join(self, index: int) -> None:
        with (self.homes[index].path / "output").open("ab") as output:
            self.processes[index] = subprocess.Popen(
                [sys.executable, "-c", _CODE, str(self.homes[index].path)], stdout=output, stderr=output
            )

    def phases(self, index: int) -> list[str]:
        """What the process said that it is doing."""
        lines = (self.homes[index].path / "output").read_text().splitlines()
        return [json.loads(line)["phase"] for line in lines if line.startswith("{")]


@pytest.mark.processes
@pytest.mark.timeout(500)
def test_an_empty_home_joins_by_snapshot_and_votes(tmp_path: Path) -> None:
    async def main() -> None:
        network = JoinedNetwork(tmp_path)
        try:
            for index in range(3):
                network.start(index)
            for link in network.links:
                link.start()
            await network.up([0, 1, 2])
            first = network.submit(0)
            await until(lambda: first.digest in network.fates, 30)
            await until(lambda: network.heights[0] > BEHIND + 30, START_SECONDS)

            network.join(3)
            await until(lambda: "installed" in network.phases(3), START_SECONDS)
            await network.up([3])
            assert network.phases(3).count("opening") == 2
            second = network.submit(3)
            await until(lambda: second.digest in network.fates, 30)

            notes = network.homes[3].path / "node.log"  # an empty home is mute until it has heard all the others
            await until(lambda: "votes again" in notes.read_text(), 30)
            mute_until = max(network.heights) + 5  # not in the view of that moment, nor in the one after
            await until(lambda: network.heights[3] > mute_until, 30)
            await network.up([1, 2, 3])
            network.kill(0)  # now nothing becomes final without the vote of the one that joined
            third = network.submit(1)
            await until(lambda: third.digest in network.fates, 60)
            network.kill(3)  # and it restarts from what it installed
            network.start(3)
            await network.up([1, 2, 3])
        finally:
            statuses = await network.close()
        assert statuses == [0] * 3

    run(main)
