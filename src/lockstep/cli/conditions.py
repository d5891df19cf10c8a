"""What else went on while something was measured: on shared machines it decides the figure.

Three numbers: the share of processor time that the host kept from this machine (`steal`), the share that other
processes here used, and how fast one thread ran a fixed loop, before and after. A virtual processor whose twin is busy
runs the loop at little more than half speed, with no steal to show for it.
"""

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final

_STAT: Final = Path("/proc/stat")
_STEPS: Final = 200_000
_IDLE: Final = (3, 4)
"""Columns of idle time in the line `cpu` of /proc/stat: user nice system idle iowait irq softirq steal …"""
_STEAL: Final = 7


class Conditions:
    """Use as a context manager; `found` afterwards."""

    def __enter__(self) -> "Conditions":
        self._loop_ms = [loop_ms()]
        self._own = _own_seconds()
        self._ticks = _ticks()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        spent = [after - before for before, after in zip(self._ticks, _ticks(), strict=True)]
        own = _own_seconds() - self._own
        self._loop_ms.append(loop_ms())
        self.found: dict[str, Any] = {"loop_ms": self._loop_ms}
        total = sum(spent[: _STEAL + 1])
        if total > 0:
            steal = spent[_STEAL] / total
            busy = 1 - sum(spent[column] for column in _IDLE) / total - steal
            own_share = own * os.sysconf("SC_CLK_TCK") / total
            self.found["steal_percent"] = round(100 * steal, 1)
            self.found["others_percent"] = round(100 * max(0.0, busy - own_share), 1)


def loop_ms() -> float:
    """Processor time of a fixed loop, milliseconds; the best of three."""
    return round(min(_loop_seconds() for _ in range(3)) * 1000, 2)


def _loop_seconds() -> float:
    began, total = time.thread_time(), 0
    for step in range(_STEPS):
        total += step
    return time.thread_time() - began


def _own_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _ticks() -> list[int]:
    """Of all processors, by column of /proc/stat; zeros where there is none."""
    try:
        return [int(part) for part in _STAT.read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError):
        return [0] * (_STEAL + 1)
