"""The benchmarks, one file each: a function that measures and returns value, unit and detail."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure has to reach."""

    limit: float
    better: Better

    def ratio(self, value: float) -> float:
        """How many times better than the bar; below 1 it is missed."""
        if self.better == "higher":
            return value / self.limit
        return self.limit / value if value > 0 else float("inf")


@dataclass(frozen=True, slots=True)
class Bench:
    """A benchmark: where its function is, and the bars for its value and for figures in its detail."""

    module: str
    function: str
    what: str
    bar: Bar
    more: dict[str, Bar] = field(default_factory=dict)

    def run(self) -> dict[str, Any]:
        """Measure. Imported only now: most need Numba or start processes."""
        measure: Callable[[], dict[str, Any]] = getattr(import_module(self.module), self.function)
        return measure()


_HERE = "lockstep.cli.benches"

BENCHES: dict[str, Bench] = {
    "engine": Bench(f"{_HERE}.engine", "engine", "engine alone, mixed flow, one core", Bar(3_000_000, "higher")),
    "commitment": Bench(
        f"{_HERE}.ledger", "commitment", "chunk-tree update, 10,000 scattered chunks of 128 MiB",
        Bar(1_000_000, "higher"),
    ),
    "hashing": Bench(f"{_HERE}.ledger", "hashing", "whole-tree hashing", Bar(1.2, "higher")),
    "throughput": Bench(
        f"{_HERE}.throughput", "throughput", "committed, 4 validators, bundles of 256, fsync, 20 s",
        Bar(200_000, "higher"),
    ),
    "latency": Bench(
        f"{_HERE}.latency", "latency", "finality p50 at 1,000 commands/s", Bar(15, "lower"), {"p99": Bar(60, "lower")}
    ),
    "dead-validator": Bench(
        f"{_HERE}.dead_validator", "dead_validator", "throughput with one of four dead, of the healthy figure",
        Bar(0.8, "higher"), {"p50_ratio": Bar(2, "lower")},
    ),
    "restart": Bench(
        f"{_HERE}.restart", "restart", "killed validator with 100,000 blocks votes again", Bar(5, "lower")
    ),
    "cold-start": Bench(
        f"{_HERE}.cold_start", "cold_start", "devnet to its first final block, kernels cached", Bar(5, "lower"),
        {"uncached": Bar(60, "lower")},
    ),
    "light-client": Bench(
        f"{_HERE}.light_client", "light_client", "head trusted after 10,000 missed blocks", Bar(50, "lower"),
        {"certificates": Bar(2, "lower")},
    ),
    "simulator-speed": Bench(
        f"{_HERE}.simulator", "simulator_speed", "simulated events, 4 replicas, real engine, one core",
        Bar(20_000, "higher"), {"times_real_time": Bar(50, "higher")},
    ),
    "wan-finality": Bench(
        f"{_HERE}.wan", "wan_finality", "finality over its lower bound, 13 regions, simulated", Bar(1.15, "lower")
    ),
    "partition-recovery": Bench(
        f"{_HERE}.wan", "partition_recovery", "normal again after a partition of 20 s, simulated", Bar(1.0, "lower")
    ),
    "compact-blocks": Bench(
        f"{_HERE}.overlay", "compact_blocks", "bytes saved by compact blocks, 100 nodes, simulated", Bar(95, "higher")
    ),
    "observers": Bench(
        f"{_HERE}.observers", "observers", "a validator's bytes to 6 observers over those to 2, real processes",
        Bar(1.5, "lower"),
    ),
    "snapshot-sync": Bench(
        f"{_HERE}.snapshot_sync", "snapshot_sync", "1 GiB from 3 peers, of a plain loopback copy's speed",
        Bar(0.4, "higher"),
    ),
    "snapshot-sync-hostile": Bench(
        f"{_HERE}.snapshot_sync", "snapshot_sync_hostile", "the same with one corrupting and one stalling, of the time",
        Bar(1.5, "lower"),
    ),
    "difference-sync": Bench(
        f"{_HERE}.snapshot_sync", "difference_sync", "1 GiB, 1 % of chunks changed: bytes, of the changed ones",
        Bar(1.12, "lower"), {"times_as_long": Bar(2, "lower"), "times_as_long_in_runs": Bar(2, "lower")},
    ),
    "retention": Bench(
        f"{_HERE}.retention", "retention", "disk growth of a pruned home under load, of an archive's", Bar(0.2, "lower")
    ),
    "catch-up": Bench(
        f"{_HERE}.catch_up", "catch_up", "emptied validator, 10,000 blocks behind, full load: of the block rate",
        Bar(5, "higher"),
    ),
}  # fmt: skip
"""By name, in the order in which `make bench` runs them."""
