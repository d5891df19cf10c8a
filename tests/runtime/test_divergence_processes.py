"""A real node that computes something else than the others: it stops, keeps its state, and `lockstep diff` finds why.

The fault is put into its process: a balance is changed behind the kernels' back in every block that has commands.
"""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lockstep.runtime.kept import kept_folder
from tests.runtime.test_processes import Network
from tests.support.real_network import run, until

FAULTY = """
import sys
from pathlib import Path
from lockstep.ledger.table import touch
from lockstep.runtime.node import run_node
from lockstep.venue import schema, venue

honest = venue.Venue.run

def faulty(self, *block):
    events = honest(self, *block)
    if len(block[4]):  # the commands
        accounts = self.ledger.tables[schema.ACCOUNTS]
        touch(accounts, self._memory.undo, 0)
        accounts.rows["balance"][0] += 7
    return events

venue.Venue.run = faulty
sys.exit(run_node(Path(sys.argv[1])))
"""


def start_faulty(home: Path) -> "subprocess.Popen[bytes]":
    with (home / "output").open("ab") as output:
        return subprocess.Popen([sys.executable, "-c", FAULTY, str(home)], stdout=output, stderr=output)


async def diff(*arguments: str) -> tuple[int, str]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lockstep.cli", "diff", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, errors = await asyncio.wait_for(child.communicate(), 100)
    assert child.returncode in (0, 1), errors.decode()
    return child.returncode, out.decode()


@pytest.mark.processes
@pytest.mark.timeout(500)
def test_a_node_that_differs_halts_and_diff_names_row_values_and_command(tmp_path: Path) -> None:
    async def main() -> None:
        network = Network(tmp_path)
        homes = [home.path for home in network.homes]
        try:
            for index in range(3):
                network.start(index)
            network.processes[3] = start_faulty(homes[3])
            for link in network.links:
                link.start()
            await network.up([0, 1, 2, 3])
            bundle = network.submit(0)
            await until(lambda: bundle.digest in network.fates, 30)
            height = network.fates[bundle.digest].height
            folder = kept_folder(homes[3], height)
            await until(folder.is_dir, 30)
            printed = homes[3] / "output"
            await until(lambda: f"lockstep diff {folder}" in printed.read_text(), 10)
            assert "HALTED" in printed.read_text()
            seen = network.heights[0]
            await until(lambda: network.heights[0] > seen + 45, 60)  # past the others' next checkpoints
            await check(homes, folder, height, bundle.digest)
        finally:
            assert await network.close() == [0] * 4

    async def check(homes: list[Path], folder: Path, height: int, digest: bytes) -> None:
        for sides in ((folder, homes[0]), (homes[3], homes[1])):
            code, out = await diff(*map(str, sides), "--json")
            found: dict[str, Any] = json.loads(out)
            assert code == 1 and found["first_block"] == found["height"] == height
            assert found["tables"] == [{"name": "accounts", "rows_one": 1, "rows_other": 1, "differing": 1}]
            (row,) = found["rows"]
            assert (row["table"], row["row"]) == ("accounts", 0)
            assert row["fields"] == [{"name": "balance", "one": 10**12 + 2, "other": 10**12 - 5}]
            assert row["cause"]["kind"] == "withdraw" and row["cause"]["command"] == 4
            assert row["cause"]["bundle"] == digest.hex() and row["cause"]["fields"] == {"size": 1}
            assert found["nodes_visited"] <= 2 and found["causes_from"] == str(sides[1])
        _, text = await diff(str(homes[3]), str(homes[0]))
        assert f"they differ from block {height:,} on" in text and "withdraw by account 0" in text
        code, out = await diff(str(homes[0]), str(homes[1]), "--json")
        assert code == 0 and json.loads(out)["equal"] and json.loads(out)["height"] > height

    run(main)
