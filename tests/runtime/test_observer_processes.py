"""Real processes: nodes that don't vote follow validators and each other, are killed, and come back."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from lockstep.gateway.link import Link
from lockstep.runtime.home import CONFIG_FILE, Home, load_home
from lockstep.runtime.network import make_observer
from lockstep.runtime.tls import make_certificate
from lockstep.wire.client import AskStatus, ClientReply, StatusReply
from lockstep.wire.light import Query
from tests.runtime.test_processes import Network
from tests.support.real_network import run, until

OBSERVERS = 6


class ObservedNetwork(Network):
    """Four validators that take one observer each, and six observers. Places from 4 on are observers."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        for place, home in enumerate(self.homes):
            config = msgspec.structs.replace(home.config, observers_max=1)
            (home.path / CONFIG_FILE).write_bytes(msgspec.json.encode(config))
            self.homes[place] = load_home(home.path)
        for number in range(OBSERVERS):
            home = make_observer(directory / f"observer-{number}", self.genesis, f"observer-{number}")
            self.homes.append(home)
            self.heights.append(0)
            self.links.append(self._link(home, 4 + number))
        self.statuses: dict[int, StatusReply] = {}

    def _link(self, home: Home, place: int) -> Link:
        return Link(
            home.config.client_listen, make_certificate(home.key), lambda m: self.told(place, m),
            lambda c: c.subscribe(True, True),
        )  # fmt: skip

    def told(self, index: int, message: ClientReply) -> None:
        super().told(index, message)
        if isinstance(message, StatusReply):
            self.statuses[index] = message

    async def ask(self, places: list[int]) -> dict[int, StatusReply]:
        """How these nodes are."""
        self.statuses.clear()
        for place in places:
            self.links[place].send(AskStatus())
        await until(lambda: all(place in self.statuses for place in places), 20)
        return dict(self.statuses)


@pytest.mark.processes
@pytest.mark.timeout(500)
def test_observers_follow_through_the_deaths_of_others(tmp_path: Path) -> None:
    async def main() -> None:
        network = ObservedNetwork(tmp_path)
        everybody = list(range(4 + OBSERVERS))
        try:
            for link in network.links:
                link.start()
            for place in range(4):
                network.start(place)
            await network.up([0, 1, 2, 3])  # kernels may have to be compiled: by four processes, not by ten
            for place in range(4, 4 + OBSERVERS):
                network.start(place)
            await network.up(everybody)
            first = network.submit(9)  # through a node that does not vote
            await until(lambda: first.digest in network.fates, 30)
            statuses = await network.ask(everybody)
            assert all(statuses[place].observers <= 1 for place in range(4))
            assert sum(statuses[place].observers for place in range(4)) <= 4
            assert {statuses[place].validator for place in range(4, 10)} == {-1}

            client = network.links[9].client
            assert client is not None
            proof = await client.light(0)
            assert proof.finalization is not None and proof.finalization.height > 0
            _, state = await client.state(Query.ACCOUNT, 0)
            assert state.rows and state.finalization is not None, "proven rows, as a validator gives them"
            for _ in range(300):  # others may have told the bundle's fate before this node knew it
                if (fate := await client.fate(first.digest)).status == "final":
                    break
                await asyncio.sleep(0.1)
            assert fate == network.fates[first.digest]

            for place in (1, 4, 5, 6):  # a validator, and half of those that do not vote
                network.kill(place)
            left = [0, 2, 3, 7, 8, 9]
            await network.up(left)
            second = network.submit(7)
            await until(lambda: second.digest in network.fates, 30)
            for place in (1, 4, 5, 6):
                network.start(place)
            await network.up(everybody)
            await until(lambda: max(network.heights) - min(network.heights) <= 3, 30)
            statuses = await network.ask(everybody)
            assert {status.state for status in statuses.values()} == {"live"}
        finally:
            exits = await network.close()
        assert exits == [0] * len(everybody)

    run(main)
