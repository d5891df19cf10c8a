"""The clock that protocol code is told: wall time when the process started, advanced by the monotonic clock.

A wall clock that is stepped (by an operator, by NTP) would fire every timer at once or none for hours; this one
never runs backwards and never jumps within a process.
"""

import time


class Clock:
    """Microseconds since the Unix epoch, never backwards."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_us(self) -> int:
        """The time now, µs."""
        return (time.monotonic_ns() + self._offset_ns) // 1_000
