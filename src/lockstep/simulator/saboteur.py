"""Carries out a plan's faults on a world, and heals what must be healed for the liveness phase.

Every kind of fault is a method of the same name. It begins the fault and, where it lasts, schedules the end of it.
`fired` counts faults that did something: a crash of a node that is down anyway does not count.
"""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

from lockstep.node.events import PeerSaid
from lockstep.node.replica import Replica
from lockstep.simulator.chance import chance, stream
from lockstep.simulator.disk import Survival
from lockstep.simulator.fault import Fault
from lockstep.simulator.plan import SECOND, Plan
from lockstep.simulator.set_change import draw_change
from lockstep.simulator.simulated_node import Home, SimulatedNode
from lockstep.simulator.standstill import Standstill
from lockstep.simulator.world import World
from lockstep.venue.schema import ACCOUNTS
from lockstep.wire.message import SetChangeBody

_FLAP_US: Final = 150_000
_SURVIVALS: Final = (Survival.PREFIX, Survival.SUBSET, Survival.SUBSET, Survival.NONE)


class Saboteur:
    """Makes things go wrong."""

    def __init__(self, world: World, plan: Plan) -> None:
        self._world = world
        self._plan = plan
        self.fired: dict[str, int] = {}
        self.on_fault: Callable[[str], None] = lambda text: None
        self._is_over = False
        """The safety phase: nothing new begins, and healed nodes are left alone."""
        self._cuts: dict[int, list[tuple[int, int]]] = {}
        self._random = stream(plan.seed, "faults")

    def begin(self) -> None:
        """Schedule everything."""
        for number, fault in enumerate(self._plan.faults):
            self._world.call(fault.at_us, self._strike, number, fault)
        for index, delay_us in sorted(self._plan.joining.items()):
            self._world.call(delay_us, self._join, self._world.nodes[index])

    def _join(self, node: SimulatedNode) -> None:
        """A node that was not there before starts from an empty home."""
        if not self._is_over:
            self.count("join")
            node.start()

    def _strike(self, number: int, fault: Fault) -> None:
        if not self._is_over:
            # A stream for each fault: leaving one out (`--shrink`) must not change what the others do.
            random = Random(fault.amount)
            self.on_fault(f"{number}: {fault.kind}, node {fault.node}, {fault.length_us / 1e6:.3f} s")
            getattr(self, f"_{fault.kind}")(self._world.nodes[fault.node], fault, random, number)

    def count(self, kind: str) -> None:
        """A fault did something."""
        self.fired[kind] = self.fired.get(kind, 0) + 1

    # -- network --------------------------------------------------------------------------------------

    def _loss(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        network = self._world.network
        network.loss_permille = random.choice((5, 30, 100) if not network.streams else (1, 3, 10))
        self._world.call(fault.length_us, setattr, network, "loss_permille", 0)

    def _duplicate(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        self._world.network.duplicate_permille = random.choice((10, 100, 300))
        self._world.call(fault.length_us, setattr, self._world.network, "duplicate_permille", 0)

    def _reorder(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        network = self._world.network
        network.reorder_permille = random.choice((10, 100, 400))
        network.reorder_us = random.choice((5_000, 50_000, 400_000))
        self._world.call(fault.length_us, setattr, network, "reorder_permille", 0)

    def _partition(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        count = self._plan.validators
        side = [random.randrange(2) for _ in range(count)]
        self._cut(number, [(a, b) for a in range(count) for b in range(count) if side[a] != side[b]], fault)

    def _one_way(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        others = [v for v in range(self._plan.validators) if v != node.index and chance(random, 2, 3)]
        outward = chance(random, 1, 2)
        self._cut(number, [(node.index, v) if outward else (v, node.index) for v in others], fault)

    def _flap(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        """Cut off and back again, many times."""
        links = [(a, b) for v in range(self._plan.validators) if v != node.index
                 for a, b in ((v, node.index), (node.index, v))]  # fmt: skip
        for at_us in range(0, fault.length_us, 2 * _FLAP_US):
            self._world.call(at_us, self._cut, number, links, Fault(0, "flap", node.index, _FLAP_US, 0))

    def _cut(self, number: int, links: list[tuple[int, int]], fault: Fault) -> None:
        if self._is_over or not links:
            return
        self.count(fault.kind)
        self._cuts[number] = links
        self._apply_cuts()
        self._world.call(fault.length_us, self._uncut, number)

    def _uncut(self, number: int) -> None:
        """A link is open when nothing cuts it any more. What is cut when the liveness phase begins stays cut."""
        if not self._is_over and self._cuts.pop(number, None) is not None:
            self._apply_cuts()

    def _apply_cuts(self) -> None:
        self._world.network.heal()
        for links in self._cuts.values():
            for link in links:
                self._world.network.close(*link)

    def _slow(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        self.count("slow")
        self._world.network.slow_us[node.index] = random.choice((1, 2, 6)) * self._plan.delta_ms * 500
        self._world.call(fault.length_us, self._recover, self._world.network.slow_us, node)

    def _deaf(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        self._world.network.deaf[node.index] = None
        self._world.call(fault.length_us, self._recover, self._world.network.deaf, node)

    def _recover(self, condition: dict[int, object], node: SimulatedNode) -> None:
        if not self._is_over:
            condition.pop(node.index, None)

    def _plain_spoil(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        self._meddle("spoil_permille", fault, random)

    def _plain_cut(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        self._meddle("cut_permille", fault, random)

    def _plain_hold(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        self._meddle("hold_permille", fault, random)

    def _meddle(self, what: str, fault: Fault, random: Random) -> None:
        """Somebody is on the way of all plain connections, also while a quorum is well."""
        assert self._world.plain is not None
        setattr(self._world.plain, what, random.choice((200, 500, 1_000)))
        self._world.call(fault.length_us, setattr, self._world.plain, what, 0)

    # -- processes --------------------------------------------------------------------------------------

    def _kill(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        self._down(node, fault, None)

    def _power(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        self._down(node, fault, random.choice(_SURVIVALS))

    def _power_all(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        for other in self._world.everyone:
            self._down(other, fault, random.choice(_SURVIVALS))

    def _down(self, node: SimulatedNode, fault: Fault, survival: Survival | None) -> None:
        if node.is_up:
            self.count(fault.kind)
            node.crash(survival if node.machine.is_synced else None)
            self.start_later(node, fault.length_us)

    def _crash_in_step(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        if node.is_up:
            self.count(fault.kind)
            node.crash_after_effects = random.randrange(12)
            self.start_later(node, fault.length_us)

    def _pause(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        if node.is_up and not node.is_paused:
            self.count(fault.kind)
            node.pause()
            self._world.call(fault.length_us, self._resume, node)

    def _resume(self, node: SimulatedNode) -> None:
        if not self._is_over:
            node.resume()

    def _away(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        """Down for long enough to fall far behind."""
        self._down(node, fault, random.choice((None, *_SURVIVALS)))

    def _crash_syncing(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        """Watch all nodes for a while, and let those that catch up die now and then, at any step of it."""
        end_us = self._world.now_us + fault.length_us
        self._watch(random, end_us, random.randint(1, 4))

    def _watch(self, random: Random, end_us: int, crashes: int) -> None:
        world = self._world
        if self._is_over or world.now_us > end_us or not crashes:
            return
        for node in world.nodes:
            if self._is_syncing(node) and chance(random, 1, 4):
                self.count("crash_syncing")
                crashes -= 1
                node.crash_after_effects = random.randrange(24)
                self.start_later(node, random.randint(20_000, 800_000))
                break
        world.call(random.randint(500, 60_000), self._watch, random, end_us, crashes)

    def _standstill(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        """Watch all nodes for a while: one that catches up is needed by the others meanwhile."""
        world, cut = self._world, partial(self._cut, number)
        end_us = min(world.now_us + fault.length_us, world.history.started_us + self._plan.seconds * SECOND)
        Standstill(world, self._plan, random, end_us, self._is_syncing, cut, self.count).watch()

    @staticmethod
    def _is_syncing(node: SimulatedNode) -> bool:
        replica = node.replica if node.is_up and not node.is_paused else None
        return isinstance(replica, Replica) and replica.is_catching_up

    def _prune(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        """Blocks below the checkpoint are removed, at one node or at all."""
        nodes = self._world.nodes if chance(random, 2, 3) else [node]
        for pruned in nodes:
            if pruned.home.store.prune(random.choice((0, 0, 16, 64))):
                self.count("prune")

    def start_later(self, node: SimulatedNode, delay_us: int) -> None:
        """The operator, or the service manager, starts the node again."""
        self._world.call(delay_us, self._start, node)

    def _start(self, node: SimulatedNode) -> None:
        if not self._is_over and not node.is_up:
            node.start()

    # -- clocks -----------------------------------------------------------------------------------------

    def _set_change(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        """Operators hand in an approved change of validators, at every node that is up."""
        up = [n for n in self._world.nodes if n.is_up and isinstance(n.replica, Replica) and not n.history.is_faulty]
        if not up:
            return
        roster = max((n.replica.roster for n in up), key=lambda roster: (roster.epoch, roster.pending is not None))
        raw = draw_change(self._plan, self._world.keys, roster, random)
        if raw is None:
            return
        self.count(fault.kind)
        for one in up:
            one.take(PeerSaid((one.index + 1) % self._plan.validators, SetChangeBody(raw)))

    def _clock_step(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        """The wall clock jumps; the next process sees it."""
        self.count(fault.kind)
        node.home.clock.offset_us = random.randint(-200_000, 200_000)

    def _clock_drift(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        self.count(fault.kind)
        node.home.clock.drift(self._world.now_us, random.randint(-5_000, 5_000))
        self._world.call(fault.length_us, self._steady, node)

    def _steady(self, node: SimulatedNode) -> None:
        node.home.clock.drift(self._world.now_us, 0)

    # -- disks ------------------------------------------------------------------------------------------

    def _slow_disk(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        self.count(fault.kind)
        node.sync_extra_us = random.choice((20_000, 100_000, 500_000))
        self._world.call(fault.length_us, setattr, node, "sync_extra_us", 0)

    def _append_fails(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        node.home.disk.appends_to_fail = 1

    def _sync_fails(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        if node.machine.is_synced:  # without syncs a process trusts the machine's memory, as with a loss of power
            node.home.disk.syncs_to_fail = 1

    def _disk_full(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        disk = node.home.disk
        disk.capacity_bytes = disk.used_bytes + random.randrange(4_096)
        self._world.call(fault.length_us, setattr, disk, "capacity_bytes", 0)

    # -- disks that lie, and lost homes -------------------------------------------------------------------

    def _bit_rot(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        if node.home.disk.rot():
            self.count(fault.kind)
            self._restart(node, fault, None)

    def _memory_rot(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        """A bit of the state in memory turns over: the next block that changes something beside it has other roots."""
        if node.is_up:
            table = node.executor.venue.ledger.tables[ACCOUNTS]
            self.count(fault.kind)
            table.rows["balance"][random.randrange(self._plan.traders)] ^= 1 << random.randrange(20)

    def _rot_on_read(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        self.count(fault.kind)
        node.home.disk.reads_to_rot = 1
        self._restart(node, fault, None)

    def _misdirected(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        node.home.disk.misdirect_next = True
        self._world.call(fault.length_us, self._power_cycle, node, fault)

    def _power_cycle(self, node: SimulatedNode, fault: Fault) -> None:
        if not self._is_over:
            if not node.home.disk.misdirect_next:
                self.count("misdirected")
            self._restart(node, fault, Survival.NONE)

    def _lost_name(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        if node.home.disk.lose_name():
            self.count(fault.kind)
            self._restart(node, fault, Survival.NONE)

    def _old_disk(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        older = Home(node.home.disk.copy(), node.home.store.copy())
        self._world.call(fault.length_us, self._swap, node, fault, older)

    def _swap(self, node: SimulatedNode, fault: Fault, older: Home) -> None:
        if self._is_over:
            return
        self.count("old_disk")
        node.crash(Survival.NONE)
        node.home.disk, node.home.store = older.disk, older.store
        self.start_later(node, fault.length_us)

    def _rebuilt(self, node: SimulatedNode, fault: Fault, random: Random, number: int) -> None:
        self.count(fault.kind)
        node.crash(Survival.NONE)
        node.home.rebuild()
        self.start_later(node, fault.length_us)

    def _restart(self, node: SimulatedNode, fault: Fault, survival: Survival | None) -> None:
        node.crash(survival)
        self.start_later(node, fault.length_us)

    # -- the liveness phase -------------------------------------------------------------------------------

    def heal(self) -> None:
        """A quorum is well from now on; what else is wrong at this moment stays so."""
        world, healed = self._world, self._plan.healed
        self._is_over = True
        self.on_fault(f"validators {', '.join(map(str, healed))} are healed")
        network = world.network
        network.loss_permille = network.duplicate_permille = network.reorder_permille = 0
        well = self._plan.reachable
        network.closed = {link: None for link in network.closed if not (link[0] in well and link[1] in well)}
        for index in well:
            network.slow_us.pop(index, None)
            network.deaf.pop(index, None)
            node = world.nodes[index]
            node.home.disk.calm()
            node.sync_extra_us = 0
            node.crash_after_effects = -1
            node.home.clock.offset_us = self._plan.clock_offsets_us[index]
            node.resume()
            if not node.is_up:
                node.start()
