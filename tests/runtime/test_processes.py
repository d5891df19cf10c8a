"""Real node processes, killed without warning."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from lockstep.base.keys import PrivateKey
from lockstep.gateway.link import Link
from lockstep.runtime.home import Home
from lockstep.runtime.network import init_network
from lockstep.wire.bundle import Bundle, seal_bundle
from lockstep.wire.client import BlockFinal, ClientReply, Fate, Submit
from lockstep.wire.command import COMMAND, Kind
from lockstep.wire.genesis import Account, Parameters
from tests.support.real_network import real_genesis, run, until

TRADER = PrivateKey(b"\x42" * 32)
START_SECONDS = 200.0
"""Kernels may have to be compiled first, by four processes at once."""


class Network:
    """Four homes, their processes, and a link to each. Everything that clients are told is remembered and compared."""

    def __init__(self, directory: Path, price_ticks: int = 4096, **parameters: int) -> None:
        instruments = [msgspec.structs.replace(i, price_ticks=price_ticks) for i in real_genesis(1).instruments]
        self.homes: list[Home] = init_network(
            directory, 4, instruments, [Account(TRADER.public, 10**12)],
            bridge_account=0, fee_account=0, insurance_account=0,
            parameters=Parameters(**{"checkpoint_interval_blocks": 20, "accounts_max": 1024, "orders_max": 1024,
                                     "positions_max": 1024} | parameters),
        )  # fmt: skip
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.genesis = self.homes[0].genesis
        self.finals: dict[int, tuple[bytes, bytes]] = {}
        self.heights = [0] * 4
        self.fates: dict[bytes, Fate] = {}
        self.sequence = 0
        self.links = [
            Link(v.client_address, v.certificate, lambda m, i=i: self.told(i, m), lambda c: c.subscribe(True, True))
            for i, v in enumerate(self.genesis.validators)
        ]

    def start(self, index: int) -> None:
        code = "import sys; from pathlib import Path; from lockstep.runtime.node import run_node; "
        code += "sys.exit(run_node(Path(sys.argv[1])))"
        with (self.homes[index].path / "output").open("ab") as output:
            self.processes[index] = subprocess.Popen(
                [sys.executable, "-c", code, str(self.homes[index].path)], stdout=output, stderr=output
            )

    def kill(self, index: int) -> None:
        process = self.processes.pop(index)
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    def told(self, index: int, message: ClientReply) -> None:
        """No two nodes, and no node before and after a restart, may tell different things."""
        if isinstance(message, BlockFinal):
            final = message.block, message.state_root
            assert self.finals.setdefault(message.height, final) == final
            self.heights[index] = message.height
        elif isinstance(message, Fate) and message.status == "final":
            assert self.fates.setdefault(message.digest, message) == message

    def next_bundle(self, height: int) -> Bundle:
        commands = np.zeros(5, COMMAND)
        commands["kind"], commands["size"] = Kind.WITHDRAW, 1
        bundle = seal_bundle(TRADER, self.genesis.chain_id, 0, self.sequence, height + 5_000, commands)
        self.sequence += 1
        return bundle

    def submit(self, index: int) -> Bundle:
        bundle = self.next_bundle(max(self.heights))
        assert self.links[index].send(Submit(bundle.raw))
        return bundle

    async def up(self, indices: list[int]) -> None:
        """Wait until these nodes finalise."""
        seen = {i: self.heights[i] for i in indices}
        await until(lambda: all(self.heights[i] > seen[i] for i in indices), START_SECONDS)

    async def close(self) -> list[int]:
        for link in self.links:
            await link.close()
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        return [process.wait(20) for process in self.processes.values()]


@pytest.mark.processes
@pytest.mark.timeout(500)
def test_killing_one_and_then_all_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    async def main() -> None:
        network = Network(tmp_path)
        try:
            for index in range(4):
                network.start(index)
            for link in network.links:
                link.start()
            await network.up([0, 1, 2, 3])
            first = network.submit(0)
            await until(lambda: first.digest in network.fates)

            network.kill(3)
            second = network.submit(1)
            await until(lambda: second.digest in network.fates, 30)
            network.start(3)
            await network.up([3])

            for index in range(4):
                network.kill(index)
            for index in range(4):
                network.start(index)
            await network.up([0, 1, 2, 3])
            for link in network.links:
                assert link.client is not None
                for bundle in (first, second):
                    fate = await asyncio.wait_for(link.client.fate(bundle.digest), 10)
                    assert fate == network.fates[bundle.digest] and len(fate.outcomes) == 5 * 64
            third = network.submit(2)
            await until(lambda: third.digest in network.fates, 30)
        finally:
            statuses = await network.close()
        assert statuses == [0] * 4

    run(main)


@pytest.mark.processes
@pytest.mark.timeout(300)
def test_a_damaged_log_stops_the_start_with_a_message(tmp_path: Path) -> None:
    network = Network(tmp_path)
    home = network.homes[0]
    (home.path / "log").mkdir()
    (home.path / "log" / "00000001.log").write_bytes(b"not a log at all" * 10)
    network.start(0)
    assert network.processes[0].wait(START_SECONDS) == 1
    output = (home.path / "output").read_text()
    assert "STOPPED" in output and "header, at offset 0, is damaged" in output
