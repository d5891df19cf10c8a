"""One stream out of three real nodes, one of which is killed and started again; and sessions over several nodes."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lockstep.gateway.client import NotReached
from lockstep.gateway.session import Session
from lockstep.gateway.stream import Connected, EventBlock, EventStream, Lost, NodeAddress, Refuted
from lockstep.sync.light_trust import genesis_trust
from lockstep.sync.merge import BlockDelivered, Denied, Divergence, Gap, Late, LocalDelivered, Output
from lockstep.venue.event import EventKind
from lockstep.wire.client import AskFate
from lockstep.wire.stream import LocalKind, Point
from tests.runtime.test_processes import Network
from tests.support.real_network import run, until

READ = [0, 1, 2]


@pytest.mark.processes
@pytest.mark.timeout(500)
def test_a_merged_stream_is_exact_over_a_kill_and_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        network = Network(tmp_path)
        seen: list[Output | Connected | Lost | Refuted] = []
        try:
            for index in range(4):
                network.start(index)
            for link in network.links:
                link.start()
            await network.up([0, 1, 2, 3])
            reading = asyncio.create_task(read(network, seen))
            await until(lambda: sum(isinstance(out, Connected) for out in seen) == len(READ), 30)
            for index in (0, 1, 2, 0):
                network.submit(index)
            await until(lambda: len(network.fates) == 4, 30)
            network.kill(1)
            network.submit(0)
            await until(lambda: len(network.fates) == 5, 30)
            network.start(1)
            await network.up([1])
            await until(lambda: any(isinstance(out, Gap) for out in seen), 60)
            last = network.submit(1)
            await until(lambda: last.digest in network.fates, 30)
            await until(lambda: height_of(seen) > network.fates[last.digest].height, 30)
            await sessions(network)
            await command(network, 5)
            reading.cancel()
        finally:
            statuses = await network.close()
        assert statuses == [0] * 4
        check(network, seen)

    run(main)


async def read(network: Network, seen: list[Output | Connected | Lost | Refuted]) -> None:
    validators = [network.genesis.validators[index] for index in READ]
    nodes = [NodeAddress(v.name, v.client_address, v.certificate) for v in validators]
    stream = EventStream(nodes, trust=genesis_trust(network.genesis))
    outputs = stream.outputs()
    while True:
        seen.append(await anext(outputs))


def height_of(seen: list[Output | Connected | Lost | Refuted]) -> int:
    return max((out.block.height for out in seen if isinstance(out, BlockDelivered)), default=0)


def check(network: Network, seen: list[Output | Connected | Lost | Refuted]) -> None:
    """Against what other connections were told."""
    assert not any(isinstance(out, Divergence | Denied | Refuted) for out in seen)
    blocks = [(at, out.block) for at, out in enumerate(seen) if isinstance(out, BlockDelivered)]
    heights = [block.height for _, block in blocks]
    assert heights == list(range(heights[0], heights[0] + len(heights)))
    final: dict[bytes, int] = {}
    for at, block in blocks:
        body = block.body
        assert isinstance(body, EventBlock) and body.is_signed is not None
        if block.height in network.finals:
            assert body.header.digest == network.finals[block.height][0]
        for bundle in body.bundles:
            digest = bytes(bundle["digest"])
            rows = body.rows[int(bundle["first"]) : int(bundle["first"]) + int(bundle["rows"])]
            assert rows.tobytes() == network.fates[digest].outcomes
            assert set(rows["kind"].tolist()) == {EventKind.ACCEPTED}
            final[digest] = at
    told = {digest for digest, fate in network.fates.items() if heights[0] <= fate.height <= heights[-1]}
    assert final.keys() == told and len(final) >= 6
    taken = {
        out.event.digest: at
        for at, out in enumerate(seen)
        if isinstance(out, LocalDelivered) and out.event.kind == LocalKind.TAKEN
    }
    assert len(taken) >= 5, "the one that node 1 took last may come late"
    assert all(at < final[digest] for digest, at in taken.items() if digest in final)
    gaps = [out for out in seen if isinstance(out, Gap)]
    assert [(gap.node, gap.last) for gap in gaps] == [(1, 0)]
    assert sum(isinstance(out, Lost) for out in seen) == 1
    places = [(o.node, o.epoch, o.event.sequence) for o in seen if isinstance(o, LocalDelivered | Late)]
    assert len(set(places)) == len(places)


async def sessions(network: Network) -> None:
    """What was written through one node is seen through the others, at once."""
    session = Session()
    clients = [link.client for link in network.links]
    for index in (2, 3, 0):
        writer, reader = clients[index], clients[(index + 2) % 4]
        assert writer is not None and reader is not None
        bundle = network.next_bundle(max(network.heights))
        reply = await session.submit(writer, bundle)
        assert reply.reason == "" and reply.node == index
        fate = await session.fate(reader, bundle.digest)
        assert fate.status in ("pending", "final")
    await until(lambda: bundle.digest in network.fates, 30)
    session.saw(network.fates[bundle.digest].height)
    reader = clients[1]
    assert reader is not None
    assert (await session.account(reader, 0)).next_sequence == network.sequence
    with pytest.raises(NotReached):
        await reader.after(1 << 40, (), AskFate(bundle.digest))
    ahead = Session(0, (Point(0, 1 << 60, 1),))
    assert (await ahead.submit(reader, network.next_bundle(max(network.heights)))).reason == "behind"
    network.sequence -= 1


async def command(network: Network, blocks: int) -> None:
    """`lockstep stream` as a person runs it, from the first block on."""
    addresses = [v.client_address for v in network.genesis.validators[:2]]
    options = [word for address in addresses for word in ("--node", address)]
    file = str(network.homes[0].path / "genesis.json")
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lockstep.cli", "stream", *options, "--genesis", file, "--from", "1", "--blocks",
        str(blocks), "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, errors = await asyncio.wait_for(child.communicate(), 60)
    assert child.returncode == 0, errors.decode()
    lines = [json.loads(line) for line in out.splitlines()]
    finals = [line["final"] for line in lines if "final" in line]
    assert [final["height"] for final in finals] == list(range(1, blocks + 1))
    assert all(final["signed"] is not None for final in finals) and any(final["signed"] for final in finals)
    assert lines[-1]["blocks"] == blocks and lines[-1]["token"][0] == blocks and not lines[-1]["diverged"]
