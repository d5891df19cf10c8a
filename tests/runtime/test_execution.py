"""The execution thread does what is asked, in order, and hands the committed state to a checkpoint."""

import threading
from types import SimpleNamespace

import numpy as np

from lockstep.base.digest import digest
from lockstep.node.effects import Commit, Execute
from lockstep.node.record import StoredBlock
from lockstep.runtime.archive import CheckpointJob
from lockstep.runtime.execution import Execution
from lockstep.runtime.room import Room
from lockstep.wire.block import Block, Header, Payload


def block(height: int) -> StoredBlock:
    payload = Payload(b"", (), ())
    return StoredBlock(
        Block(Header(bytes(32), height, height, 0, 0, 0, 0, 0, bytes(32), digest(payload.encode())), payload), ()
    )


class StubExecutor:
    """Writes down what it is asked; block 13 cannot be executed."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.venue = SimpleNamespace(ledger=SimpleNamespace(checkpoint=lambda: tuple(self.done)))

    def execute(self, stored: StoredBlock, observations: np.ndarray) -> str:
        height = stored.block.header.height
        if height == 13:
            raise ValueError("thirteen")
        self.done.append(f"execute {height}")
        return f"result {height}"

    def commit(self, digest: bytes) -> None:
        self.done.append(f"commit {digest.hex()[:4]}")


def execute(height: int) -> Execute:
    return Execute(block(height), np.zeros(0))


def commit(height: int) -> Commit:
    return Commit(block(height).block.digest, height, np.zeros(0), ())


def test_requests_are_carried_out_in_order() -> None:
    executor, executed, failures = StubExecutor(), [], []
    execution = Execution(executor, [], executed.append, failures.append)  # type: ignore[arg-type]
    job = CheckpointJob(1, b"", b"")
    for piece in (execute(1), execute(2), commit(1), job, execute(3), execute(13), execute(4)):
        execution.put(piece)
    execution.close()
    name = block(1).block.digest.hex()[:4]
    assert executor.done == ["execute 1", "execute 2", f"commit {name}", "execute 3"]
    assert job.state.result(5) == ("execute 1", "execute 2", f"commit {name}")
    assert [(e.block, e.execution) for e in executed] == [(block(h).block.digest, f"result {h}") for h in (1, 2, 3)]
    assert [str(f) for f in failures] == ["thirteen"]


def test_execution_waits_for_room_and_commits_do_not() -> None:
    executor, executed = StubExecutor(), threading.Event()
    room = Room(100)
    room.add(200)
    execution = Execution(executor, [room], lambda _: executed.set(), lambda _: None)  # type: ignore[arg-type]
    execution.put(commit(1))
    execution.put(execute(2))
    assert not executed.wait(0.1) and len(executor.done) == 1
    room.remove(150)
    assert executed.wait(10)
    execution.close()
