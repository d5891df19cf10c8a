"""The one chain of a run, put together from what honest nodes committed, with its events."""

from collections.abc import Iterator

import numpy as np

from lockstep.simulator.checkers.reading import Body, body
from lockstep.simulator.history import Final, History
from lockstep.venue.event import EVENT


def canonical(history: History) -> list[Final]:
    """Final blocks by height, from 1 without a hole; the first honest node's word counts (`agreement` compares)."""
    known: dict[int, Final] = {}
    for node in history.honest:
        for height, final in node.finals.items():
            known.setdefault(height, final)
    chain: list[Final] = []
    while len(chain) + 1 in known:
        chain.append(known[len(chain) + 1])
    return chain


def bodies(history: History, chain: list[Final]) -> Iterator[tuple[Final, Body]]:
    """Each block of the chain with what it orders."""
    for final in chain:
        yield final, body(history.blocks[final.block])


def events_of(final: Final) -> "np.ndarray":
    """(n,) EVENT rows."""
    return np.frombuffer(final.events, EVENT)
