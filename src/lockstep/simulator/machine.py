"""What may differ between the machines, and the settings, of the nodes of one network.

In a real network it always does: another disk, another processor, another line in `node.json`.
"""

from dataclasses import dataclass, replace
from random import Random
from typing import Final

from lockstep.log.segment import SEGMENT_BYTES_MAX
from lockstep.node.retention import Mode, Retention
from lockstep.simulator.chance import chance

_SEGMENTS: Final = (1 << 14, 1 << 16, 1 << 20)
_SYNCS_US: Final = ((100, 400), (300, 3_000), (2_000, 20_000))
_EXECUTIONS_US: Final = (100, 500, 2_000)
_EVERYTHING: Final = Retention()
_KEPT_MS: Final = (300, 2_000, 1 << 40)
_KEPT_BLOCKS: Final = (8, 32, 128)


@dataclass(frozen=True, slots=True)
class Machine:
    """One node's."""

    segment_bytes: int = SEGMENT_BYTES_MAX
    sync_us: tuple[int, int] = (300, 300)
    """How long a sync of the disk takes, at least and at most."""
    execute_us: int = 500
    """How long an empty block takes to execute."""
    is_synced: bool = True
    """`durability: fsync`. Without, only the process may die: the machine must not lose its power."""
    state_from_blocks: int = 0
    """A distance from which a state may be fetched rather than blocks replayed; 0: the node's own default."""
    retention: Retention = _EVERYTHING
    """How much of the past it keeps."""


def draw_machines(random: Random, count: int, base: Machine) -> tuple[Machine, ...]:
    """All alike, or each on its own."""
    if chance(random, 1, 2):
        return (base,) * count
    return tuple(
        Machine(
            random.choice(_SEGMENTS), random.choice(_SYNCS_US), random.choice(_EXECUTIONS_US), chance(random, 3, 4),
            random.choice((0, 64)),
        )
        for _ in range(count)
    )  # fmt: skip


def draw_retention(random: Random, machines: tuple[Machine, ...]) -> tuple[Machine, ...]:
    """In half of the runs nodes keep what their operators like; blocks and periods are as short as runs are."""
    if chance(random, 1, 2):
        return machines
    return tuple(
        replace(
            machine,
            retention=Retention(random.choice(list(Mode)), random.choice(_KEPT_MS), random.choice(_KEPT_BLOCKS)),
        )
        for machine in machines
    )
