"""One script of what clients do, played in both worlds: the simulator's nodes, and real processes on real sockets.

What must be the same, to the byte: which bundles become final and in which order, every outcome record, the reason of
every refusal, every fate. The genesis, keys and bundles are the same, so both worlds run one chain with one chain id.
What may differ, because time does: heights, views, block times, empty blocks, who proposed, and with them certificates
and the state roots of heights (the venue's row keeps times). The script waits for each fate before it goes on, so that
time doesn't decide about order; marks come from one constant price.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lockstep.base.keys import PrivateKey
from lockstep.chaos.autopsy import Life, examine
from lockstep.chaos.run import START_SECONDS, Network, open_network
from lockstep.gateway.client import connect
from lockstep.runtime.home import Home, read_key
from lockstep.runtime.network import FEED_KEY_FILE
from lockstep.simulator.checkers.chain import bodies, canonical
from lockstep.simulator.history import History
from lockstep.simulator.world import World
from lockstep.venue.event import EVENT
from lockstep.wire.client import AskFate, Fate, Submit, SubmitReply, Subscribe, seal_price_report
from lockstep.wire.command import COMMAND
from lockstep.wire.genesis import Genesis
from tests.support.edge_script import PRICES, Answer, Step, script
from tests.support.real_network import run, until

CLIENT = 77
"""The number by which simulated nodes know the script's client."""


def contents(history: History) -> list[tuple[bytes, bytes]]:
    """The chain without its times: each final bundle with its outcome records, in order."""
    found: list[tuple[bytes, bytes]] = []
    for final, block in bodies(history, canonical(history)):
        events, first = np.frombuffer(final.events, EVENT).copy(), 0
        for bundle in block.bundles:
            end = first + len(bundle.commands) // COMMAND.itemsize
            rows = events[(events["command"] >= first) & (events["command"] < end)]
            rows["command"] -= first
            found.append((bundle.digest, rows.tobytes()))
            first = end
    return found


# -- the simulator ---------------------------------------------------------------------------------------


def play_simulated(genesis: Genesis, keys: list[PrivateKey], feed: PrivateKey) -> tuple[list[Answer], History]:
    world = World(genesis, keys, feed.public, seed=1)
    world.now_us = genesis.time_ms * 1_000
    world.start()

    def report() -> None:
        price = seal_price_report(feed, genesis.chain_id, world.now_us // 1_000, PRICES)
        for node in world.nodes:
            if node.is_up:
                node.ask(CLIENT + 1, price)
        world.call(300_000, report)

    report()
    world.run(3_000_000)
    answers = [_simulated_step(world, step) for step in script(genesis)]
    world.run(1_000_000)
    return answers, world.history


def _simulated_step(world: World, step: Step) -> Answer:
    node = world.nodes[step.node]
    match step.action:
        case "lose":
            node.crash(None)
            return Answer("", "", b"")
        case "return":
            node.start()
            world.run(5_000_000)
            return Answer("", "", b"")
    node.ask(CLIENT, Subscribe(outcomes=True, blocks=False))
    seen = len(node.replies)
    node.ask(CLIENT, Submit(step.raw) if step.action == "submit" else AskFate(step.digest))

    def told() -> tuple[str, Fate | None]:
        mine = [message for client, message in node.replies[seen:] if client == CLIENT]
        reasons = [m.reason for m in mine if isinstance(m, SubmitReply)]
        fates = [m for m in mine if isinstance(m, Fate) and m.digest == step.digest]
        return (reasons[0] if reasons else ""), (fates[0] if fates else None)

    assert world.run_until(lambda: told()[1] is not None or told()[0] != "", 20_000_000)
    reason, fate = told()
    return Answer.of(reason, fate)


# -- real processes --------------------------------------------------------------------------------------


async def play_real(network: Network) -> list[Answer]:
    """The network's own clients only report prices; the script has connections of its own."""
    assert await network.reached(5, network.everybody, START_SECONDS)
    statuses = network.clients.statuses
    await until(lambda: len(statuses) == 4 and not any(s.instruments[0].stale for s in statuses.values()), 60)
    return [await _real_step(network, step) for step in script(network.fleet.homes[0].genesis)]


async def _real_step(network: Network, step: Step) -> Answer:
    fleet = network.fleet
    match step.action:
        case "lose":
            fleet.kill([step.node])
            return Answer("", "", b"")
        case "return":
            fleet.start(step.node)
            assert await network.reached(max(network.clients.heights) + 2, network.everybody, START_SECONDS)
            return Answer("", "", b"")
    fates: list[Fate] = []
    replies: list[SubmitReply] = []

    def told(message: object) -> None:
        if isinstance(message, Fate) and message.digest == step.digest:
            fates.append(message)
        elif isinstance(message, SubmitReply):
            replies.append(message)

    validator = fleet.homes[step.node].genesis.validators[step.node]
    client = await connect(validator.client_address, validator.certificate, told)
    try:
        client.subscribe(outcomes=True)
        client.request(Submit(step.raw) if step.action == "submit" else AskFate(step.digest))
        is_answered: Callable[[], bool] = lambda: bool(fates) or any(r.reason for r in replies)  # noqa: E731
        await until(is_answered, 60)
    finally:
        await client.disconnect()
    return Answer.of(replies[0].reason if replies else "", fates[0] if fates else None)


@pytest.mark.processes
@pytest.mark.timeout(600)
def test_both_worlds_answer_alike(tmp_path: Path) -> None:
    real: list[Answer] = []
    homes: list[Home] = []

    async def main() -> None:
        async with open_network(tmp_path / "net", 4, 3, trades=False) as network:
            for index in network.everybody:
                network.fleet.start(index)
            real.extend(await play_real(network))
            await asyncio.sleep(1.0)
            assert await network.fleet.stop() == [0] * 4
            homes.extend(network.fleet.homes)

    run(main)
    genesis = homes[0].genesis
    simulated, world = play_simulated(
        genesis, [home.key for home in homes], read_key(homes[0].path.parent / FEED_KEY_FILE)
    )
    assert real == simulated
    steps = script(genesis)
    for step, answer in zip(steps, real, strict=True):
        assert (answer.reason, answer.status) == (step.reason, step.status), step.name
    left = examine(homes, [Life(1, True, "", [], {}, {})] * 4, 0, 0, 0)
    assert contents(left) == contents(world)
    assert [digest for digest, _ in contents(left)] == [s.digest for s in steps if s.is_new]
