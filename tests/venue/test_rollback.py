"""Blocks of random commands are taken back exactly, and give the same roots again."""

import os
import subprocess
import sys

import numpy as np
import pytest

from lockstep.venue.schema import BUNDLE_SPAN
from lockstep.venue.venue import Venue
from lockstep.wire.command import COMMAND
from lockstep.wire.observation import OBSERVATION
from tests.support.small_network import PRICE, TRADERS, small_genesis

BLOCKS = 6
PER_BUNDLE = 12


def block(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Spans and commands of one block: orders around the price, cancels by client id, cancel-alls, nonsense."""
    draw = np.random.default_rng(seed)
    commands = np.zeros(TRADERS * PER_BUNDLE, COMMAND)
    kinds = draw.choice([1, 1, 1, 1, 3, 4, 6, 9], len(commands))
    commands["kind"] = kinds
    place, by_client = kinds == 1, kinds == 3
    commands["side"][place] = draw.integers(0, 2, place.sum())
    commands["tif"][place] = draw.integers(0, 3, place.sum())
    commands["flags"][place] = draw.integers(0, 4, place.sum())
    commands["price"][place] = PRICE + draw.integers(-5, 6, place.sum())
    commands["size"][place] = draw.integers(1, 50, place.sum())
    commands["client_id"][place | by_client] = draw.integers(1, 20, (place | by_client).sum())
    spans = np.zeros(TRADERS, BUNDLE_SPAN)
    spans["account"] = np.arange(TRADERS)
    spans["first"] = np.arange(TRADERS) * PER_BUNDLE
    spans["count"] = PER_BUNDLE
    spans["sequence"] = seed
    return spans, commands


def execute(venue: Venue, height: int) -> tuple[bytes, bytes]:
    """State and event root of the block at `height`."""
    time_ms = 1_000 * height
    observations = np.array([(v, 0, PRICE + height, time_ms) for v in range(4)], OBSERVATION)
    execution = venue.execute(height, time_ms, observations, *block(height))
    return execution.state_root, execution.event_root


def story() -> list[tuple[bytes, bytes]]:
    """The roots of a fixed run of blocks."""
    venue = Venue(small_genesis())
    roots = []
    for height in range(1, BLOCKS + 1):
        roots.append(execute(venue, height))
        venue.commit()
    return roots


def test_blocks_that_are_taken_back_leave_nothing_and_give_the_same_again() -> None:
    venue = Venue(small_genesis())
    before = [venue.ledger.root]
    first = []
    for height in range(1, BLOCKS + 1):
        first.append(execute(venue, height))
        before.append(venue.ledger.root)
    assert len(set(before)) == BLOCKS + 1
    for height in range(BLOCKS, 0, -1):
        assert venue.ledger.root == before[height]
        venue.rollback()
    assert venue.ledger.root == before[0]
    assert [execute(venue, height) for height in range(1, BLOCKS + 1)] == first == story()


@pytest.mark.timeout(280)
def test_the_same_source_uncompiled_gives_the_same_bytes() -> None:
    code = "from tests.venue.test_rollback import story\nprint(';'.join(s.hex() + ',' + e.hex() for s, e in story()))"
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ";".join(s.hex() + "," + e.hex() for s, e in story())
