"""A node that catches up is needed: the others go on from view to view, but nothing becomes final without it.

So many of the others execute nothing for a while that the rest is no quorum; they go on voting for blocks. The one that
catches up is cut off now and then for long enough to give up a view, in which the others may notarize a block. Those
views stay open until it has caught up: what it says then in any of them must not contradict what it said before, though
it may have gone on from a state that was fetched meanwhile. The others work again soon after, or
after 80 Delta, also when the liveness phase has begun meanwhile.
"""

from collections.abc import Callable
from random import Random
from typing import Final

from lockstep.simulator.fault import STANDSTILL, Fault
from lockstep.simulator.plan import Plan
from lockstep.simulator.simulated_node import SimulatedNode
from lockstep.simulator.world import World

_FAR_BLOCKS: Final = 8
_LENGTH_DELTAS: Final = 80
"""At most."""
_AFTERWARDS_DELTAS: Final = 12
"""Finalize votes are said again after four."""


class Standstill:
    """One, or several one after the other, from `watch` on."""

    def __init__(
        self, world: World, plan: Plan, random: Random, end_us: int, is_syncing: Callable[[SimulatedNode], bool],
        cut: Callable[[list[tuple[int, int]], Fault], None], count: Callable[[str], None],
    ) -> None:  # fmt: skip
        """`cut` cuts links for a while, unless the safety phase is over; `end_us`: none begins later."""
        self._world = world
        self._plan = plan
        self._random = random
        self._end_us = end_us
        self._is_syncing = is_syncing
        self._cut = cut
        self._count = count
        self._delta_us = 1_000 * plan.delta_ms
        self._busy: list[SimulatedNode] = []

    def watch(self) -> None:
        """Until a node catches up from far behind."""
        if self._world.now_us > self._end_us:
            return
        far = self._furthest()
        if far is None:
            self._world.call(self._random.randint(500, 20_000), self.watch)
        else:
            self._begin(far)

    def _furthest(self) -> SimulatedNode | None:
        """Who catches up from furthest behind, if anybody does from far."""
        up = [node for node in self._world.nodes if node.is_up]
        syncing = [node for node in up if self._is_syncing(node)]
        if not syncing:
            return None
        head = max(node.replica.final.height for node in up)
        last = min(syncing, key=lambda node: node.replica.final.height)
        return last if head - last.replica.final.height >= _FAR_BLOCKS else None

    def _begin(self, needed: SimulatedNode) -> None:
        self._count(STANDSTILL)
        others = [node for node in self._world.nodes if node is not needed]
        self._random.shuffle(others)
        stakes = self._plan.stakes
        while 3 * sum(stakes[node.index] for node in others) > 2 * sum(stakes):
            node = others.pop()
            node.is_busy = True
            self._busy.append(node)
        self._go_on(needed, self._world.now_us + _LENGTH_DELTAS * self._delta_us, self._random.randint(2, 10))

    def _go_on(self, needed: SimulatedNode, end_us: int, cuts: int) -> None:
        """Another cut, or the end of it."""
        random, delta_us = self._random, self._delta_us
        if self._world.now_us > end_us or not self._is_syncing(needed):
            self._world.call(random.randint(0, _AFTERWARDS_DELTAS * delta_us), self._end)
            return
        wait_us = random.randint(1_000, 2 * delta_us)
        if cuts:
            cuts -= 1
            one, all_ = needed.index, range(self._plan.validators)
            length_us = random.randint(2 * delta_us, 6 * delta_us)
            links = [link for v in all_ if v != one for link in ((v, one), (one, v))]
            self._cut(links, Fault(self._world.now_us, STANDSTILL, one, length_us, 0))
            wait_us += length_us
        self._world.call(wait_us, self._go_on, needed, end_us, cuts)

    def _end(self) -> None:
        for node in self._busy:
            node.work_again()
        self._busy.clear()
        self._world.call(self._random.randint(0, 10 * self._delta_us), self.watch)
