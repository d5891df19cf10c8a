"""Parts of real nodes' state, fetched and brought up to date; real nodes compared with each other and with homes."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lockstep.base.digest import digest
from lockstep.gateway.client import Client
from lockstep.gateway.live_diff import diff_live
from lockstep.gateway.live_state import LiveState
from lockstep.gateway.state_fetch import StateFetch
from lockstep.gateway.stream import NodeAddress
from lockstep.ledger import partial
from lockstep.ledger.partial import Rows
from lockstep.sync.light_trust import genesis_trust
from lockstep.wire.client import StatusReply
from lockstep.wire.message import StatePart, decode_part, encode_part, is_part
from lockstep.wire.validators import validator_set
from tests.runtime.test_processes import Network
from tests.support.real_network import run, until

TABLES = ["--table", "accounts", "--table", "levels:1000-2300", "--table", "client_ids:5"]


@pytest.mark.processes
@pytest.mark.timeout(400)
def test_parts_of_a_live_state_and_live_nodes_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        network = Network(tmp_path)
        try:
            for index in range(4):
                network.start(index)
            for link in network.links:
                link.start()
            await network.up([0, 1, 2, 3])
            network.submit(0)
            await until(lambda: min(network.heights) > 25, 60)
            await fetching(network, tmp_path / "part")
            await lying(network, tmp_path / "other", monkeypatch)
            await comparing(network, monkeypatch)
        finally:
            assert await network.close() == [0] * 4

    run(main)


async def fetching(network: Network, folder: Path) -> None:
    """The command as a person runs it, twice; the second time only what changed is fetched."""
    nodes = ",".join(v.client_address for v in network.genesis.validators[:3])
    trust = genesis_trust(network.genesis).line()
    options = ["--node", nodes, "--trust", trust, *TABLES, "--out", str(folder), "--json"]
    code, found = await lockstep("fetch", *options)
    assert code == 0 and found["signers"] >= 3 and found["bytes_fetched"] > 21 * 1024
    code, report = await lockstep("snapshot", "verify", str(folder), "--root", found["state_root"], "--json")
    assert code == 0 and report["tables"] == {"accounts": 1, "levels": 21 * 64, "client_ids": 256}
    height = found["height"]
    assert digest((folder / "manifest.json").read_bytes()).hex() == found["state_root"]
    assert network.finals[height][1].hex() == found["state_root"]
    network.submit(1)
    await until(lambda: min(network.heights) > height + 45, 60)
    code, again = await lockstep("fetch", *options)
    assert code == 0 and again["height"] > height and again["bytes_fetched"] < 3 * 1024
    assert (await lockstep("snapshot", "verify", str(folder), "--json"))[0] == 0
    raw = (folder / "levels.15-36.chunks").read_bytes()
    (folder / "levels.15-36.chunks").write_bytes(b"\1" + raw[1:])
    code, report = await lockstep("snapshot", "verify", str(folder), "--json")
    assert code == 1 and "levels" in report["problems"][0]


async def lying(network: Network, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of three nodes sends altered parts: it is named, and everything comes from the others."""
    liar = network.genesis.validators[0].client_address
    honest = Client.received

    def received(self: Client, body: bytes) -> None:
        if is_part(body) and _address(self) == liar and len(body) > 40:
            part = decode_part(bytes(body))
            data = bytes(part.data)
            body = b"".join(encode_part(StatePart(part.request, bytes([data[0] ^ 1]) + data[1:])))
        honest(self, body)

    addresses = [NodeAddress(v.name, v.client_address, v.certificate) for v in network.genesis.validators[:3]]
    with monkeypatch.context() as patched:
        patched.setattr(Client, "received", received)
        effort = StateFetch(validator_set(network.genesis), addresses, [Rows("levels"), Rows("ladder")], folder)
        target, parts = await asyncio.wait_for(effort.run(), 60)
    barred = [name for name, _, wrong in effort.nodes if wrong]
    assert barred in ([], [addresses[0].name])
    partial.finish(folder, target.offer.manifest, target.header.height, parts)
    assert partial.verify(folder, target.certificate.state_root).problems == ()


async def comparing(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two live nodes, a live node and a home; and one that claims a state root that it cannot have."""
    one, other = (v.client_address for v in network.genesis.validators[:2])
    code, found = await lockstep("diff", one, other, "--json")
    assert code == 0 and found["equal"] and found["agreed_height"] > 25 and not found["wrong"], found
    code, found = await lockstep("diff", one, str(network.homes[2].path), "--json")
    assert code == 0 and found["equal"] and found["heights"][0] == found["heights"][1], found
    honest = Client.received

    def received(self: Client, body: bytes) -> None:
        if body[:2] == b"\xdc\x00" and _address(self) == other:
            status = msgspec.msgpack.decode(body, type=StatusReply)
            body = msgspec.msgpack.encode(msgspec.structs.replace(status, state_root=b"\7" * 32))
        honest(self, body)

    with monkeypatch.context() as patched:
        patched.setattr(Client, "received", received)
        sides = LiveState("one", one), LiveState("other", other)
        report = await diff_live(*sides, None)
        for side in sides:
            await side.close()
    assert not report.is_equal and "other has computed state root 0707" in report.wrong[0]


def _address(client: Client) -> str:
    peer = client.transport.get_extra_info("peername") if client.transport is not None else None
    return "" if peer is None else f"{peer[0]}:{peer[1]}"


async def lockstep(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code, and the last JSON object that the command prints."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lockstep.cli", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    out, errors = await asyncio.wait_for(child.communicate(), 90)
    lines = out.splitlines()
    assert lines, errors.decode()
    found: dict[str, Any] = json.loads(lines[-1])
    return child.returncode or 0, found
