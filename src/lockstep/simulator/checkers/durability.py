"""Final means durable: when a node calls a block final, a quorum has a finalize vote for it, or for a block above it,
on its disks, with the block; and what was durable is never gone.

Validators that are faulty count as if they had everything: they promised, and broke it.
"""

from lockstep.simulator.checkers.reading import FINALIZE, SignedVote, head, is_block_record, is_vote_record
from lockstep.simulator.checkers.reading import record as read
from lockstep.simulator.checkers.sets import Sets
from lockstep.simulator.history import Final, History, NodeHistory, Violation

NAME = "durability"
_HEADER_BYTES = 204


def check(history: History) -> list[Violation]:
    """Every commit of every honest node."""
    found = [violation for node in history.honest for violation in _check_kept(node)]
    quorum_us = _quorum_times(history)
    for node in history.honest:
        covered: int | None = None
        for height in sorted(node.finals, reverse=True):
            final = node.finals[height]
            own = quorum_us.get(final.block)
            covered = min((t for t in (own, covered) if t is not None), default=None)
            if covered is None or covered > final.at_us:
                when = "never" if covered is None else f"{covered - final.at_us} us later"
                text = f"validator {node.index} committed height {height}; a quorum's votes for it were durable {when}"
                found.append(Violation(NAME, text, final.at_us))
    return found


def _quorum_times(history: History) -> dict[bytes, int]:
    """Block → when validators with more than 2/3 of the stake had it and their finalize vote on it on disk."""
    sets = Sets(history)
    faulty = {node.index for node in history.nodes if node.is_faulty}
    have: dict[bytes, list[tuple[int, int]]] = {}
    views: dict[bytes, int] = {}
    for node in history.nodes:
        if node.index in faulty:
            continue
        blocks: dict[bytes, int] = {}
        for durable in node.durable:
            if is_block_record(durable.record):
                blocks.setdefault(_block_of(durable.record), durable.at_us)
            elif is_vote_record(durable.record):
                vote = read(durable.record)
                if isinstance(vote, SignedVote) and vote.statement.kind == FINALIZE:
                    block = vote.statement.about[1]
                    if block in blocks:
                        have.setdefault(block, []).append((durable.at_us, node.index))
                        views[block] = vote.statement.view
    times: dict[bytes, int] = {}
    for block, votes in have.items():
        holders = set(faulty)
        stakes = sets.at(views[block])
        for at_us, validator in sorted(votes):
            holders.add(validator)
            if stakes is not None and stakes.is_quorum(holders):
                times[block] = at_us
                break
    return times


def _block_of(record: bytes) -> bytes:
    """The digest of a block record. Its header is the first field, a byte string of 204 bytes: 2 bytes of tag."""
    start = 1 + 1 + 2
    return head(record[start : start + _HEADER_BYTES]).digest


def _check_kept(node: NodeHistory) -> list[Violation]:
    found = []
    for loss in node.losses:
        if loss.kept < loss.durable:
            text = f"validator {node.index} lost {loss.durable - loss.kept} durable records in a {loss.kind}"
            found.append(Violation(NAME, text, loss.at_us))
    return found


def latest_final(node: NodeHistory) -> Final | None:
    """The highest block that a node committed."""
    return node.finals[max(node.finals)] if node.finals else None
