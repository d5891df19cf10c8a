"""Finality across the world, and after a partition, in simulated networks with the latencies of AWS regions.

The replicas are the production ones; time is virtual, so figures don't depend on this machine. A sync takes 0.3 ms and
an execution 0.5 ms. The latency table is the measured one when it lies beside the checkout, else a made-up one; the
detail says which.
"""

from typing import Any, Final

import numpy as np

from lockstep.cli.benches.sessions import say
from lockstep.simulator.history import Final as FinalBlock
from lockstep.simulator.latency import Table, load
from lockstep.simulator.lower_bound import lower_bound_us
from lockstep.simulator.simulated_node import SimulatedNode
from lockstep.simulator.venue_setup import FEED, INSTRUMENTS, PRICE, small_genesis, trader_key, validator_keys
from lockstep.simulator.world import START_US, World
from lockstep.wire.block import decode_header
from lockstep.wire.bundle import seal_bundle
from lockstep.wire.client import Submit, seal_price_report
from lockstep.wire.command import COMMAND, Kind

_TRADERS: Final = 8
_DELTA_MS: Final = 250
_SECOND: Final = 1_000_000
_BUNDLE_EVERY_US: Final = 50_000
_PRICES_EVERY_US: Final = 200_000
_REGIONS_OF_SEVEN: Final = (0, 2, 3, 4, 8, 9, 12)
"""N. Virginia, N. California, London, Oregon, Tokyo, Mumbai, Singapore."""
_PARTITION_US: Final = 20 * _SECOND


class CalmNetwork:
    """A network without faults and under light load; it notes when each block became final where."""

    def __init__(self, table: Table, validators: int, seed: int) -> None:
        genesis = small_genesis((1,) * validators, _TRADERS, START_US // 1000, delta_ms=_DELTA_MS)
        self.world = world = World(genesis, validator_keys(validators), FEED.public, seed)
        world.network.use(table)
        world.on_final = self._note
        self.validators = validators
        self.final_us: dict[int, list[int]] = {}
        """Height → when each node made it final, in order."""
        self.proposed_us: dict[int, int] = {}
        self._sequences = [0] * _TRADERS
        self._sent = 0
        world.start()
        self._report()
        self._submit()

    def _note(self, node: SimulatedNode, final: FinalBlock) -> None:
        # The leader stamps a block when it builds it, in whole milliseconds: figures are too long by 0.5 ms.
        self.proposed_us[final.height] = 1000 * decode_header(final.header).time_ms
        self.final_us.setdefault(final.height, []).append(final.at_us)

    def _report(self) -> None:
        prices = (PRICE,) * len(INSTRUMENTS)
        report = seal_price_report(FEED, self.world.genesis.chain_id, self.world.now_us // 1000, prices)
        for node in self.world.nodes:
            node.ask(0, report)
        self.world.call(_PRICES_EVERY_US, self._report)

    def _submit(self) -> None:
        """One resting order by one trader after the other; each has a node of its own."""
        number = self._sent % _TRADERS
        commands = np.zeros(1, COMMAND)
        commands["kind"], commands["price"], commands["size"] = Kind.PLACE, PRICE - 5 - number, 1
        node = self.world.nodes[number % self.validators]
        chain_id, height = self.world.genesis.chain_id, node.replica.final.height
        bundle = seal_bundle(
            trader_key(number), chain_id, number, self._sequences[number], height + 5_000, commands
        )  # fmt: skip
        self._sequences[number] += 1
        self._sent += 1
        node.ask(1, Submit(bundle.raw))
        self.world.call(_BUNDLE_EVERY_US, self._submit)

    def mean_finality_us(self, from_us: int, to_us: int) -> tuple[int, int]:
        """(mean over blocks proposed in that time and over nodes, number of blocks)."""
        delays = [
            final_us - self.proposed_us[height]
            for height, times in self.final_us.items()
            if from_us <= self.proposed_us[height] < to_us and len(times) == self.validators
            for final_us in times
        ]
        return sum(delays) // max(1, len(delays)), len(delays) // self.validators


def wan_finality(seconds: int = 60) -> dict[str, Any]:
    """Mean time from a proposal to finality, over the lower bound of three message delays to a quorum."""
    table = load("aws")
    validators = len(table.places)
    calm = CalmNetwork(table, validators, seed=1)
    say(f"{validators} validators, {seconds} virtual seconds")
    calm.world.run(3 * _SECOND)
    from_us = calm.world.now_us
    calm.world.run(seconds * _SECOND)
    mean_us, blocks = calm.mean_finality_us(from_us, calm.world.now_us - _SECOND)
    bound_us = lower_bound_us(table, (1,) * validators)
    return {
        "value": round(mean_us / bound_us, 4),
        "unit": "x lower bound",
        "detail": {
            "mean_ms": round(mean_us / 1000, 1),
            "lower_bound_ms": round(bound_us / 1000, 1),
            "blocks": blocks,
            "latencies": table.origin,
        },
    }


def partition_recovery(rounds: int = 5) -> dict[str, Any]:
    """Seconds from healing a 20 s partition of 4 | 3 validators to the first block that is final everywhere with
    normal latency, and after which blocks come at the normal rate: the longest of several rounds."""
    table = load("aws").at(_REGIONS_OF_SEVEN)
    details = {}
    for streams in (True, False):
        say("links as TCP connections" if streams else "links that lose messages")
        details[streams] = [_one_partition(table, seed, streams) for seed in range(1, rounds + 1)]
    longest = max(found["seconds"] for each in details.values() for found in each)
    return {
        "value": longest,
        "unit": "s",
        "detail": {
            "seconds_with_connections": [found["seconds"] for found in details[True]],
            "seconds_with_raw_links": [found["seconds"] for found in details[False]],
            "first": details[True][0],
            "latencies": table.origin,
        },
    }


def _one_partition(table: Table, seed: int, streams: bool) -> dict[str, Any]:
    calm = CalmNetwork(table, 7, seed)
    world = calm.world
    world.network.streams = streams
    world.run(10 * _SECOND + seed * 91_000)
    normal_us, blocks = calm.mean_finality_us(START_US + 3 * _SECOND, world.now_us - _SECOND)
    interval_us = 7 * _SECOND // max(1, blocks)
    world.network.partition([0, 1, 2, 3], [4, 5, 6])
    world.run(_PARTITION_US)
    healed_us = world.now_us
    world.network.heal()
    world.run(10 * _SECOND)
    fresh = sorted(h for h, at in calm.proposed_us.items() if at >= healed_us and len(calm.final_us[h]) == 7)
    for height in fresh:
        latency_us = sum(calm.final_us[height]) // 7 - calm.proposed_us[height]
        following = [h for h in fresh if h > height][:5]
        last_us = calm.final_us[following[-1]][0] if len(following) == 5 else world.now_us
        paced = last_us - calm.final_us[height][0] <= 5 * interval_us * 3 // 2
        if latency_us <= normal_us * 3 // 2 and paced:
            return {
                "seconds": round((calm.final_us[height][-1] - healed_us) / _SECOND, 3),
                "latency_ms": round(latency_us / 1000, 1),
                "normal_latency_ms": round(normal_us / 1000, 1),
                "normal_interval_ms": round(interval_us / 1000, 1),
                "interval_ms_after": round((last_us - calm.final_us[height][0]) / 5_000, 1),
            }
    raise AssertionError("the network did not recover within 10 s")
