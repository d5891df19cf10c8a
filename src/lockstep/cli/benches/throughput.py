"""Sustained throughput: as many commands as four validators commit, bundles of 256, fsync on."""

from typing import Any

from lockstep.cli.benches.sessions import measure


def throughput(seconds: float = 20.0) -> dict[str, Any]:
    """Committed commands a second over 20 s after a warm-up of 5 s."""
    result = measure(rate=0, seconds=seconds)
    keep = (
        "seconds", "blocks", "commands_committed", "fills", "finality_ms", "bundle_size", "durability", "roots_agree",
        "heights_compared", "peak_rss_mib", "refused", "sampled_outcomes",
    )  # fmt: skip
    return {
        "value": result["commands_per_second"],
        "unit": "commands/s",
        "detail": {key: result[key] for key in keep},
    }
