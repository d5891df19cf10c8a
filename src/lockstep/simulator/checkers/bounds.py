"""Bounded memory: no queue or table of a node ever holds more than its limit."""

from typing import Final

from lockstep.simulator.history import History, Violation

NAME = "bounds"
LIMITS: Final = {
    "pool_bytes": 64 * 1024 * 1024,
    "pool_bundles": 262_144,
    "tree": 1_024,
    "bodies": 4_096,
    "fetched": 16_384,
    "votes": 4_096 + 2 * 64,  # of views with a notarization, and of those around the present one
    "notarizations": 4_096,
    "nullifications": 4_096,
    "evidence": 4_096,
    "planned": 64,
}
"""By queue name. A queue that isn't named here may hold `OTHER_MAX`."""
OTHER_MAX: Final = 65_536
LOG_BYTES_PER_SECOND_MAX: Final = 4 * 1024 * 1024
"""Of virtual time: far above what any run's load writes."""


def check(history: History) -> list[Violation]:
    """Highest levels of all honest nodes, and how fast their logs grew."""
    found = []
    seconds = max(1, (history.ended_us - history.started_us) // 1_000_000)
    for node in history.honest:
        for name in sorted(node.queues_max):
            most, limit = node.queues_max[name], LIMITS.get(name, OTHER_MAX)
            if most > limit:
                found.append(Violation(NAME, f"validator {node.index}: {name} held {most}, the limit is {limit}"))
        if node.log_bytes_at_end > seconds * LOG_BYTES_PER_SECOND_MAX:
            text = f"validator {node.index}: the log has {node.log_bytes_at_end} bytes after {seconds} s"
            found.append(Violation(NAME, text))
    return found
