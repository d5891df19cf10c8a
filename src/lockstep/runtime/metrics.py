"""A node's metrics for Prometheus, by CometBFT's names where it has the same thing (its default prefix is `cometbft`,
ours is an option), and its status as JSON.

Everything is read when somebody asks, from the status that clients get too; only the two histograms are kept up while
the node runs.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lockstep.runtime.connection import Traffic
from lockstep.wire.client import StatusReply, StorageStatus, SyncProgress

STATES: Final = ("syncing", "live", "lagging", "stalled", "halted")
PHASES: Final = ("replay", "reading", "fetching", "installing")
_PROCESSING_MS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 5_000)
_INTERVAL_SECONDS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the figures come from. All are called on the event loop's thread."""

    status: Callable[[], StatusReply | None]
    """None when the node has stopped."""
    queues: Callable[[], dict[str, int]]
    traffic: Callable[[], dict[str, Traffic]]
    """By peer."""


class Metrics:
    """One node's."""

    def __init__(self, prefix: str, sources: Sources) -> None:
        self._registry = CollectorRegistry()
        self._sources = sources
        self._last_final: float | None = None
        self._processing = Histogram(
            "state_block_processing_time", "Time to execute a block, in ms.", namespace=prefix,
            registry=self._registry, buckets=_PROCESSING_MS,
        )  # fmt: skip
        self._interval = Histogram(
            "consensus_block_interval_seconds", "Time between blocks becoming final here.", namespace=prefix,
            registry=self._registry, buckets=_INTERVAL_SECONDS,
        )  # fmt: skip
        self._registry.register(_NodeCollector(prefix, sources))
        ProcessCollector(registry=self._registry)

    def executed(self, seconds: float) -> None:
        """A block took so long. May be called on another thread."""
        self._processing.observe(1_000 * seconds)

    def committed(self) -> None:
        """A block is final here."""
        now = time.monotonic()
        if self._last_final is not None:
            self._interval.observe(now - self._last_final)
        self._last_final = now

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)

    def status(self) -> tuple[bool, bytes]:
        """Whether the node is live, and its status as a JSON document."""
        reply = self._sources.status()
        if reply is None:
            return False, b'{"state":"stopped"}'
        return reply.state == "live", msgspec.json.encode(_named(reply))


def _named(value: Any) -> Any:
    """For JSON: fields by name, bytes in hex."""
    match value:
        case msgspec.Struct():
            return {name: _named(getattr(value, name)) for name in value.__struct_fields__}
        case tuple():
            return [_named(item) for item in value]
        case bytes():
            return value.hex()
        case _:
            return value


class _NodeCollector(Collector):
    """Turns a status into metrics."""

    def __init__(self, prefix: str, sources: Sources) -> None:
        self._prefix = prefix
        self._sources = sources

    def describe(self) -> list[Metric]:
        """Nothing is collected before somebody asks."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All that is read from the status."""
        reply = self._sources.status()
        if reply is None:
            return
        yield from self._consensus(reply)
        yield from self._peers(reply)
        yield from self._sync(reply.sync)
        if reply.storage is not None:
            yield from self._storage(reply.storage)
        yield self._gauge("mempool_size", "Bundles that wait to be ordered.", reply.pool_bundles)
        yield self._gauge("mempool_size_bytes", "Their bytes.", reply.pool_bytes)
        yield self._labelled("queue", "Entries in a table that could grow.", "queue", self._sources.queues())
        yield self._labelled("node_state", "1 for what it is.", "state", {s: int(s == reply.state) for s in STATES})
        yield self._counter("fills", "Trades since the start.", reply.fills)

    def _consensus(self, reply: StatusReply) -> Iterator[Metric]:
        yield self._gauge("consensus_height", "Height of the newest final block.", reply.final_height)
        yield self._gauge("consensus_latest_block_height", "The same.", reply.final_height)
        yield self._gauge("consensus_certified_height", "Highest height with a certificate.", reply.certified_height)
        yield self._gauge("consensus_view", "The view that the engine is in.", reply.view)
        rounds = max(0, reply.view - reply.final_view - 1)
        yield self._gauge("consensus_rounds", "Views since the newest final block, beyond the next.", rounds)
        yield self._gauge("consensus_validators", "How many validators there are.", reply.validators)
        yield self._gauge("consensus_validators_power", "Their stake.", reply.stake)
        yield self._gauge("consensus_byzantine_validators", "Pieces of evidence held.", reply.evidence)
        yield self._gauge("consensus_lag_blocks", "Certified blocks that are not executed here.", reply.lag_blocks)
        yield self._gauge("consensus_lag_seconds", "Age of the newest final block.", reply.lag_ms / 1_000)
        if reply.price_age_ms >= 0:
            yield self._gauge("price_age_seconds", "Age of the newest observation.", reply.price_age_ms / 1_000)
        yield self._counter("consensus_total_txs", "Commands final here since the start.", reply.commands)
        yield self._counter("consensus_total_blocks", "Blocks final here since the start.", reply.blocks)

    def _peers(self, reply: StatusReply) -> Iterator[Metric]:
        connected = [peer for peer in reply.peers if peer.connected]
        yield self._gauge("p2p_peers", "Validators that are connected.", len(connected))
        heights = {str(peer.validator): peer.final_height for peer in connected}
        yield self._labelled("consensus_peer_height", "What a peer says it has.", "peer", heights)
        trips = {str(peer.validator): peer.rtt_us / 1e6 for peer in connected}
        yield self._labelled("p2p_peer_round_trip_seconds", "To a peer and back.", "peer", trips)
        received = CounterMetricFamily(self._name("p2p_peer_receive_bytes"), "From a peer.", labels=["peer"])
        sent = CounterMetricFamily(self._name("p2p_peer_send_bytes"), "To a peer.", labels=["peer"])
        for peer, traffic in self._sources.traffic().items():
            received.add_metric([peer], traffic.bytes_in)
            sent.add_metric([peer], traffic.bytes_out)
        yield received
        yield sent

    def _sync(self, sync: SyncProgress | None) -> Iterator[Metric]:
        phase = "" if sync is None else sync.phase
        is_state = phase in PHASES[1:]
        yield self._gauge("blocksync_syncing", "1 while blocks are replayed from peers.", int(phase == "replay"))
        yield self._gauge("statesync_syncing", "1 while a state is fetched.", int(is_state))
        yield self._labelled("sync_phase", "1 for what is going on.", "phase", {p: int(p == phase) for p in PHASES})
        if sync is None:
            return
        if is_state:
            yield self._gauge("statesync_snapshot_height", "Height of the state that is fetched.", sync.height)
            yield self._gauge("statesync_snapshot_chunk", "Chunks that are here.", sync.done >> 10)
            yield self._gauge("statesync_snapshot_chunks_total", "Chunks known to be needed.", sync.total >> 10)
        yield self._gauge("sync_done", "Blocks or bytes done.", sync.done)
        yield self._gauge("sync_total", "Blocks or bytes in all.", sync.total)
        yield self._gauge("sync_per_second", "Blocks or bytes a second.", sync.per_second)
        if sync.seconds_left >= 0:
            yield self._gauge("sync_seconds_left", "At that rate.", sync.seconds_left)
        scores = {str(peer.validator): peer.score for peer in sync.peers}
        yield self._labelled("sync_peer_score", "0 (barred) to 100.", "peer", scores)
        rates = {str(peer.validator): peer.bytes_per_second for peer in sync.peers}
        yield self._labelled("sync_peer_bytes_per_second", "What a peer gives.", "peer", rates)
        stalls = {str(peer.validator): peer.stalls for peer in sync.peers}
        yield self._labelled("sync_peer_stalls", "Requests that it did not answer in time.", "peer", stalls)

    def _storage(self, storage: StorageStatus) -> Iterator[Metric]:
        kinds = {"log": storage.log_bytes, "history": storage.history_bytes, "store": storage.store_bytes}
        yield self._labelled("storage_bytes", "On the disk.", "kind", kinds)
        yield self._gauge("storage_store_used_bytes", "Of the store, in use.", storage.store_bytes_used)
        yield self._gauge("storage_lowest_block", "Blocks are here from this height on.", storage.lowest_block)
        yield self._gauge("storage_lowest_header", "Certified headers, from this one on.", storage.lowest_header)
        if storage.checkpoints:
            yield self._gauge("storage_checkpoint_height", "The newest checkpoint.", storage.checkpoints[-1])

    def _name(self, name: str) -> str:
        return f"{self._prefix}_{name}"

    def _gauge(self, name: str, what: str, value: float) -> Metric:
        return GaugeMetricFamily(self._name(name), what, value=value)

    def _counter(self, name: str, what: str, value: float) -> Metric:
        return CounterMetricFamily(self._name(name), what, value=value)

    def _labelled(self, name: str, what: str, label: str, values: "dict[str, int] | dict[str, float]") -> Metric:
        family = GaugeMetricFamily(self._name(name), what, labels=[label])
        for key, value in values.items():
            family.add_metric([key], value)
        return family
