"""Finality at a modest rate: from submitting a bundle to being told that it is final, on the client's clock."""

from typing import Any

from lockstep.cli.benches.sessions import measure


def latency(seconds: float = 20.0) -> dict[str, Any]:
    """p50 at 1,000 commands/s, in bundles of 10 so that a command doesn't wait for its bundle to fill."""
    result = measure(rate=1_000, seconds=seconds)
    blocks = {"blocks_per_second": result["windows"][0]["blocks_per_second"], "bundle_size": result["bundle_size"]}
    return {
        "value": result["finality_ms"]["p50"],
        "unit": "ms",
        "detail": {**result["finality_ms"], "commands_per_second": result["commands_per_second"], **blocks},
    }
