"""The kinds of faults that can be scheduled, and in which profiles."""

from dataclasses import dataclass
from typing import Final

_MS: Final = 1_000
_SECOND: Final = 1_000_000
_ALL: Final = ("swarm", "wan", "lan", "byzantine", "disk")
_NETWORK: Final = ("swarm", "wan", "lan", "byzantine")
_SYNC: Final = "sync"
_DISK: Final = ("swarm", "disk")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: from when (since the start), what, to whom, how long, and a number for what else must be drawn."""

    at_us: int
    kind: str
    node: int
    length_us: int
    amount: int


@dataclass(frozen=True, slots=True)
class Kind:
    """How often at most, for how long, and where."""

    per_minute: int
    length_us: tuple[int, int]
    profiles: tuple[str, ...]


KINDS: Final[dict[str, Kind]] = {
    # network
    "loss": Kind(6, (_SECOND, 8 * _SECOND), (*_NETWORK, _SYNC)),
    "duplicate": Kind(4, (_SECOND, 8 * _SECOND), _NETWORK),
    "reorder": Kind(4, (_SECOND, 8 * _SECOND), _NETWORK),
    "partition": Kind(5, (200 * _MS, 8 * _SECOND), (*_NETWORK, _SYNC)),
    "one_way": Kind(5, (200 * _MS, 6 * _SECOND), _NETWORK),
    "flap": Kind(3, (_SECOND, 6 * _SECOND), _NETWORK),
    "slow": Kind(4, (_SECOND, 8 * _SECOND), (*_NETWORK, _SYNC)),
    "deaf": Kind(3, (_SECOND, 6 * _SECOND), (*_NETWORK, _SYNC)),
    # processes
    "kill": Kind(8, (50 * _MS, 5 * _SECOND), (*_ALL, _SYNC)),
    "power": Kind(8, (50 * _MS, 5 * _SECOND), _ALL),
    "power_all": Kind(1, (50 * _MS, 2 * _SECOND), _ALL),
    "crash_in_step": Kind(12, (50 * _MS, 3 * _SECOND), (*_ALL, _SYNC)),
    "pause": Kind(5, (100 * _MS, 6 * _SECOND), (*_ALL, _SYNC)),
    # what makes a node fall behind, and what befalls it while it catches up
    "away": Kind(20, (2 * _SECOND, 8 * _SECOND), ("swarm", _SYNC)),
    "crash_syncing": Kind(12, (_SECOND, 8 * _SECOND), ("swarm", _SYNC)),
    "prune": Kind(30, (0, 0), ("swarm", _SYNC)),
    # clocks
    "clock_step": Kind(4, (0, 0), _ALL),
    "clock_drift": Kind(4, (_SECOND, 20 * _SECOND), _ALL),
    # disks that say so
    "slow_disk": Kind(4, (_SECOND, 6 * _SECOND), (*_DISK, _SYNC)),
    "append_fails": Kind(5, (50 * _MS, 4 * _SECOND), _DISK),
    "sync_fails": Kind(5, (50 * _MS, 4 * _SECOND), _DISK),
    "disk_full": Kind(4, (100 * _MS, 4 * _SECOND), _DISK),
    # disks and memory that lie, and homes that are lost: of faulty validators only
    "memory_rot": Kind(4, (0, 0), _DISK),
    "bit_rot": Kind(4, (50 * _MS, 3 * _SECOND), _DISK),
    "rot_on_read": Kind(4, (50 * _MS, 3 * _SECOND), _DISK),
    "misdirected": Kind(4, (50 * _MS, 3 * _SECOND), _DISK),
    "lost_name": Kind(3, (50 * _MS, 3 * _SECOND), _DISK),
    "old_disk": Kind(2, (50 * _MS, 3 * _SECOND), _DISK),
    "rebuilt": Kind(2, (50 * _MS, 3 * _SECOND), (*_DISK, "lan", "wan", _SYNC)),
}
LYING: Final = ("memory_rot", "bit_rot", "rot_on_read", "misdirected", "lost_name", "old_disk", "rebuilt")
"""After one of these a validator's word does not count any more."""
DISTURBING: Final = ("loss", "partition", "slow", "deaf", "pause", "crash_in_step", "slow_disk")
"""What keeps a chain from growing: rarer in runs that need it to grow past a node that is behind."""
MEDDLING: Final = ("plain_spoil", "plain_cut", "plain_hold")
"""What a man in the middle does to plain connections (`plain_lane`), in runs that have any; drawn apart from others."""
STANDSTILL: Final = "standstill"
"""Nothing becomes final without a node that catches up (`standstill`), in profile `sync`; drawn apart from others."""
