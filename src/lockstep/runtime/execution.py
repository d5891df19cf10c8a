"""The execution thread: it owns the executor, and does what the replica asks in order.

Compiled kernels release the interpreter lock, so the event loop runs on beside them.
"""

from collections.abc import Callable

from lockstep.node.effects import Commit, Execute, Prove
from lockstep.node.events import Executed, Proved
from lockstep.node.executor import Executor
from lockstep.node.prover import prove
from lockstep.runtime.archive import CheckpointJob
from lockstep.runtime.room import Room
from lockstep.runtime.worker import Worker


class Execution:
    """Runs blocks and posts `Executed`."""

    def __init__(
        self,
        executor: Executor,
        rooms: list[Room],
        executed: Callable[[Executed | Proved], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """`executed` is called on this thread. Before it causes more to be written, execution waits for `rooms`."""
        self._executor = executor
        self._rooms = rooms
        self._executed = executed
        self._worker: Worker[Execute | Commit | Prove | CheckpointJob] = Worker("execution", self._work, failed)

    def put(self, piece: Execute | Commit | Prove | CheckpointJob) -> None:
        """Take a request, in order."""
        self._worker.put(piece)

    def close(self) -> None:
        """Finish what is queued."""
        self._worker.close()

    def _work(self, batch: list[Execute | Commit | Prove | CheckpointJob]) -> None:
        for piece in batch:
            match piece:
                case Execute():
                    for room in self._rooms:
                        room.wait()
                    execution = self._executor.execute(piece.stored, piece.observations)
                    self._executed(Executed(piece.stored.block.digest, execution))
                case Commit():
                    self._executor.commit(piece.block)
                case Prove():
                    self._executed(prove(self._executor, piece.question))
                case CheckpointJob():
                    piece.state.set_result(self._executor.venue.ledger.checkpoint())
