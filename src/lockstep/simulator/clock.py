"""A node's clock: wrong by a while, and faster or slower than the others.

Like the runtime's, it never jumps while a process runs: wall time when the process started, advanced by a monotonic
clock. A step of the wall clock is seen by the next process.
"""

from dataclasses import dataclass
from typing import Final

_MILLION: Final = 1_000_000


@dataclass(slots=True)
class NodeClock:
    """Offset in microseconds; drift in microseconds per second (parts per million)."""

    offset_us: int = 0
    drift_ppm: int = 0
    _base_world_us: int = 0
    _base_own_us: int = 0

    def begin(self, world_us: int) -> None:
        """A process starts: it takes the wall clock as it stands."""
        self._base_world_us = world_us
        self._base_own_us = world_us + self.offset_us

    def now_us(self, world_us: int) -> int:
        """What this node's process believes."""
        return self._base_own_us + (world_us - self._base_world_us) * (_MILLION + self.drift_ppm) // _MILLION

    def wait_us(self, world_us: int, own_deadline_us: int) -> int:
        """World time from now until the node's own clock shows at least `own_deadline_us`."""
        left = own_deadline_us - self.now_us(world_us)
        if left <= 0:
            return 0
        return -(-left * _MILLION // (_MILLION + self.drift_ppm)) + (1 if self.drift_ppm else 0)

    def drift(self, world_us: int, ppm: int) -> None:
        """From now on this fast, without a jump."""
        own = self.now_us(world_us)
        self._base_world_us, self._base_own_us, self.drift_ppm = world_us, own, ppm
