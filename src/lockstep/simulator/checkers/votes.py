"""An honest validator never contradicts itself: no two votes that it made durable are evidence against it, whatever
happened in between."""

from lockstep.simulator.checkers.reading import SignedVote, Statement, contradict, is_vote_record
from lockstep.simulator.checkers.reading import record as read
from lockstep.simulator.history import History, NodeHistory, Violation

NAME = "votes"


def check(history: History) -> list[Violation]:
    """The own votes on every honest disk, by view."""
    return [violation for node in history.honest for violation in _check_node(node)]


def _check_node(node: NodeHistory) -> list[Violation]:
    said: dict[int, list[Statement]] = {}
    found = []
    for durable in node.durable:
        vote = read(durable.record) if is_vote_record(durable.record) else None
        if not isinstance(vote, SignedVote) or vote.statement in said.setdefault(vote.statement.view, []):
            continue
        others = said[vote.statement.view]
        for other in others:
            if contradict(vote.statement, other):
                kinds = f"{other.kind} and {vote.statement.kind}"
                text = f"validator {node.index} signed a {kinds} in view {other.view} that contradict each other"
                found.append(Violation(NAME, text, durable.at_us))
        others.append(vote.statement)
    return found
