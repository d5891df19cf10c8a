"""Equal states: the same block gives the same state root and event root at every honest node, before and after
restarts; what was signed and certified is what was computed; and the state root is the hash of the state: at the end
every table is hashed whole, and the manifest written anew."""

import json

import numpy as np

from lockstep.simulator.checkers.reading import FINALIZE, SignedVote, certificate, digest, is_vote_record
from lockstep.simulator.checkers.reading import record as read
from lockstep.simulator.history import Final, History, NodeHistory, Violation
from lockstep.venue.schema import ROWS

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
        found += _check_tables(node)
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


def _check_tables(node: NodeHistory) -> list[Violation]:
    """The BLAKE3 hash of the manifest of the tables at the end is the state root of the last block."""
    final = node.finals.get(node.final_height_at_end)
    if not node.tables_at_end or final is None or manifest_root(node) == final.state_root:
        return []
    text = f"validator {node.index}: its tables do not hash to the state root of height {final.height}"
    return [Violation(NAME, text, final.at_us)]


def manifest_root(node: NodeHistory) -> bytes:
    """The root as the manifest's description says: names, layouts, row counts, hashes, canonical JSON."""
    tables = []
    for number, (name, dtype) in enumerate(ROWS):
        used = node.tables_at_end[number]
        tables.append({
            "name": name, "layout": _layout(dtype), "row_bytes": dtype.itemsize, "rows": len(used) // dtype.itemsize,
            "blake3": digest(used).hex(),
        })  # fmt: skip
    text = json.dumps({"format": "lockstep-state-1", "tables": tables}, separators=(",", ":"))
    return digest(text.encode())


def _layout(dtype: "np.dtype[np.void]") -> str:
    """`name:type@offset` of each field; an array field adds its shape."""
    parts, fields = [], dtype.fields
    assert fields is not None
    for name in dtype.names or ():
        field, offset = fields[name][:2]
        base, shape = field.subdtype if field.subdtype else (field, ())
        parts.append(f"{name}:{base.str}{list(shape) if shape else ''}@{offset}".replace(" ", ""))
    return ",".join(parts)


def _short(roots: tuple[bytes, bytes]) -> str:
    return "/".join(root.hex()[:16] for root in roots)
