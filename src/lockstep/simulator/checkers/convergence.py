"""Liveness, once a quorum is healed: new blocks become final on it, all of it ends near one tip, queues drain."""

from typing import Final

from lockstep.simulator.history import History, NodeHistory, Phase, Violation

NAME = "convergence"
NEW_BLOCKS_MIN: Final = 3
TIP_DISTANCE_MAX: Final = 8
"""Heights between healed nodes at the end: blocks go on while the last messages travel."""


def check(history: History) -> list[Violation]:
    """The liveness phases; a run without one promises nothing here."""
    return [
        violation for phase in history.phases if phase.name == "liveness" for violation in _check_phase(history, phase)
    ]


def _check_phase(history: History, phase: Phase) -> list[Violation]:
    found = []
    if not phase.passed:
        found.append(Violation(NAME, f"no convergence: {phase.detail}", phase.to_us))
    healed = [node for node in history.honest if node.index in phase.healed]
    tips = {node.index: max(node.finals, default=0) for node in healed}
    for node in healed:
        if not node.is_up_at_end:
            found.append(Violation(NAME, f"healed validator {node.index} is down: {node.stopped}", phase.to_us))
            continue
        fresh = fresh_blocks(node, phase.from_us, phase.to_us)
        if fresh < NEW_BLOCKS_MIN:
            text = f"only {fresh} new blocks became final at healed validator {node.index}"
            found.append(Violation(NAME, text, phase.to_us))
        if max(tips.values()) - tips[node.index] > TIP_DISTANCE_MAX:
            text = f"healed validator {node.index} ends at height {tips[node.index]}, another at {max(tips.values())}"
            found.append(Violation(NAME, text, phase.to_us))
    return found


def fresh_blocks(node: NodeHistory, from_us: int, to_us: int) -> int:
    """Blocks proposed in that time (by their own clock) that the node committed."""
    return sum(1 for final in node.finals.values() if from_us <= final.at_us <= to_us)
