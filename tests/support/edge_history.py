"""Histories that are wrong in one place, to see that the checkers look there."""

import copy
import dataclasses

from lockstep.simulator.history import History, NodeHistory
from lockstep.venue import schema


def spoil(history: History, name: str) -> History:
    """A copy that the checker of this name must not let pass."""
    changed = copy.copy(history)
    changed.nodes = [copy.copy(node) for node in history.nodes]
    changed.acknowledged = list(history.acknowledged)
    {
        "agreement": _other_block,
        "durability": _forgotten_votes,
        "roots": _other_root,
        "certificates": _flipped_signature,
        "money": _stolen_money,
        "acknowledged": _other_outcome,
        "replay": _other_event,
    }[name](changed)
    return changed


def _change(node: NodeHistory, height: int, **fields: object) -> None:
    node.finals = {**node.finals, height: node.finals[height]._replace(**fields)}


def _flip(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def _other_block(history: History) -> None:
    node = history.nodes[1]
    _change(node, 5, block=_flip(node.finals[5].block, 0))


def _forgotten_votes(history: History) -> None:
    for node in history.nodes:
        node.durable = []


def _other_root(history: History) -> None:
    node = history.nodes[2]
    _change(node, 5, state_root=_flip(node.finals[5].state_root, 3))


def _flipped_signature(history: History) -> None:
    """In every certificate: the checker looks at some of them only, when there are many."""
    for node in history.nodes:
        for height, final in list(node.finals.items()):
            if final.certificate is not None:
                _change(node, height, certificate=_flip(final.certificate, len(final.certificate) - 5))


def _stolen_money(history: History) -> None:
    node = next(node for node in history.nodes if node.tables_at_end)
    accounts = node.tables_at_end[schema.ACCOUNTS]
    place = (schema.ROWS[schema.ACCOUNTS][1].fields or {})["balance"][1]
    node.tables_at_end = {**node.tables_at_end, schema.ACCOUNTS: _flip(accounts, place)}


def _other_outcome(history: History) -> None:
    answer = history.acknowledged[0]
    history.acknowledged[0] = dataclasses.replace(answer, outcomes=_flip(answer.outcomes, 4))


def _other_event(history: History) -> None:
    for node in history.nodes:
        height = next(height for height, final in sorted(node.finals.items()) if final.events)
        _change(node, height, events=_flip(node.finals[height].events, 6))
