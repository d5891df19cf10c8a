"""Blocks for nodes that don't vote: compact, through an overlay, in simulated networks of 100 and 1,000 nodes.

Nodes are spread over 242 cities with jitter, each with an uplink of 100 Mbit/s. Four of them are validators; each
publishes a bundle of 256 commands four times a second, and four times a second one of them publishes a final block of
the bundles that are 0.5 s old: about the time that finality takes among cities. A node that lacks a bundle fetches it
from who sent the block.
Time is virtual, so figures don't depend on this machine. The latency table is the measured one when it lies beside the
checkout, else a made-up one; the detail says which.
"""

from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from lockstep.base.digest import digest
from lockstep.cli.benches.sessions import say
from lockstep.cli.benches.wan import CalmNetwork
from lockstep.gossip.compact import CompactBlocks, Fetch
from lockstep.gossip.plumtree import Deliver
from lockstep.simulator.latency import load
from lockstep.simulator.overlay import Overlay
from lockstep.wire.block import Header, Payload
from lockstep.wire.certificate import Finalization
from lockstep.wire.codec import encode
from lockstep.wire.gossip import split_keys

_VALIDATORS: Final = 4
_BUNDLE_BYTES: Final = 10_400
_PERIOD_US: Final = 250_000
_AGE_PERIODS: Final = 2
_WARM_UP_PERIODS: Final = 20
_SETTLE_US: Final = 3_000_000
_MESSAGE_BYTES: Final = 12
"""About what a fetch or its answer has beside digests and bundles."""


@dataclass(slots=True)
class _Measure:
    """What nodes other than the publisher saw of blocks published from some time on."""

    from_us: int = 0
    delays_us: list[int] = field(default_factory=list)
    stale: int = 0
    """Final blocks that came after the next one."""
    fetched: int = 0
    fetch_bytes: int = 0
    whole_bytes: int = 0
    block_bytes: int = 0


class _Network:
    def __init__(self, nodes: int, seed: int) -> None:
        self.table = load("cities")
        self.overlay = Overlay(self.table, nodes, seed)
        self.overlay.on_deliver = self._delivered
        self.measure = _Measure()
        self._random = Random(f"bench-overlay-{seed}")
        self._recent: deque[list[bytes]] = deque()
        self._bundles: list[dict[bytes, bytes]] = [{} for _ in range(nodes)]
        self._compact = [CompactBlocks(bundles.get) for bundles in self._bundles]
        self._newest = [0] * nodes
        self._blocks: dict[bytes, tuple[int, int, list[bytes]]] = {}
        """Key → (height, when published, bundle digests)."""

    def period(self, height: int) -> None:
        """Publish what one period brings."""
        overlay = self.overlay
        raws = [self._random.randbytes(_BUNDLE_BYTES) for _ in range(_VALIDATORS)]
        self._recent.append([digest(raw) for raw in raws])
        for index, raw in enumerate(raws):
            overlay.publish(index, raw)
        if len(self._recent) > _AGE_PERIODS:
            digests = self._recent.popleft()
            body = _block(height, digests)
            self._blocks[digest(body)] = (height, overlay.now_us, digests)
            overlay.publish(height % _VALIDATORS, body)
        overlay.run(_PERIOD_US)

    def _delivered(self, index: int, delivered: Deliver) -> None:
        block = self._blocks.get(delivered.key)
        if block is None:
            self._bundles[index][delivered.key] = delivered.body
            self._compact[index].bundle(delivered.body)
            return
        if delivered.peer is None:
            return
        height, published_us, digests = block
        measure = self.measure
        if published_us < measure.from_us:
            return
        measure.delays_us.append(self.overlay.now_us - published_us)
        measure.stale += height < self._newest[index]
        self._newest[index] = max(self._newest[index], height)
        measure.block_bytes += len(delivered.body)
        measure.whole_bytes += len(delivered.body) + _BUNDLE_BYTES * len(digests)
        for effect in self._compact[index].block(delivered.key, digests, delivered.peer, self.overlay.now_us):
            if isinstance(effect, Fetch):
                measure.fetched += len(effect.digests)
                measure.fetch_bytes += 2 * _MESSAGE_BYTES + len(effect.digests) * (32 + _BUNDLE_BYTES)


def _block(height: int, digests: list[bytes]) -> bytes:
    """A final block without its bundles, as bytes of the right size."""
    payload = Payload(b"".join(digests), tuple(bytes(100) for _ in range(_VALIDATORS)), ())
    header = Header(
        bytes(32), height, height, height - 1, 0, height % _VALIDATORS, len(digests), 256 * len(digests), bytes(32),
        digest(payload.encode()),
    )  # fmt: skip
    certificate = Finalization(height, height, header.digest, bytes(32), bytes(32), b"\x07", bytes(192))
    assert split_keys(payload.bundles) == digests
    return header.encode() + payload.encode() + encode(certificate)


def _run(nodes: int, periods: int) -> dict[str, Any]:
    say(f"{nodes} nodes")
    network = _Network(nodes, seed=1)
    for height in range(1, _WARM_UP_PERIODS + 1):
        network.period(height)
    network.measure = measure = _Measure(network.overlay.now_us)
    overlay = network.overlay
    sent = [node.bytes_sent for node in overlay.nodes]
    duplicates = sum(node.tree.duplicates for node in overlay.nodes)
    deliveries = sum(len(node.arrived_us) for node in overlay.nodes)
    for height in range(_WARM_UP_PERIODS + 1, _WARM_UP_PERIODS + periods + 1):
        network.period(height)
    overlay.run(_SETTLE_US)
    upload = [node.bytes_sent - before for node, before in zip(overlay.nodes, sent, strict=True)]
    published = periods * (_VALIDATORS * _BUNDLE_BYTES + measure.block_bytes // max(1, len(measure.delays_us)))
    delays = sorted(measure.delays_us)
    return {
        "saved_percent": round(100 * (1 - (measure.block_bytes + measure.fetch_bytes) / measure.whole_bytes), 2),
        "bundles_fetched_percent": round(100 * measure.fetched / (_VALIDATORS * len(delays)), 3),
        "block_ms": {"p50": delays[len(delays) // 2] // 1000, "p99": delays[len(delays) * 99 // 100] // 1000},
        "blocks_reached_percent": round(100 * len(delays) / (periods * (nodes - 1)), 3),
        "stale_percent": round(100 * measure.stale / len(delays), 3),
        "duplicates_per_delivery": round(
            (sum(node.tree.duplicates for node in overlay.nodes) - duplicates)
            / (sum(len(node.arrived_us) for node in overlay.nodes) - deliveries), 4,
        ),
        "validator_upload_x": round(sum(upload[:_VALIDATORS]) / _VALIDATORS / published, 2),
        "largest_upload_x": round(max(upload) / published, 2),
        "fan_out": _fan_out(overlay),
    }  # fmt: skip


def _fan_out(overlay: Overlay) -> dict[str, float]:
    """Links of a node, and along how many of them it pushes a body on, at the end: mean and most, over nodes and trees.
    In a tree of n nodes it is 1 - 1/n on average, not counting the link that a body comes along."""
    pushes = [
        len(node.tree.eager(tree)) - (index != tree)
        for index, node in enumerate(overlay.nodes)
        for tree in range(_VALIDATORS)
    ]
    links = [len(node.links) for node in overlay.nodes]
    return {
        "links": round(sum(links) / len(links), 2),
        "mean": round(sum(pushes) / len(pushes), 2),
        "most": max(pushes),
    }


def _stale_proposals(seconds: int = 30) -> dict[str, float]:
    """Views of the four validators, in the same table, that brought no final block: proposals that were orphaned, or
    came too late. Nodes that don't vote are spread final blocks only, so none of these reaches them."""
    say(f"proposals of {_VALIDATORS} validators, {seconds} virtual seconds")
    calm = CalmNetwork(load("cities"), _VALIDATORS, seed=1)
    calm.world.run(3_000_000)
    begin = calm.world.nodes[0].replica.final
    calm.world.run(seconds * 1_000_000)
    end = calm.world.nodes[0].replica.final
    views = end.view - begin.view
    return {"views": views, "stale_percent": round(100 * (views - (end.height - begin.height)) / views, 3)}


def compact_blocks(periods: int = 80) -> dict[str, Any]:
    """Bytes that compact blocks save, in percent of whole blocks, among 100 nodes; everything for 1,000 in the detail.

    `…_upload_x`: bytes that a validator, or the busiest node, sends for each byte published; sending everything to
    everybody by itself a validator would send (nodes - 1) x its own quarter."""
    small, large = _run(100, periods), _run(1_000, periods // 4)
    detail = {
        "nodes_100": small,
        "nodes_1000": large,
        "proposals": _stale_proposals(),
        "latencies": load("cities").origin,
    }
    return {"value": small["saved_percent"], "unit": "%", "detail": detail}
