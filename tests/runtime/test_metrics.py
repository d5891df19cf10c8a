"""What a node shows to Prometheus, read back with the client library's own parser; and the little server before it."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lockstep.runtime.connection import Traffic
from lockstep.runtime.metrics import PHASES, STATES, Metrics, Sources
from lockstep.runtime.metrics_server import CONNECTIONS_MAX, REQUEST_BYTES_MAX, MetricsServer
from lockstep.wire.client import PeerStatus, StatusReply, StorageStatus, SyncPeer, SyncProgress
from tests.support.real_network import run, until

STATUS = StatusReply(
    "ada", 0, "live", "", ("submit", "query"), 57, 51, 50, 52, 2, 750, 1_500, b"\x11" * 32, 7, 4_096, 1_000, 300, 50,
    (PeerStatus(1, True, 57, 51, 2_500), PeerStatus(2, False, 0, 0, 0), PeerStatus(3, True, 56, 50, 900)), (), 1, 180,
    storage=StorageStatus("pruned", 20, 3, (30, 45), 1_000, 2_000, 3_000, 2_500), final_view=54, validators=4, stake=9,
)  # fmt: skip
SYNC = SyncProgress("fetching", 512, 5 << 20, 20 << 20, 1_000_000, 15, (SyncPeer(1, 512, 900_000, 3, 1, 80, ""),))


def metrics(status: StatusReply | None = STATUS, prefix: str = "lockstep") -> Metrics:
    traffic = {"1": Traffic(bytes_in=100, bytes_out=200), "observers": Traffic(bytes_in=5)}
    return Metrics(prefix, Sources(lambda: status, lambda: {"tree": 3, "votes": 9}, lambda: traffic))


def read(made: Metrics) -> dict[str, float]:
    """`name{label}` → value, by the parser that Prometheus' own client comes with."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(made.text().decode()):
        assert family.documentation and family.type in ("gauge", "counter", "histogram")
        for sample in family.samples:
            labels = ",".join(sample.labels.values())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_names_that_cometbft_has_mean_the_same_here() -> None:
    found = read(metrics(prefix="cometbft"))
    expected = {
        "consensus_height": 50, "consensus_latest_block_height": 50, "consensus_validators": 4,
        "consensus_validators_power": 9, "consensus_rounds": 2, "consensus_byzantine_validators": 1,
        "consensus_total_txs_total": 1_000, "p2p_peers": 2, "mempool_size": 7, "mempool_size_bytes": 4_096,
        "blocksync_syncing": 0, "statesync_syncing": 0, "p2p_peer_receive_bytes_total{1}": 100,
    }  # fmt: skip
    assert {name: found[f"cometbft_{name}"] for name in expected} == expected


def test_lag_peers_queues_and_disk() -> None:
    found = read(metrics())
    expected = {
        "consensus_certified_height": 52, "consensus_lag_blocks": 2, "consensus_lag_seconds": 0.75,
        "price_age_seconds": 1.5, "consensus_peer_height{1}": 51, "p2p_peer_round_trip_seconds{3}": 0.0009,
        "queue{tree}": 3, "queue{votes}": 9, "storage_bytes{log}": 1_000, "storage_bytes{history}": 2_000,
        "storage_bytes{store}": 3_000, "storage_store_used_bytes": 2_500, "storage_lowest_block": 20,
        "storage_lowest_header": 3, "storage_checkpoint_height": 45, "p2p_peer_send_bytes_total{observers}": 0,
    }  # fmt: skip
    assert {name: found[f"lockstep_{name}"] for name in expected} == expected
    assert {state for state in STATES if found[f"lockstep_node_state{{{state}}}"]} == {"live"}
    assert found["process_resident_memory_bytes"] > 0
    assert "lockstep_consensus_peer_height{2}" not in found, "a peer that is gone says nothing"


def test_progress_of_a_fetch() -> None:
    found = read(metrics(msgspec.structs.replace(STATUS, state="syncing", sync=SYNC)))
    expected = {
        "statesync_syncing": 1, "blocksync_syncing": 0, "statesync_snapshot_height": 512,
        "statesync_snapshot_chunk": 5 << 10, "statesync_snapshot_chunks_total": 20 << 10, "sync_done": 5 << 20,
        "sync_total": 20 << 20, "sync_per_second": 1_000_000, "sync_seconds_left": 15, "sync_peer_score{1}": 80,
        "sync_peer_bytes_per_second{1}": 900_000, "sync_peer_stalls{1}": 1,
    }  # fmt: skip
    assert {name: found[f"lockstep_{name}"] for name in expected} == expected
    assert [found[f"lockstep_sync_phase{{{phase}}}"] for phase in PHASES] == [0, 0, 1, 0]
    assert "lockstep_statesync_snapshot_height" not in read(metrics(msgspec.structs.replace(STATUS, sync=None)))


def test_replay_counts_as_blocksync() -> None:
    sync = SyncProgress("replay", 50, 0, 900, 300, -1, ())
    found = read(metrics(msgspec.structs.replace(STATUS, sync=sync)))
    assert found["lockstep_blocksync_syncing"] == 1 and found["lockstep_sync_total"] == 900
    assert "lockstep_sync_seconds_left" not in found


def test_histograms_of_execution_and_of_blocks() -> None:
    made = metrics()
    for milliseconds in (0.5, 3, 30):
        made.executed(milliseconds / 1_000)
    for _ in range(3):
        made.committed()
    found = read(made)
    assert found["lockstep_state_block_processing_time_count"] == 3
    assert found["lockstep_state_block_processing_time_bucket{5.0}"] == 2
    assert found["lockstep_consensus_block_interval_seconds_count"] == 2


def test_a_node_that_has_stopped_still_answers() -> None:
    made = metrics(None)
    assert "lockstep_consensus_height" not in read(made)
    assert made.status() == (False, b'{"state":"stopped"}')


@contextmanager
def serving(made: Metrics) -> Iterator[MetricsServer]:
    server = MetricsServer("127.0.0.1:0", made)
    try:
        yield server
    finally:
        server._socket.close()


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /metrics HTTP/1.1", 200), (b"GET /metrics?x=1 HTTP/1.0", 200), (b"HEAD /metrics HTTP/1.1", 200),
        (b"GET /status HTTP/1.1", 200), (b"GET /health HTTP/1.1", 200), (b"GET / HTTP/1.1", 404),
        (b"POST /metrics HTTP/1.1", 405), (b"\x16\x03\x01 hello", 400),
    ],
)  # fmt: skip
def test_answers(request_line: bytes, status: int) -> None:
    with serving(metrics()) as server:
        answer = server.answer(request_line + b"\r\nHost: x\r\n\r\n")
    head, body = answer.split(b"\r\n\r\n", 1)
    assert head.startswith(f"HTTP/1.1 {status} ".encode()) and b"Connection: close" in head
    assert bool(body) == (not request_line.startswith(b"HEAD"))
    if body:
        assert f"Content-Length: {len(body)}".encode() in head


def test_health_is_what_the_node_says() -> None:
    with serving(metrics(msgspec.structs.replace(STATUS, state="stalled"))) as server:
        answer = server.answer(b"GET /health HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 503 ")
    document = json.loads(answer.split(b"\r\n\r\n", 1)[1])
    assert document["state"] == "stalled" and document["state_root"] == "11" * 32
    assert document["storage"]["retention"] == "pruned" and document["peers"][0]["rtt_us"] == 2_500


def test_over_a_socket_and_within_bounds() -> None:
    async def main() -> None:
        server = MetricsServer("127.0.0.1:0", metrics())
        await server.start()
        try:
            assert b"lockstep_consensus_height 50.0" in await ask(server.port, b"GET /metrics HTTP/1.1\r\n\r\n")
            assert await ask(server.port, b"GET /" + b"x" * 2 * REQUEST_BYTES_MAX + b"\r\n\r\n") == b""
            silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(CONNECTIONS_MAX)]
            assert await ask(server.port, b"GET /metrics HTTP/1.1\r\n\r\n") == b"", "too many at once"
            for _, writer in silent:
                writer.close()
            await until(lambda: server._connections == 0)
            assert await ask(server.port, b"GET /metrics HTTP/1.1\r\n\r\n")
        finally:
            await server.close()

    run(main)
