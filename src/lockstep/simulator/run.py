"""One run of one seed: a world by plan, a safety phase, a liveness phase, the checkers, and what is reported."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from lockstep.base import keys, marks
from lockstep.base.errors import StorageFailed
from lockstep.log.files import Files
from lockstep.log.log import open_log
from lockstep.simulator.byzantine import BEHAVIOURS
from lockstep.simulator.chance import stream
from lockstep.simulator.checkers import check_all
from lockstep.simulator.checkers.convergence import NEW_BLOCKS_MIN, fresh_blocks
from lockstep.simulator.history import History, Phase, Violation
from lockstep.simulator.latency import load
from lockstep.simulator.light_follower import LightFollower
from lockstep.simulator.plain_lane import PlainLanes
from lockstep.simulator.plan import SECOND, TWINS, Plan
from lockstep.simulator.saboteur import Saboteur
from lockstep.simulator.simulated_node import SimulatedNode
from lockstep.simulator.traders import Traders
from lockstep.simulator.venue_setup import FEED, small_genesis, validator_keys
from lockstep.simulator.world import START_US, Stuck, World
from lockstep.venue.schema import TABLES
from lockstep.wire.block import decode_header

COMMANDS_MIN: Final = 20
"""With fewer commands final, a run shows nothing."""
CONVERGENCE_BLOCKS: Final = 5
CONVERGENCE_DELTAS: Final = 240
"""The liveness phase may take so many times Delta, and `CONVERGENCE_US` on top."""
CONVERGENCE_US: Final = 20 * SECOND
_TICK_US: Final = 50_000
_SAMPLE_US: Final = 200_000
_SLICE_US: Final = 100_000
_RESTART_US: Final = 300_000


@dataclass(slots=True)
class Result:
    """What one run gave."""

    plan: Plan
    history: History
    audit: bytes
    events: int
    virtual_us: int
    wall_seconds: float
    faults: dict[str, int]
    final_height: int
    commands_committed: int
    violations: list[Violation]
    latencies: str
    """Which table, and whether it was measured: with another one a seed is another run."""
    marks: dict[str, int] = field(default_factory=dict)

    @property
    def is_void(self) -> bool:
        """Nothing was tested: no fault fired, or hardly a command got through."""
        return not self.violations and (not self.faults or self.commands_committed < COMMANDS_MIN)

    def as_json(self) -> dict[str, Any]:
        """One object."""
        return {
            "seed": self.plan.seed,
            "profile": self.plan.profile,
            "audit_hash": self.audit.hex(),
            "latencies": self.latencies,
            "virtual_seconds": round(self.virtual_us / SECOND, 3),
            "events": self.events,
            "events_per_second": round(self.events / max(self.wall_seconds, 1e-9)),
            "faults": dict(sorted(self.faults.items())),
            "final_height": self.final_height,
            "commands_committed": self.commands_committed,
            "violations": [{"name": v.name, "text": v.text, "at_us": v.at_us} for v in self.violations],
            "phase_results": [
                {"name": p.name, "seconds": (p.to_us - p.from_us) / SECOND, "passed": p.passed, "detail": p.detail}
                for p in self.history.phases
            ],
            "marks": dict(sorted(self.marks.items())),
            "void": self.is_void,
        }


class Run:
    """A world, whoever disturbs it, and whoever trades on it."""

    def __init__(self, plan: Plan, prepare: Callable[[World], None] = lambda world: None) -> None:
        """`prepare` may attach observers before anything happens."""
        keys.remember_checks()
        self.plan = plan
        self.world = world = self._make_world()
        self.saboteur = Saboteur(world, plan)
        self.traders = Traders(world, plan.traders, plan.pause_us)
        self.violations: list[Violation] = []
        self.light = [LightFollower(world, number) for number in range(plan.light_clients)]
        world.on_stopped = self._stopped
        prepare(world)

    def _make_world(self) -> World:
        plan = self.plan
        genesis = small_genesis(
            plan.stakes, plan.traders, START_US // 1000, delta_ms=plan.delta_ms, idle_block_ms=plan.idle_block_ms,
            checkpoint_interval_blocks=plan.checkpoint_interval, price_ticks=plan.price_ticks,
            **({} if plan.epoch_blocks is None else {"epoch_blocks": plan.epoch_blocks}),
        )  # fmt: skip
        world = World(genesis, validator_keys(plan.validators), FEED.public, plan.seed)
        table = load(plan.table)
        world.network.use(table)
        self.latencies = f"{table.name}, {table.origin}"
        world.network.streams = plan.streams
        world.network.bytes_per_second = plan.bytes_per_second
        if plan.plain_again_us:
            world.plain = PlainLanes(world, stream(plan.seed, "plain"), plan.plain_again_us)
        for node, machine in zip(world.nodes, plan.machines, strict=True):
            node.machine = machine
        for node, offset_us, drift_ppm in zip(
            world.nodes, plan.clock_offsets_us, plan.clock_drifts_ppm, strict=True
        ):  # fmt: skip
            node.home.clock.offset_us, node.home.clock.drift_ppm = offset_us, drift_ppm
        for index, name in sorted(plan.behaviours.items()):
            world.nodes[index].history.behaviour = name
            if name == TWINS:
                world.add_twin(index).machine = plan.machines[index]
            else:
                world.nodes[index].behaviour = BEHAVIOURS[name]()
        for node in world.everyone:
            node.history.is_faulty = node.index in plan.faulty
        return world

    # -- the run ----------------------------------------------------------------------------------------

    def execute(self) -> Result:
        """Everything, from start to verdict."""
        counts: dict[str, int] = {}
        marks.collect(counts)
        began = time.perf_counter()
        try:
            self._safety()
            if not self.plan.is_beyond_third:
                self._liveness()
        except Stuck as stuck:
            self.violations.append(Violation("stuck", str(stuck), self.world.now_us))
        finally:
            wall = time.perf_counter() - began
            marks.collect(None)
        world, history = self.world, self.world.history
        history.ended_us = world.now_us
        history.marks = counts
        history.faults = dict(sorted({**self.saboteur.fired, **world.network.fired}.items()))
        for node in world.everyone:
            for kind, count in node.home.disk.fired.items():
                history.faults[kind] = history.faults.get(kind, 0) + count
        for index, name in sorted(self.plan.behaviours.items()):
            history.faults[name] = history.faults.get(name, 0) + 1
            assert world.nodes[index].history.is_faulty
        self._collect()
        for client in self.light:
            self.violations += client.verdict()
        violations = [*self.violations, *check_all(history)]
        tallest = max((n for n in history.honest), key=lambda n: len(n.finals), default=history.nodes[0])
        commands = sum(decode_header(final.header).commands for final in tallest.finals.values())
        return Result(
            self.plan, history, world.audit, world.events, world.now_us - history.started_us, wall, history.faults,
            max(tallest.finals, default=0), commands, violations, self.latencies, counts,
        )  # fmt: skip

    def _safety(self) -> None:
        world = self.world
        world.start(self.plan.joining)
        self.saboteur.begin()
        for client in self.light:
            client.begin()
        self.traders.begin()
        self._sample()
        if world.twins or self.plan.behaviours:
            self._tick()
        world.run(self.plan.seconds * SECOND)
        world.history.phases.append(Phase("safety", world.history.started_us, world.now_us))

    def _liveness(self) -> None:
        world, plan = self.world, self.plan
        healed = plan.healed
        self.saboteur.heal()
        self.traders.reachable(healed)
        from_us = world.now_us
        bound_us = CONVERGENCE_US + CONVERGENCE_DELTAS * plan.delta_ms * 1_000
        target = max((max(n.history.finals, default=0) for n in world.nodes), default=0) + CONVERGENCE_BLOCKS
        while world.now_us < from_us + bound_us:
            world.run(_SLICE_US)
            if world.now_us >= from_us + SECOND:
                self.traders.is_open = False
                if self._lagging(target, from_us) == "":
                    break
        detail = self._lagging(target, from_us)
        world.history.phases.append(Phase("liveness", from_us, world.now_us, healed, not detail, detail))

    def _lagging(self, target: int, from_us: int) -> str:
        """What has not converged yet; empty when everything has."""
        nodes = [self.world.nodes[index] for index in (*self.plan.healed, *self.plan.following)]
        for node in nodes:
            if not node.is_up or node.replica.halted:
                return f"validator {node.index} is not up: {node.history.stopped}"
        heights = [node.replica.final.height for node in nodes]
        if min(heights) < target:
            return f"final heights {heights}, wanted {target}"
        if max(heights) - min(heights) > 2:
            return f"final heights {heights} are apart"
        if self.traders.pending:
            return f"{self.traders.pending} clients wait for a fate"
        for node in nodes[: len(self.plan.healed)]:  # one that fetched a state has yet to show that it goes on from it
            fresh = fresh_blocks(node.history, from_us, self.world.now_us)
            if fresh < NEW_BLOCKS_MIN and not node.history.is_faulty:
                return f"only {fresh} new blocks are final at validator {node.index}"
        return ""

    # -- things that go on ------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Twins' rounds change, and behaviours may speak."""
        world = self.world
        random = world.twins[0].random if world.twins else None
        if random is not None and world.events and random.randrange(4) == 0:
            world.split.clear()
            for twin in world.twins:
                for other in world.nodes:
                    hidden = random.randrange(5)
                    if other.index == twin.index or hidden > 3:
                        continue
                    instance = twin.instance if hidden % 2 else world.nodes[twin.index].instance
                    world.split[(instance, other.instance)] = world.split[(other.instance, instance)] = None
        for node in world.nodes:
            if node.behaviour is not None and node.is_up:
                for peer, leaving in node.behaviour.tick(node, world.now_us):
                    node.say(peer, leaving)
        world.call(_TICK_US, self._tick)

    def _sample(self) -> None:
        """How much every queue holds, now and then."""
        for node in self.world.nodes:
            if node.is_up:
                most = node.history.queues_max
                for name, held in node.queues().items():
                    if held > most.get(name, 0):
                        most[name] = held
        self.world.call(_SAMPLE_US, self._sample)

    # -- what ends -------------------------------------------------------------------------------------

    def _stopped(self, node: SimulatedNode, text: str, error: Exception | None) -> None:
        """A node ended by itself: right for a disk that failed, wrong for anything else of an honest node."""
        self.saboteur.count("node-stopped")
        if isinstance(error, StorageFailed):
            if isinstance(error.__cause__, OSError):
                self.saboteur.start_later(node, _RESTART_US)
            elif not node.history.is_faulty:
                text = f"validator {node.index} refused its own disk: {text}"
                self.violations.append(Violation("storage", text, self.world.now_us))
        elif not node.history.is_faulty and not self.plan.is_beyond_third:
            where = "" if error is None else "".join(traceback.format_exception(error)[-4:])
            name = "halted" if error is None else "failed"
            text = f"validator {node.index}: {text} {where}".strip()
            self.violations.append(Violation(name, text, self.world.now_us))

    def _collect(self) -> None:
        """The state of every node at the end."""
        for node in self.world.everyone:
            history = node.history
            history.is_up_at_end = node.is_up and not node.replica.halted
            history.log_bytes_at_end = node.home.disk.used_bytes
            if node.is_up:
                history.final_height_at_end = node.replica.final.height
                history.queues_at_end = node.queues()
                venue = node.executor.venue
                node.executor.drop_speculation()
                history.tables_at_end = {table: venue.rows(table).tobytes() for table in range(TABLES)}
            if not history.is_faulty:
                node.home.disk.calm()
                node.home.disk.kill()
                history.records_at_end = records_of(node.home.disk)


def records_of(files: Files) -> list[bytes]:
    """All records of a log."""
    records: list[bytes] = []
    open_log(files, None, lambda _, payload: records.append(payload))
    return records
