"""The loop: event → `replica.step` → effects, carried out in order; and one timer for the replica's deadline.

Everything here runs on the event loop's thread. Effects that come back from other threads (what waited for the disk,
answers from the archive) enter through `carry_out`; events through `handle`. A failure in here means that the
node no longer knows what it has done: it stops.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from lockstep.node import effects as effect_
from lockstep.node.effects import Effect, Halt, Severity
from lockstep.node.events import ClientAsked, Event, Tick
from lockstep.node.follower import Follower
from lockstep.node.replica import Replica
from lockstep.runtime.archive import CheckpointJob, InstallJob
from lockstep.runtime.clock import Clock
from lockstep.runtime.execution import Execution
from lockstep.runtime.server import ClientServer
from lockstep.runtime.serving import Serving
from lockstep.runtime.set_files import SetFiles
from lockstep.runtime.storage import Storage
from lockstep.runtime.transport import Transport
from lockstep.wire.client import AskStatus, StatusReply, StorageStatus
from lockstep.wire.roster import Roster

_PAGE_BYTES: Final = 4096
_OURSELVES: Final = 0
"""A number that no client has."""
_STATM: Final = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class Parts:
    """What carries effects out."""

    transport: Transport
    server: ClientServer
    storage: Storage
    execution: Execution
    serving: Serving
    sets: SetFiles
    joined: Callable[[Roster], None]
    """Told who is on the roster now."""
    note: Callable[[Severity, str], None]
    halted: Callable[[Halt], None]
    committed: Callable[[int], None]
    """Told each height as it becomes final here."""
    stored: Callable[[], StorageStatus | None] = lambda: None
    """What is on the disk."""


class Driver:
    """Drives one replica."""

    def __init__(self, clock: Clock, failed: Callable[[BaseException], None]) -> None:
        self._clock = clock
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._replica: Replica | Follower | None = None
        self._events: deque[Event] = deque()
        self._is_running = False
        self._is_settling = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_us = 0
        self._own_status: StatusReply | None = None

    def start(self, replica: Replica | Follower, parts: Parts) -> None:
        """Begin to step. Events that came before are taken now."""
        self._parts = parts
        self._carriers: dict[type, Callable[[Any], None]] = {
            effect_.Send: lambda e: parts.transport.send(e.peer, e.message),
            effect_.Broadcast: lambda e: parts.transport.broadcast(e.message),
            effect_.Persist: parts.storage.persist,
            effect_.Resume: lambda e: self._events.append(e.event),
            effect_.Execute: parts.execution.put,
            effect_.Commit: self._commit,
            effect_.Checkpoint: self._checkpoint,
            effect_.RosterChanged: self._roster_changed,
            effect_.Reply: self._reply,
            effect_.ServeChain: parts.serving.put,
            effect_.ServeFate: parts.serving.put,
            effect_.ServeProof: parts.serving.put,
            effect_.ServeEvents: parts.serving.put,
            effect_.ServeState: parts.serving.put,
            effect_.ReadState: parts.storage.pass_on,
            effect_.ReadLeaves: parts.storage.pass_on,
            effect_.StoreChunks: parts.storage.pass_on,
            effect_.InstallState: self._install,
            effect_.Prove: parts.execution.put,
            effect_.LeavePlain: lambda e: parts.transport.leave_plain(e.peer),
            effect_.DropPeer: lambda e: parts.transport.drop(e.peer, e.detail),
            effect_.Note: lambda e: parts.note(e.severity, e.text),
            effect_.Halt: parts.halted,
        }
        self._replica = replica
        self.carry_out(replica.start(self._clock.now_us()))

    def stop(self) -> None:
        """Take no more events."""
        self._replica = None
        if self._timer is not None:
            self._timer.cancel()

    def status(self) -> StatusReply | None:
        """How the node is, as it says itself; None when it has stopped."""
        self._own_status = None
        self.handle(ClientAsked(_OURSELVES, AskStatus()))
        return self._own_status

    def queues(self) -> dict[str, int]:
        """How much every table that could grow holds now."""
        return {} if self._replica is None else self._replica.queues()

    def handle(self, event: Event) -> None:
        """Step the replica with an event, and carry out what it wants."""
        self._events.append(event)
        self._run(())

    def carry_out(self, effects: Sequence[Effect]) -> None:
        """Carry out effects that had to wait for another thread."""
        self._run(effects)

    def carry_out_all(self, waited: list[tuple[Effect, ...]]) -> None:
        """The same, for several lists."""
        self._run([effect for effects in waited for effect in effects])

    def _run(self, effects: Sequence[Effect]) -> None:
        """Iterative: an event that comes up while effects are carried out waits its turn."""
        if self._replica is None or self._is_running:
            return
        self._is_running = True
        try:
            self._carry(effects)
            while self._events and self._replica is not None:
                event = self._events.popleft()
                self._carry(self._replica.step(event, self._clock.now_us()))
            if not self._is_settling:
                self._is_settling = True
                self._loop.call_soon(self._settle)
        except Exception as error:  # noqa: BLE001 (any error here leaves effects undone: the node must stop)
            self.stop()
            self._failed(error)
        finally:
            self._is_running = False

    def _settle(self) -> None:
        """Once for all events of one turn of the loop: write what is queued, and set the timer."""
        self._is_settling = False
        if self._replica is not None:
            self._parts.transport.flush()
            self._parts.server.flush()
            self._arm(self._replica.deadline())

    def _carry(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            self._carriers[type(effect)](effect)

    # -- effects that concern several parts -------------------------------------------------------------

    def _commit(self, effect: effect_.Commit) -> None:
        self._parts.execution.put(effect)
        self._parts.storage.commit(effect)
        self._parts.committed(effect.height)

    def _checkpoint(self, effect: effect_.Checkpoint) -> None:
        job = CheckpointJob(effect.height, effect.header, effect.certificate)
        self._parts.execution.put(job)
        self._parts.storage.checkpoint(job)

    def _install(self, effect: effect_.InstallState) -> None:
        """From now on this replica is of the past."""
        self._parts.storage.pass_on(InstallJob(effect.target, effect.is_rebuilt))
        self.stop()

    def _roster_changed(self, effect: effect_.RosterChanged) -> None:
        self._parts.sets.put(effect.roster)
        self._parts.transport.roster_changed(effect.roster.members)
        self._parts.joined(effect.roster)

    def _reply(self, effect: effect_.Reply) -> None:
        message = effect.message
        if isinstance(message, StatusReply):
            transport = self._parts.transport
            message = msgspec.structs.replace(
                message, rss_mib=resident_mib(), storage=self._parts.stored(), observers=transport.observers,
                validators_bytes_out=sum(traffic.bytes_out for traffic in transport.traffic.values()),
                observers_bytes_out=transport.observer_traffic.bytes_out,
            )  # fmt: skip
            if effect.client == _OURSELVES:
                self._own_status = message
                return
        self._parts.server.reply(effect.client, message)

    # -- time -----------------------------------------------------------------------------------------

    def _arm(self, deadline: int | None) -> None:
        """One timer. One that is due too early is left: when it fires, it is set again."""
        if deadline is None or (self._timer is not None and self._timer_us <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_us = deadline
        # The loop's timers count in milliseconds from the beginning of its turn: round up, and one more.
        delay_ms = 1 - (-max(0, deadline - self._clock.now_us()) // 1000)
        self._timer = self._loop.call_later(delay_ms / 1000, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self.handle(Tick())


def resident_mib() -> int:
    """This process's resident memory, MiB."""
    return int(_STATM.read_text().split()[1]) * _PAGE_BYTES >> 20
