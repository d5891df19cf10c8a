"""Certificates: every one that a node committed on carries valid signatures of more than 2/3 of the stake of the set
that decided the block; and every change of the set was approved by a quorum of the one before."""

from lockstep.simulator.checkers.reading import EPOCH_BITS, FINALIZE, certificate, is_signed
from lockstep.simulator.checkers.sets import Sets
from lockstep.simulator.history import Final, History, NodeHistory, Violation

NAME = "certificates"
CHECKED_MAX = 400
"""Distinct certificates verified in a run, spread evenly over it: a signature costs a tenth of a millisecond."""


def check(history: History) -> list[Violation]:
    """Statement, bitmap, quorum and signatures; and each chain ends in a certified block."""
    sets, chain_id = Sets(history), history.genesis.chain_id
    seen: dict[bytes, tuple[NodeHistory, Final]] = {}
    found = [Violation(NAME, f"height {height}: {text}", history.ended_us) for height, text in sets.problems]
    for node in history.honest:
        for final in node.finals.values():
            if final.certificate is not None:
                seen.setdefault(final.certificate, (node, final))
        if node.finals and node.finals[max(node.finals)].certificate is None and len(history.honest) > 0:
            last = node.finals[max(node.finals)]
            if not _is_covered(history, last):
                text = f"validator {node.index} committed height {last.height} without any certificate at or above it"
                found.append(Violation(NAME, text, last.at_us))
    raws = list(seen)
    step = max(1, -(-len(raws) // CHECKED_MAX))
    for raw in raws[::step]:
        node, final = seen[raw]
        problem = _problem(raw, final, sets, chain_id)
        if problem:
            text = f"validator {node.index}, height {final.height}: {problem}"
            found.append(Violation(NAME, text, final.at_us))
    return found


def _problem(raw: bytes, final: Final, sets: Sets, chain_id: bytes) -> str:
    held = certificate(raw)
    statement, signers = held.statement, held.signers()
    if statement.kind != FINALIZE or statement.about[:2] != (final.height, final.block):
        return "the certificate is about something else"
    is_again = final.height in sets.lasts and statement.view >> EPOCH_BITS == final.view >> EPOCH_BITS
    if statement.view != final.view and not (is_again and statement.view > final.view):
        return f"the block of view {final.view} is certified in view {statement.view}"
    stakes = sets.at(statement.view)
    if stakes is None or stakes is not sets.at_height(final.height):
        return f"view {statement.view} is of another epoch than the block of height {final.height}"
    if any(signer < len(stakes.of) and not stakes.of[signer] for signer in signers):
        return f"validators without stake are among the signers {signers}"
    if len(held.bitmap) != (len(stakes.of) + 7) // 8 or any(signer >= len(stakes.of) for signer in signers):
        return "the certificate names validators that don't exist"
    if not stakes.is_quorum(signers):
        return f"the certificate has signers {signers} only, which is no quorum"
    message = statement.message(chain_id)
    for place, signer in enumerate(signers):
        if not is_signed(stakes.keys[signer], message, held.signature(place)):
            return f"validator {signer}'s signature is not valid"
    return ""


def _is_covered(history: History, last: Final) -> bool:
    """A node that catches up commits below a certificate that it holds for later; another node has committed it."""
    return any(
        final.certificate is not None and final.height >= last.height
        for node in history.nodes
        for final in node.finals.values()
    )
