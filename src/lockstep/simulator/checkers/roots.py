"""Equal states: the same block gives the same state root and event root at every honest node, before and after
restarts, and what was signed and certified is what was computed."""

from lockstep.simulator.checkers.reading import FINALIZE, SignedVote, certificate, digest, is_vote_record
from lockstep.simulator.checkers.reading import record as read
from lockstep.simulator.history import Final, History, NodeHistory, Violation

NAME = "roots"


def check(history: History) -> list[Violation]:
    """Compare roots of executed, of committed and of signed blocks."""
    found: list[Violation] = []
    known: dict[bytes, tuple[int, tuple[bytes, bytes]]] = {}

    def compare(node: int, block: bytes, roots: tuple[bytes, bytes], what: str, at_us: int) -> None:
        other, held = known.setdefault(block, (node, roots))
        if held != roots:
            text = (
                f"block {block.hex()[:16]}: validator {node} {what} roots {_short(roots)}, "
                f"validator {other} has {_short(held)}"
            )
            found.append(Violation(NAME, text, at_us))

    for node in history.honest:
        for height in sorted(node.finals):
            final = node.finals[height]
            compare(node.index, final.block, (final.state_root, final.event_root), "committed", final.at_us)
            found += _check_final(node, final)
        for block, roots in node.executed.items():
            compare(node.index, block, roots, "computed", history.ended_us)
        for durable in node.durable:
            if is_vote_record(durable.record):
                vote = read(durable.record)
                if isinstance(vote, SignedVote) and vote.statement.kind == FINALIZE:
                    _, block, state, event = vote.statement.about
                    compare(node.index, block, (state, event), "signed", durable.at_us)
        found += [
            Violation(NAME, f"validator {node.index} committed height {final.height} again, otherwise", final.at_us)
            for final in node.recommits
        ]
    return found


def _check_final(node: NodeHistory, final: Final) -> list[Violation]:
    """The events hash to the event root, and the certificate is about these very roots."""
    found = []
    if digest(final.events) != final.event_root:
        text = f"validator {node.index}: the events of height {final.height} are not those of its event root"
        found.append(Violation(NAME, text, final.at_us))
    if final.certificate is not None:
        _, block, state, event = certificate(final.certificate).statement.about
        if (block, state, event) != (final.block, final.state_root, final.event_root):
            text = f"validator {node.index} committed height {final.height} with other roots than were certified"
            found.append(Violation(NAME, text, final.at_us))
    return found


def _short(roots: tuple[bytes, bytes]) -> str:
    return "/".join(root.hex()[:16] for root in roots)
