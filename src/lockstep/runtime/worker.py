"""A thread with a queue: work is done in the order in which it was given, several pieces at a time if they wait."""

import queue
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

W = TypeVar("W")
_BATCH_MAX: Final = 256
CLOSE_SECONDS: Final = 60.0


class Worker(Generic[W]):
    """Runs `work(batch)` on its own thread. When that raises, `failed` is called and nothing more is done."""

    def __init__(self, name: str, work: Callable[[list[W]], None], failed: Callable[[BaseException], None]) -> None:
        self._queue: queue.SimpleQueue[W | None] = queue.SimpleQueue()
        self._work = work
        self._failed = failed
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, piece: W) -> None:
        """Queue a piece of work. Never blocks."""
        self._queue.put(piece)

    @property
    def waiting(self) -> int:
        """Pieces in the queue."""
        return self._queue.qsize()

    def close(self) -> None:
        """Finish what is queued, then end the thread."""
        self._queue.put(None)
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        try:
            while self._take():
                pass
        except BaseException as error:  # noqa: BLE001 (whatever it is, the node must hear of it)
            self._failed(error)

    def _take(self) -> bool:
        """Work off what is waiting; False at the end."""
        batch: list[W] = []
        piece = self._queue.get()
        while piece is not None:
            batch.append(piece)
            if len(batch) == _BATCH_MAX or self._queue.empty():
                break
            piece = self._queue.get()
        if batch:
            self._work(batch)
        return piece is not None
