"""From typing `lockstep devnet` to the first final block: with kernels cached, and (in the detail) without."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any, Final

from lockstep.cli.benches.sessions import say

_SIGN: Final = "first final block"
_COMMAND: Final = [sys.executable, "-m", "lockstep.cli", "devnet", "--json", "--rate", "1000"]


def _seconds_to_first_block(environment: dict[str, str]) -> float:
    """Starts a devnet, waits for its first final block, and stops it."""
    began = time.monotonic()
    with subprocess.Popen(
        _COMMAND, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env={**os.environ, **environment}
    ) as child:
        assert child.stderr is not None
        took = next((time.monotonic() - began for line in child.stderr if _SIGN in line), None)
        child.send_signal(signal.SIGTERM)
        rest = child.stderr.read()
    if took is None:
        raise AssertionError(f"the devnet ended before its first final block: {rest.strip()}")
    return round(took, 2)


def cold_start() -> dict[str, Any]:
    """Best of three with cached kernels; once with an empty cache."""
    say("with an empty kernel cache")
    with tempfile.TemporaryDirectory() as cache:
        uncached = _seconds_to_first_block({"NUMBA_CACHE_DIR": cache})
    say("with cached kernels")
    _seconds_to_first_block({})
    cached = [_seconds_to_first_block({}) for _ in range(3)]
    return {"value": min(cached), "unit": "s", "detail": {"uncached": uncached, "cached": cached}}
