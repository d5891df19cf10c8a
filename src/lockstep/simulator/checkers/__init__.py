"""What a run must never show: one file for each promise, and none of them trusts the code that made the run.

A checker looks at a `History`, which the world recorded, and returns violations. Bytes are read anew here (`reading`),
quorums counted anew, signatures given to libsodium directly, money booked a second time from events, and the log
replayed through a slow engine in plain Python (`oracle`).
"""

from collections.abc import Callable

from lockstep.simulator.checkers import (
    acknowledged,
    agreement,
    blame,
    bounds,
    certificates,
    convergence,
    durability,
    evidence,
    money,
    replay,
    roots,
    votes,
)
from lockstep.simulator.checkers.sets import Sets
from lockstep.simulator.history import History, Violation

Checker = Callable[[History], list[Violation]]

CHECKERS: dict[str, Checker] = {
    agreement.NAME: agreement.check,
    durability.NAME: durability.check,
    votes.NAME: votes.check,
    roots.NAME: roots.check,
    certificates.NAME: certificates.check,
    money.NAME: money.check,
    acknowledged.NAME: acknowledged.check,
    replay.NAME: replay.check,
    evidence.NAME: evidence.check,
    blame.NAME: blame.check,
    bounds.NAME: bounds.check,
    convergence.NAME: convergence.check,
}
"""By name, in the order in which they run."""

BEYOND_THIRD = (evidence.NAME,)
"""With a third of the stake or more faulty nothing else is promised than that the guilty can be named."""


def check_all(history: History) -> list[Violation]:
    """Everything that is promised for this run's faults."""
    names = BEYOND_THIRD if _too_many_faulty(history) else tuple(CHECKERS)
    return [violation for name in names for violation in CHECKERS[name](history)]


def _too_many_faulty(history: History) -> bool:
    faulty = {node.index for node in history.nodes if node.is_faulty}
    return any(stakes.is_third(faulty) for stakes in Sets(history).of)
