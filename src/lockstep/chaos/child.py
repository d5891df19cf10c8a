"""A node's process in a disturbed network: it dies with whoever started it, and its wall clock may be wrong.

python -m lockstep.chaos.child HOME PARENT CLOCK_MS
"""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def _die_with(parent: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(1)


def _shift_clock(offset_ms: int) -> None:
    """A node asks for the wall time once, when it starts (`runtime.clock`): that is where a wrong clock gets in."""
    right = time.time_ns
    time.time_ns = lambda: right() + offset_ms * 1_000_000


def main() -> int:
    """Run the node."""
    home, parent, offset_ms = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    _die_with(parent)
    if offset_ms:
        _shift_clock(offset_ms)
    from lockstep.runtime.node import run_node

    return run_node(home)


if __name__ == "__main__":
    sys.exit(main())
