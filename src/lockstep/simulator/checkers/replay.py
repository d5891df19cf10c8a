"""The whole log once more, through a slow engine in plain Python: every block's events, byte for byte.

This is the second half of the check of acknowledged outcomes: their order is in `acknowledged`, their meaning here.
"""

from typing import Final

import numpy as np

from lockstep.simulator.checkers.chain import bodies, canonical
from lockstep.simulator.checkers.oracle import Oracle
from lockstep.simulator.checkers.reading import Body
from lockstep.simulator.checkers.sets import Sets
from lockstep.simulator.history import History, Violation
from lockstep.venue.schema import BUNDLE_SPAN
from lockstep.wire.command import COMMAND
from lockstep.wire.observation import OBSERVATION

NAME = "replay"
COMMANDS_MAX: Final = 20_000
"""Replayed in a run, from the beginning: the slow engine does a few thousand a second."""
BLOCKS_MAX: Final = 5_000


def check(history: History) -> list[Violation]:
    """Execute the chain again and compare what it did."""
    oracle, sets = Oracle(history.genesis), Sets(history)
    commands = 0
    for number, (final, block) in enumerate(bodies(history, canonical(history))):
        commands += block.head.commands
        if commands > COMMANDS_MAX or number == BLOCKS_MAX:
            break
        oracle.stakes = sets.at_height(final.height).of
        raw = b"".join(bundle.commands for bundle in block.bundles)
        events = oracle.block(block.head.time_ms, _observations(block), _spans(block), np.frombuffer(raw, COMMAND))
        if events.tobytes() != final.events:
            text = f"height {final.height}: replaying its {block.head.commands} commands gives other events"
            return [Violation(NAME, text, final.at_us)]
    return []


def _observations(block: Body) -> "np.ndarray":
    """OBSERVATION rows: little-endian u16 validator, u16 count, u32 zero, i64 time, then i64 prices; 0 is none."""
    rows = []
    for raw in block.observations:
        validator = int.from_bytes(raw[0:2], "little")
        count = int.from_bytes(raw[2:4], "little")
        time_ms = int.from_bytes(raw[8:16], "little")
        prices = np.frombuffer(raw, "<i8", count, 16)
        rows += [(validator, number, int(price), time_ms) for number, price in enumerate(prices) if price]
    return np.array(rows, OBSERVATION)


def _spans(block: Body) -> "np.ndarray":
    spans = np.zeros(len(block.bundles), BUNDLE_SPAN)
    counts = [len(bundle.commands) // COMMAND.itemsize for bundle in block.bundles]
    spans["account"] = [bundle.account for bundle in block.bundles]
    spans["sequence"] = [bundle.sequence for bundle in block.bundles]
    spans["count"] = counts
    spans["first"] = np.cumsum(counts) - counts if counts else 0
    return spans
