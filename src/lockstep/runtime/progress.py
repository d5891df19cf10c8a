"""How far a starting node is, for whoever started it: one JSON object a line on standard output, or a callback."""

import json
import sys
from collections.abc import Callable
from typing import Literal

Phase = Literal["opening", "compiling", "replaying", "joining", "live", "installed", "halted", "stopped"]
Progress = Callable[[Phase, dict[str, int | float | str]], None]


def print_progress(phase: Phase, detail: dict[str, int | float | str]) -> None:
    """One line of JSON."""
    sys.stdout.write(json.dumps({"phase": phase, **detail}) + "\n")
    sys.stdout.flush()
