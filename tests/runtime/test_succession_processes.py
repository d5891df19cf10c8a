"""Real processes: who knows the genesis only gets the state of validators who are all others by now, when everybody has
pruned the blocks; from peers, and from an exported snapshot."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from lockstep.base.errors import ConfigurationError
from lockstep.cli.app import app
from lockstep.gateway.link import Link
from lockstep.runtime.home import Home, create_home
from lockstep.runtime.network import make_observer
from lockstep.runtime.restore import open_files
from lockstep.runtime.stored_checkpoint import newest_trust
from lockstep.runtime.tls import make_certificate
from tests.runtime.test_processes import START_SECONDS, Network
from tests.support.real_network import run, until

EPOCH_BLOCKS = 16
LATE = 3
_CODE = """
import sys
from pathlib import Path
from lockstep.runtime import home
from lockstep.runtime.node import run_node
home.KEEP_BLOCKS_MIN = 1
sys.exit(run_node(Path(sys.argv[1])))
"""


class SucceedingNetwork(Network):
    """Validator 0 decides alone at first, then 1 alone, then 2. Nodes keep a few blocks."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "first", epoch_blocks=EPOCH_BLOCKS, checkpoint_interval_blocks=8)
        validators = tuple(msgspec.structs.replace(v, stake=int(i == 0)) for i, v in enumerate(self.genesis.validators))
        self.genesis = msgspec.structs.replace(self.genesis, validators=validators)
        self.homes = [
            create_home(
                directory / home.name, self.genesis, home.key,
                msgspec.structs.replace(home.config, retention="pruned", keep_blocks=8),
            )
            for home in self.homes
        ]  # fmt: skip

    def start(self, index: int) -> None:
        with (self.homes[index].path / "output").open("ab") as output:
            self.processes[index] = subprocess.Popen(
                [sys.executable, "-c", _CODE, str(self.homes[index].path)], stdout=output, stderr=output
            )

    async def follow(self, home: Home) -> None:
        """Start one more node, and wait until it makes blocks final."""
        self.homes.append(home)
        self.heights.append(0)
        place = len(self.homes) - 1
        link = Link(
            home.config.client_listen, make_certificate(home.key), lambda m: self.told(place, m),
            lambda c: c.subscribe(True, True),
        )  # fmt: skip
        self.links.append(link)
        link.start()
        self.start(place)
        await self.up([place])

    async def command(self, *words: str) -> Any:
        """What a command says; it has an event loop of its own."""
        result = await asyncio.to_thread(CliRunner().invoke, app, [*words, "--json"])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    async def succeed(self, old: int, new: int, file: Path) -> None:
        """All stake goes from one validator to another, by the commands that operators type."""
        home = "--home", str(self.homes[old].path)
        await self.command("validators", "propose", str(file), *home, "--stake", f"{old}=0", "--stake", f"{new}=1")
        await self.command("validators", "sign", str(file), *home)
        await self.command("validators", "submit", str(file), *home)

    async def epoch_of(self, place: int) -> tuple[int, int]:
        """(epoch, the lowest block that is kept) at a node."""
        client = self.links[place].client
        assert client is not None
        storage = (await client.status()).storage
        return (await client.validators()).epoch, 0 if storage is None else storage.lowest_block

    async def in_epoch(self, epoch: int, place: int, kept_above: int = -1) -> None:
        async with asyncio.timeout(START_SECONDS):
            while True:
                at, lowest = await self.epoch_of(place)
                if at == epoch and lowest > kept_above:
                    return
                await asyncio.sleep(0.05)


@pytest.mark.processes
@pytest.mark.timeout(500)
def test_a_node_with_the_genesis_gets_the_state_of_other_validators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lockstep.runtime.home.KEEP_BLOCKS_MIN", 1)

    async def main() -> None:
        network = SucceedingNetwork(tmp_path)
        try:
            for place in range(3):
                network.start(place)
                network.links[place].start()
            await network.up([0, 1, 2])
            await network.succeed(0, 1, tmp_path / "first.json")
            await network.in_epoch(1, 2)
            await network.succeed(1, 2, tmp_path / "second.json")
            await network.in_epoch(2, 2)
            network.kill(0)
            changed = max(network.heights)
            await network.in_epoch(2, 2, kept_above=changed)

            network.start(LATE)
            network.links[LATE].start()
            await until(lambda: '"installed"' in (network.homes[LATE].path / "output").read_text(), START_SECONDS)
            await network.up([LATE])
            assert (await network.epoch_of(LATE))[0] == 2
            bundle = network.submit(LATE)
            await until(lambda: bundle.digest in network.fates, 60)
            await an_exported_snapshot_leads_there_too(network, tmp_path)
        finally:
            statuses = await network.close()
        assert statuses == [0] * 4

    run(main)


async def an_exported_snapshot_leads_there_too(network: SucceedingNetwork, directory: Path) -> None:
    folder, genesis = directory / "snapshot", directory / "genesis.json"
    genesis.write_bytes((network.homes[2].path / "genesis.json").read_bytes())
    said = await network.command("snapshot", "export", str(folder), "--home", str(network.homes[2].path))
    verified = await network.command("snapshot", "verify", str(folder), "--genesis", str(genesis))
    assert (verified["height"], verified["signers"], verified["validators"]) == (said["height"], 1, 1)
    home = make_observer(directory / "observer", network.genesis)
    imported = await network.command("snapshot", "import", str(folder), "--home", str(home.path))
    opened = open_files(home)
    assert opened.restored.header.height == imported["height"] and opened.restored.roster.epoch == 2
    for part in (opened.log, opened.history, opened.store):
        part.close()
    await network.follow(home)
    line = newest_trust(home.path, network.genesis).line()

    (folder / "changes").unlink()
    other = make_observer(directory / "other", network.genesis)
    with pytest.raises(ConfigurationError, match="no certificates lead"):
        await network.command("snapshot", "import", str(folder), "--home", str(other.path))
    assert not other.checkpoints.exists()
    await network.command("snapshot", "verify", str(folder), "--trust", line)
    await network.command("snapshot", "import", str(folder), "--home", str(other.path), "--trust", line)
