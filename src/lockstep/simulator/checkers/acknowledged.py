"""What clients were told is so: each acknowledged bundle is in the chain exactly once, where the answer said, with the
outcome that the answer said, and no answer contradicts the order of real time. Nothing is in the chain that no client
made, and nothing twice.

The log is a total order, so this is linearizability: a bundle that was handed in after another one was answered
stands behind it.
"""

import numpy as np

from lockstep.simulator.checkers.chain import bodies, canonical, events_of
from lockstep.simulator.history import Acknowledgement, History, Violation

NAME = "acknowledged"
Position = tuple[int, int]
"""(height, place in the block)."""


def check(history: History) -> list[Violation]:
    """Presence, uniqueness, outcome, order."""
    found: list[Violation] = []
    places: dict[bytes, list[Position]] = {}
    outcomes: dict[bytes, bytes] = {}
    for final, block in bodies(history, canonical(history)):
        events, first = events_of(final), 0
        for place, bundle in enumerate(block.bundles):
            places.setdefault(bundle.digest, []).append((final.height, place))
            end = first + len(bundle.commands) // 40
            edges = np.searchsorted(events["command"], (first, end))
            outcomes[bundle.digest] = events[edges[0] : edges[1]].tobytes()
            first = end
    for digest, at in places.items():
        if len(at) > 1:
            found.append(Violation(NAME, f"bundle {digest.hex()[:16]} is in the chain {len(at)} times: {at}"))
        if digest not in history.bundles:
            found.append(Violation(NAME, f"bundle {digest.hex()[:16]} at {at[0]} was made by no client"))
    committed = {(node.index, final.height): final.at_us for node in history.nodes for final in node.finals.values()}
    for answer in history.acknowledged:
        problem = _problem(answer, places.get(answer.bundle), outcomes.get(answer.bundle))
        if not problem and answer.answered_us < committed.get((answer.node, answer.height), answer.answered_us + 1):
            problem = f"height {answer.height} was not final there when it answered"
        if problem:
            text = f"bundle {answer.bundle.hex()[:16]}, answered by validator {answer.node}: {problem}"
            found.append(Violation(NAME, text, answer.answered_us))
    return found + _check_order(history)


def _problem(answer: Acknowledgement, at: list[Position] | None, outcome: bytes | None) -> str:
    if at is None:
        return "it was called final, but is not in the chain"
    if at[0] != (answer.height, answer.place):
        return f"it was said to be at {(answer.height, answer.place)}, but is at {at[0]}"
    if answer.outcomes != outcome:
        return "the outcome that was answered is not the one in the chain"
    if answer.answered_us < answer.submitted_us:
        return "it was answered before it was handed in"
    return ""


def _check_order(history: History) -> list[Violation]:
    """Sweep over time: nothing handed in now may stand before anything that was answered earlier."""
    found: list[Violation] = []
    answered = sorted(history.acknowledged, key=lambda a: a.answered_us)
    latest: Acknowledgement | None = None
    done = 0
    for answer in sorted(history.acknowledged, key=lambda a: a.submitted_us):
        while done < len(answered) and answered[done].answered_us < answer.submitted_us:
            if latest is None or _position(answered[done]) > _position(latest):
                latest = answered[done]
            done += 1
        if latest is not None and _position(answer) < _position(latest):
            text = (
                f"bundle {answer.bundle.hex()[:16]} at {_position(answer)} was handed in after "
                f"{latest.bundle.hex()[:16]} at {_position(latest)} was answered"
            )
            found.append(Violation(NAME, text, answer.answered_us))
    return found


def _position(answer: Acknowledgement) -> Position:
    return answer.height, answer.place
