"""The serving thread: reads old blocks for peers that catch up, and old outcomes for clients that ask.

Only so many requests wait, and of one peer that fetches the state only so many more; one beyond is not served, and
whoever asked asks again.
"""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec

from lockstep.base.errors import Refused
from lockstep.base.limits import FIRST_OBSERVER
from lockstep.log.reader import LogReader
from lockstep.node.effects import (
    DropPeer,
    Effect,
    Reply,
    Send,
    ServeChain,
    ServeEvents,
    ServeFate,
    ServeProof,
    ServeState,
)
from lockstep.node.event_batch import fill
from lockstep.node.old_blocks import read_chain
from lockstep.node.retention import pruned_text
from lockstep.runtime.block_index import Folder
from lockstep.runtime.directory import Directory
from lockstep.runtime.event_reader import EventReader
from lockstep.runtime.flat_tables import Span
from lockstep.runtime.guests import OBSERVERS_LIMIT
from lockstep.runtime.history import HistoryReader
from lockstep.runtime.in_use import InUse
from lockstep.runtime.index import Index
from lockstep.runtime.light_serving import LightServing
from lockstep.runtime.set_files import SetFiles
from lockstep.runtime.store import PinnedCheckpoint, Store
from lockstep.runtime.worker import Worker
from lockstep.sync.checkpoint_server import CheckpointServer
from lockstep.venue.event import EVENT
from lockstep.wire.client import Fate, Goodbye
from lockstep.wire.light import LightReply
from lockstep.wire.message import ChainBlock, CheckpointOffer, FetchCheckpoint, StatePart

REQUESTS_MAX: Final = 1_024
EVENT_REQUESTS_MAX: Final = 4
"""Of one reader, waiting; a reader has one on its way at a time."""
STATE_REQUESTS_MAX: Final = 24
"""Of one peer, waiting."""
OBSERVER_BYTES_PER_SECOND: Final = 48 * 1024 * 1024
"""What one node that doesn't vote is given in the long run, so that it costs validators little of their time."""
BURST_SECONDS: Final = 1.0
ANSWER_BYTES_MIN: Final = 64 * 1024
"""An answer counts for so much at least."""
CLIENTS: Final = -1


class LetGo:
    """Unpin checkpoints that nobody has asked for of late."""


Counted = ServeState | ServeChain | ServeEvents | ServeProof
Request = ServeChain | ServeFate | ServeProof | ServeEvents | ServeState | LetGo


class StoredCheckpoints:
    """The store, as the checkpoint server sees it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def newest_height(self) -> int | None:
        """Height of the newest checkpoint."""
        meta = self._store.checkpoint()
        return None if meta is None else meta.height

    def pin(self) -> PinnedCheckpoint | None:
        """The newest checkpoint, held."""
        return self._store.pin()


def _who(request: Counted) -> int:
    """Whose requests are counted together: a peer's; those of all clients for state, who share what one guest may cost;
    and each reader's."""
    if isinstance(request, ServeProof):
        return request.client
    if isinstance(request, ServeEvents):
        return CLIENTS - 1 - request.client
    return CLIENTS if isinstance(request, ServeState) and request.is_client else request.peer


def _is_guest(peer: int) -> bool:
    return peer >= FIRST_OBSERVER or peer == CLIENTS


class PartSender(Protocol):
    """A plain connection with a peer, beside the one with its word."""

    def send(self, request: int, size: int, pieces: Sequence[bytes | Span]) -> bool:
        """Queue the answer to a request; False when it finds no room."""


class Serving:
    """Answers `ServeChain`, `ServeFate`, `ServeProof`, `ServeEvents` and `ServeState` with `Send` and `Reply`."""

    def __init__(
        self,
        log: Path,
        history: Path,
        index: Index,
        store: Store,
        sets: SetFiles,
        answered: Callable[[Effect], None],
        failed: Callable[[BaseException], None],
        in_use: InUse | None = None,
        plain: "Callable[[int], PartSender | None]" = lambda _: None,
    ) -> None:
        """`answered` is called on this thread, and so is `plain`: a peer's plain connection, if it has one."""
        self._in_use = in_use or InUse(log.parent)
        self._in_use.tell(self._forget)
        self._in_use.release = lambda: self.put(LetGo())
        self._log = LogReader(Directory(log))
        self._history = HistoryReader(history)
        self._index = index
        self._light = LightServing(self._log, self._history, index, sets.get)
        self._events = EventReader(self._log, self._history, index)
        self._answered = answered
        self._plain = plain
        self._checkpoints = CheckpointServer(StoredCheckpoints(store))
        self._lock = threading.Lock()
        self._of_peer: dict[int, int] = {}
        self._owes: dict[int, float] = {}
        """Of nodes that don't vote: until when what they were given is paid for by time."""
        self._worker: Worker[Request] = Worker("serving", self._work, failed)

    def put(self, request: Request) -> None:
        """Take a request, if not too many wait."""
        if self._worker.waiting >= REQUESTS_MAX:
            return
        if isinstance(request, Counted) and not self._may_wait(request):
            return
        self._worker.put(request)

    def _may_wait(self, request: Counted) -> bool:
        """Whether a peer's or a reader's request is taken; it counts."""
        if isinstance(request, ServeProof) and not request.is_peer:
            return True
        peer = _who(request)
        with self._lock:
            waiting = self._of_peer.get(peer, 0)
            limit = EVENT_REQUESTS_MAX if isinstance(request, ServeEvents) else STATE_REQUESTS_MAX
            is_bounded = not isinstance(request, ServeChain) or _is_guest(peer)
            if is_bounded and waiting >= limit:
                return False
            if _is_guest(peer) and self._owes.get(peer, 0.0) > time.monotonic():
                return False
            self._of_peer[peer] = waiting + 1
        return True

    def _served(self, peer: int, size: int) -> None:
        """A peer's request was answered with so many bytes."""
        with self._lock:
            left = self._of_peer.pop(peer) - 1
            if left:
                self._of_peer[peer] = left
            if _is_guest(peer):
                now = time.monotonic()
                begin = max(now - BURST_SECONDS, self._owes.pop(peer, 0.0))
                self._owes[peer] = begin + max(size, ANSWER_BYTES_MIN) / OBSERVER_BYTES_PER_SECOND
                while len(self._owes) > OBSERVERS_LIMIT:
                    self._owes.pop(next(iter(self._owes)))

    def close(self) -> None:
        """Finish what is queued."""
        self._worker.close()
        self._log.close()
        self._history.close()

    def _forget(self, folder: Folder, segment: int) -> None:
        """Called while nothing is read."""
        if folder is Folder.LOG:
            self._log.forget(segment)
        else:
            self._history.forget(segment)

    def _work(self, batch: list[Request]) -> None:
        for request in batch:
            with self._in_use.reading:
                self._serve(request)

    def _serve(self, request: Request) -> None:
        if isinstance(request, ServeChain):
            first, lowest = request.from_height, self._index.lowest().blocks
            chain = read_chain(self._log, self._index.block, first, request.final_height, lowest)
            self._answered(Send(request.peer, chain))
            self._served(request.peer, sum(_size(block) for block in chain.blocks))
        elif isinstance(request, ServeState):
            self._state(request)
        elif isinstance(request, LetGo):
            self._checkpoints.release(time.monotonic_ns() // 1_000)
            self._in_use.served = self._checkpoints.lowest
        elif isinstance(request, ServeFate):
            self._answered(Reply(request.client, self._fate(request.digest)))
        elif isinstance(request, ServeEvents):
            filled = fill(request.head, request.request, request.recent, self._events.read)
            lowest = self._index.lowest().blocks
            if filled.reason and request.request.height < lowest:
                filled = msgspec.structs.replace(filled, reason=pruned_text(lowest))
            self._answered(Reply(request.client, filled))
            self._served(_who(request), 0)
        else:
            self._proof(request)

    def _proof(self, request: ServeProof) -> None:
        answer = self._light.answer(request)
        if not request.is_peer:
            self._answered(Reply(request.client, answer))
        elif isinstance(answer, LightReply):
            self._answered(Send(request.client, answer))
            self._served(request.client, sum(len(header) for header in answer.headers))

    def _state(self, request: ServeState) -> None:
        size = 0
        now_us = time.monotonic_ns() // 1_000
        try:
            if isinstance(request.request, FetchCheckpoint):
                offer = self._checkpoints.offer(request.request.height, now_us)
                if offer is not None:
                    self._answer(request, offer)
            elif not (size := self._send_plain(request, now_us)):
                part = self._checkpoints.part(request.request, now_us)
                size = len(part.data)
                self._answer(request, part)
        except Refused as refused:
            if request.is_client:
                self._answered(Reply(request.peer, Goodbye(refused.reason.value, refused.detail)))
            else:
                self._answered(DropPeer(request.peer, str(refused)))
        self._in_use.served = self._checkpoints.lowest
        self._served(_who(request), size)

    def _send_plain(self, request: ServeState, now_us: int) -> int:
        """Answer with whole chunks over the peer's plain connection; returns how many bytes, 0 when that is not to
        be."""
        sender = None if request.is_client else self._plain(request.peer)
        if sender is None or isinstance(request.request, FetchCheckpoint):
            return 0
        wanted = self._checkpoints.wanted(request.request, now_us)
        if wanted is None:
            return 0
        assert isinstance(wanted.state, PinnedCheckpoint)
        pieces = [
            piece for first, end in wanted.ranges for piece in wanted.state.spans(wanted.table, first, end - first)
        ]
        return wanted.size if sender.send(request.request.request, wanted.size, pieces) else 0

    def _answer(self, request: ServeState, message: CheckpointOffer | StatePart) -> None:
        peer = request.peer
        self._answered(Reply(peer, message) if request.is_client else Send(peer, message))

    def _fate(self, digest: bytes) -> Fate:
        place = self._index.fate(digest)
        block = None if place is None else self._index.block(place.height)
        if place is None or block is None:
            lowest = self._index.lowest().blocks
            return Fate(digest, "unknown", 0, 0, pruned_text(lowest) if lowest > 1 else "", b"")
        rows = self._history.events(block.history, place.height)
        outcomes = rows[place.first * EVENT.itemsize : (place.first + place.events) * EVENT.itemsize]
        return Fate(digest, "final", place.height, place.place, "", outcomes)


def _size(block: ChainBlock) -> int:
    return len(block.header) + len(block.payload) + sum(len(raw) for raw in block.bundles)
