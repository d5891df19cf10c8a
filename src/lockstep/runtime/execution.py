"""The execution thread: it owns the executor, and does what the replica asks in order.

Compiled kernels release the interpreter lock, so the event loop runs on beside them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lockstep.node.effects import Commit, Execute, Prove
from lockstep.node.events import Executed, Proved
from lockstep.node.executor import Executor
from lockstep.node.prover import prove
from lockstep.runtime.archive import CheckpointJob
from lockstep.runtime.kept import keep_state
from lockstep.runtime.room import Room
from lockstep.runtime.worker import Worker


@dataclass(frozen=True, slots=True)
class KeepState:
    """The node has halted: keep the state after this block in a folder, and tell what to do with it."""

    block: bytes
    folder: Path
    told: Callable[[str], None]


Work = Execute | Commit | Prove | KeepState | CheckpointJob


class Execution:
    """Runs blocks and posts `Executed`."""

    def __init__(
        self,
        executor: Executor,
        rooms: list[Room],
        executed: Callable[[Executed | Proved], None],
        failed: Callable[[BaseException], None],
        took: Callable[[float], None] = lambda _: None,
    ) -> None:
        """`executed`, and `took` with the seconds that a block took, are called on this thread. Before it causes more
        to be written, execution waits for `rooms`."""
        self._executor = executor
        self._rooms = rooms
        self._executed = executed
        self._took = took
        self._worker: Worker[Work] = Worker("execution", self._work, failed)

    def put(self, piece: Work) -> None:
        """Take a request, in order."""
        self._worker.put(piece)

    def close(self) -> None:
        """Finish what is queued."""
        self._worker.close()

    def _work(self, batch: list[Work]) -> None:
        for piece in batch:
            match piece:
                case Execute():
                    for room in self._rooms:
                        room.wait()
                    began = time.perf_counter()
                    execution = self._executor.execute(piece.stored, piece.observations)
                    self._took(time.perf_counter() - began)
                    self._executed(Executed(piece.stored.block.digest, execution))
                case Commit():
                    self._executor.commit(piece.block)
                case Prove():
                    self._executed(prove(self._executor, piece.question))
                case KeepState():
                    piece.told(keep_state(self._executor, piece.block, piece.folder))
                case CheckpointJob():
                    piece.state.set_result(self._executor.venue.ledger.checkpoint())
