"""Evidence: it never names an honest validator; it names one that contradicts itself in the open, all the time; and
when agreement breaks it names at least a third of the stake.

Two conflicting final blocks need validators who said two contradicting things in one view. Both sayings are on honest
disks: as recorded evidence, or inside certificates that different nodes hold. So the forensic part here puts the
certificates of all honest logs side by side, as an auditor would.
"""

from lockstep.simulator.checkers import agreement
from lockstep.simulator.checkers.reading import (
    Certified,
    SignedVote,
    Statement,
    certificate,
    contradict,
    is_certificate_record,
    is_signed,
)
from lockstep.simulator.checkers.reading import evidence as read_evidence
from lockstep.simulator.checkers.reading import record as read
from lockstep.simulator.checkers.sets import Sets
from lockstep.simulator.history import History, Violation

NAME = "evidence"
EQUIVOCATOR = "equivocate"
"""A behaviour that finalizes and nullifies in the same view, to everybody."""
OPEN_VIEWS_MIN = 40
"""After so many blocks, votes of it have reached somebody in time."""


def check(history: History) -> list[Violation]:
    """Soundness always; completeness when honest nodes disagree."""
    found: list[Violation] = []
    faulty = {node.index for node in history.nodes if node.is_faulty}
    sets = Sets(history)
    keys = sets.of[-1].keys
    for seen in history.evidence:
        problem = _problem(history, keys, seen.raw, seen.signer)
        if problem:
            found.append(Violation(NAME, f"evidence against validator {seen.signer}: {problem}", seen.at_us))
        elif seen.signer not in faulty:
            text = f"evidence against validator {seen.signer} in view {seen.view}, which is honest"
            found.append(Violation(NAME, text, seen.at_us))
    accused = {seen.signer for seen in history.evidence}
    for node in history.nodes:
        if node.behaviour == EQUIVOCATOR and len(node.finals) >= OPEN_VIEWS_MIN and node.index not in accused:
            text = f"validator {node.index} equivocated for {len(node.finals)} blocks, and nobody recorded it"
            found.append(Violation(NAME, text, history.ended_us))
    if agreement.check(history):
        named = guilty(history)
        if not any(stakes.is_third(named) for stakes in sets.of):
            found.append(Violation(NAME, f"agreement is broken, but only validators {named} can be named for it"))
    return found


def guilty(history: History) -> list[int]:
    """Validators that provably contradicted themselves, by recorded evidence or by certificates on honest disks."""
    keys, chain_id = Sets(history).of[-1].keys, history.genesis.chain_id
    named = {seen.signer for seen in history.evidence if not _problem(history, keys, seen.raw, seen.signer)}
    said: dict[tuple[int, int], dict[Statement, None]] = {}
    for held in _certificates(history):
        message = held.statement.message(chain_id)
        for place, signer in enumerate(held.signers()):
            if signer not in named and is_signed(keys[signer], message, held.signature(place)):
                others = said.setdefault((signer, held.statement.view), {})
                if any(contradict(held.statement, other) for other in others):
                    named.add(signer)
                others[held.statement] = None
    return sorted(named)


def _certificates(history: History) -> list[Certified]:
    """What honest logs and commits hold, each certificate once."""
    found: dict[bytes, Certified] = {}
    for node in history.honest:
        for raw in node.records_at_end:
            if is_certificate_record(raw) and raw[1:] not in found:
                held = read(raw)
                if isinstance(held, Certified):
                    found[raw[1:]] = held
        for final in node.finals.values():
            if final.certificate is not None and final.certificate not in found:
                found[final.certificate] = certificate(final.certificate)
    return list(found.values())


def _problem(history: History, keys: list[bytes], raw: bytes, signer: int) -> str:
    """Why this is no proof; empty when it is."""
    chain_id = history.genesis.chain_id
    votes: tuple[SignedVote, SignedVote] = read_evidence(raw)
    if {vote.signer for vote in votes} != {signer}:
        return "the votes are somebody else's"
    if not contradict(votes[0].statement, votes[1].statement):
        return "the two votes don't contradict each other"
    for vote in votes:
        if not is_signed(keys[signer], vote.statement.message(chain_id), vote.signature):
            return "a signature is not valid"
    return ""
