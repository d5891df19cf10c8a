"""Keeping the state of the block that a node halted over."""

from pathlib import Path

import numpy as np
import pytest

from lockstep.base.errors import InvariantBroken
from lockstep.ledger import snapshot
from lockstep.node.executor import Executor
from lockstep.node.record import StoredBlock
from lockstep.runtime.forensics import SnapshotState
from lockstep.runtime.kept import keep_state, kept_folder
from lockstep.venue.venue import Venue
from lockstep.wire.block import Block, Header, Payload, genesis_header
from lockstep.wire.observation import OBSERVATION
from tests.support.small_network import small_genesis


@pytest.fixture
def executed() -> tuple[Executor, list[tuple[bytes, bytes]]]:
    """An executor with three blocks beyond the committed one; digest and state root of each."""
    genesis = small_genesis()
    parent = genesis_header(genesis.chain_id, genesis.time_ms)
    executor, made = Executor(Venue(genesis), parent.digest, 0), []
    for height in range(1, 4):
        header = Header(genesis.chain_id, height, height, height - 1, 7 * height, 0, 0, 0, parent.digest, bytes(32))
        execution = executor.execute(StoredBlock(Block(header, Payload(b"", (), ())), ()), np.empty(0, OBSERVATION))
        made.append((header.digest, execution.state_root))
        parent = header
    return executor, made


def test_the_state_after_the_block_is_kept_whatever_was_executed_beyond(
    executed: tuple[Executor, list[tuple[bytes, bytes]]], tmp_path: Path
) -> None:
    executor, made = executed
    folder = kept_folder(tmp_path, 2)
    told = keep_state(executor, made[1][0], folder)
    assert f"lockstep diff {folder} " in told
    report = snapshot.verify(folder, made[1][1])
    assert report.problems == () and SnapshotState(folder).height == 2
    assert "is there already" in keep_state(executor, made[1][0], folder)


def test_what_cannot_be_kept_is_said_and_raises_nothing(
    executed: tuple[Executor, list[tuple[bytes, bytes]]], tmp_path: Path
) -> None:
    executor, made = executed
    assert "could not be kept" in keep_state(executor, b"x" * 32, tmp_path / "a")
    (tmp_path / "file").write_bytes(b"")
    assert "could not be kept" in keep_state(executor, made[2][0], tmp_path / "file" / "a")
    with pytest.raises(InvariantBroken):
        executor.unwind(b"y" * 32)
    executor.unwind(made[0][0])
    assert executor.top == (made[0][0], 1) and executor.venue.ledger.root == made[0][1]
