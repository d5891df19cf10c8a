"""Merging what several nodes say into one stream in which no effect comes before its cause.

    A final block (height h) is delivered once, after the one at h - 1, from whichever node told it first, as soon as
    the points of its clock are delivered. A block whose clock is not all that there is (`is_settled` false: told from
    disk, say) waits instead until every node that is read is final at h and nothing that it said before h is left.
    What a node said by itself is delivered in its order, after the final block at its height, and after its clock.

    Nodes told different blocks for one height: `Divergence`, and no final block is delivered any more.
    Something was skipped on the way: `Again`; the caller asks for it again from `place`.
    What a node said is kept nowhere any more (it restarted, or its reader was too slow): `Gap` names what is missing.
    A node is given up (the caller's patience is over): nobody waits for it. When it is heard again, what it had said
    before something that was delivered meanwhile comes as `Late`: nothing is lost, and nothing pretends to be in order.

So each final block is delivered exactly once, and each local event exactly once: in order, as `Late`, or in a `Gap`.
Points of nodes that aren't read bind nobody. A node that answers, and has not said what another's clock names, denies
it (`Denied`): one of them lies, and from then on a clock counts only as far as the node itself has said.

Pure; the caller has the connections and the clock.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from lockstep.wire.stream import Clock, LocalEvent, Point

FINGERPRINTS_MAX: Final = 65_536
"""Heights for which what was delivered is remembered, to compare with what slower nodes tell."""
AHEAD_MAX: Final = 64
"""So many final blocks of one node,"""
PENDING_MAX: Final = 16_384
"""or so many local events, are held back at most: it is not asked for more."""


@dataclass(frozen=True, slots=True)
class FinalBlock:
    """A final block as a node told it. `fingerprint`: what must be the same whoever tells it."""

    height: int
    fingerprint: bytes
    clock: Clock
    is_settled: bool
    body: object = None
    """The caller's own."""


@dataclass(frozen=True, slots=True)
class Told:
    """One answer of a node: consecutive final blocks, and what it said after a place. See `EventBatch`."""

    node: int
    epoch: int
    oldest: int
    sequence: int
    height: int
    blocks: tuple[FinalBlock, ...] = ()
    local: tuple[LocalEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class Joined:
    """From here on, what a node says is delivered; what it said before is not."""

    node: int
    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True)
class BlockDelivered:
    """A final block, as `node` told it."""

    node: int
    block: FinalBlock


@dataclass(frozen=True, slots=True)
class LocalDelivered:
    """What a node said."""

    node: int
    epoch: int
    event: LocalEvent


@dataclass(frozen=True, slots=True)
class Late:
    """What a node said before something that was delivered while the node was given up."""

    node: int
    epoch: int
    event: LocalEvent


@dataclass(frozen=True, slots=True)
class Gap:
    """What a node said from `first` to `last` of an epoch cannot be had any more. `last` 0: to the epoch's end."""

    node: int
    epoch: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Divergence:
    """Two nodes told different final blocks for one height. One of them is wrong."""

    height: int
    nodes: tuple[int, int]
    fingerprints: tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Denied:
    """Something depends on what this node has not said, by its own account, until `place` (epoch, sequence)."""

    node: int
    place: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Again:
    """Something was skipped: ask this node again, from its `place`."""

    node: int


Output = Joined | BlockDelivered | LocalDelivered | Late | Gap | Divergence | Denied | Again


@dataclass(frozen=True, slots=True)
class _Jump:
    """Between what a node said and the next of it that can be had: the first of `epoch` is `sequence`."""

    epoch: int
    sequence: int


@dataclass(slots=True)
class _Source:
    """One node that is read."""

    next_height: int
    epoch: int = 0
    """Of what was taken last; 0: never heard."""
    taken: int = 0
    """Sequence of what was taken last: delivered, or pending."""
    pending: deque[LocalEvent | _Jump] = field(default_factory=deque)
    at: tuple[int, int] = (0, 0)
    """(epoch, sequence) delivered."""
    heard_height: int = -1
    """It was final there when all that it had said was taken."""
    is_given_up: bool = False
    is_clamped: bool = False
    """Others' clocks count only as far as it has said itself."""
    waived: tuple[int, int] = (0, 0)
    """Delivered events depend on what it said up to here, given up meanwhile."""
    waived_height: int = -1
    """A block at this height was delivered without waiting for what it said before."""


class Merger:
    """One merged stream, from `height` on."""

    def __init__(self, nodes: list[int], height: int) -> None:
        self._sources = {node: _Source(height) for node in sorted(nodes)}
        self.height = height - 1
        """The newest final block that was delivered."""
        self._newest = height - 1
        self._waiting: dict[int, list[tuple[int, FinalBlock]]] = {}
        self._fingerprints: dict[int, tuple[int, bytes]] = {}
        self._out: list[Output] = []
        self.divergence: Divergence | None = None

    # -- what the caller needs for asking -------------------------------------------------------------

    def place(self, node: int) -> tuple[int, int, int]:
        """(height, epoch, sequence) to ask a node from: the next block, and what was heard of it last."""
        source = self._sources[node]
        return source.next_height, source.epoch, source.taken

    def is_full(self, node: int) -> bool:
        """Whether so much of this node is held back that it should not be asked for more."""
        source = self._sources[node]
        return len(source.pending) >= PENDING_MAX or source.next_height > self.height + AHEAD_MAX

    def blocking(self) -> list[int]:
        """Nodes that something which is here waits for. Empty when nothing is held back."""
        found: dict[int, None] = {}
        for node, block in self._waiting.get(self.height + 1, ()):
            found.update(dict.fromkeys(self._lacking(block, node)))
        for source in self._sources.values():
            front = source.pending[0] if source.pending else None
            if isinstance(front, LocalEvent) and self.height >= front.height:
                found.update(dict.fromkeys(self._missing(front.clock)))
        return sorted(found)

    def add(self, node: int, clock: Clock = ()) -> None:
        """Read another node too, from here on. `clock`: what was delivered before, of a stream that is gone on with."""
        if node not in self._sources:
            source = self._sources[node] = _Source(self.height + 1)
            for point in clock:
                if point.node == node:
                    source.epoch, source.taken = source.at = point.epoch, point.sequence

    # -- what happens ---------------------------------------------------------------------------------

    def told(self, told: Told) -> list[Output]:
        """A node answered."""
        source = self._sources[told.node]
        source.is_given_up = False
        is_complete = self._take_local(told, source)
        if is_complete and (source.epoch, source.taken) == (told.epoch, told.sequence):
            source.heard_height = max(source.heard_height, told.height)
        for block in told.blocks:
            is_complete &= self._take_block(told.node, block, source)
        if not is_complete:
            self._out.append(Again(told.node))
        return self._deliver()

    def give_up(self, node: int, *, is_answering: bool = False) -> list[Output]:
        """Wait for this node no more, until it is heard again. If it answers all the while, what others wait for is
        something that it has not said: their clocks count no more than its word."""
        source = self._sources[node]
        if is_answering and not source.is_clamped:
            source.is_clamped = True
            self._out.append(Denied(node, (source.epoch, source.taken)))
        source.is_given_up = not is_answering
        return self._deliver()

    # -- taking ---------------------------------------------------------------------------------------

    def _take_local(self, told: Told, source: _Source) -> bool:
        """Append what is new; False when something is missing that can be asked for again."""
        if source.epoch == 0:
            source.epoch, source.taken = source.at = told.epoch, told.sequence
            self._out.append(Joined(told.node, told.epoch, told.sequence))
            return True
        if told.epoch < source.epoch:
            return True  # an answer that was overtaken by the node's restart
        if told.epoch > source.epoch or told.oldest > source.taken + 1:
            source.pending.append(_Jump(told.epoch, told.oldest))
            if told.epoch > source.epoch:
                source.is_clamped = False
            source.epoch, source.taken = told.epoch, told.oldest - 1
        for event in told.local:
            if event.sequence > source.taken + 1:
                return False
            if event.sequence == source.taken + 1:
                source.pending.append(event)
                source.taken += 1
        return True

    def _take_block(self, node: int, block: FinalBlock, source: _Source) -> bool:
        if block.height > source.next_height:
            return False
        self._compare(node, block)
        if block.height == source.next_height:
            source.next_height += 1
            if block.height > self.height:
                self._waiting.setdefault(block.height, []).append((node, block))
        return True

    def _compare(self, node: int, block: FinalBlock) -> None:
        """Every height's first teller is compared with all others, as long as it is remembered."""
        if block.height > self._newest:
            self._newest = block.height
            self._fingerprints[block.height] = node, block.fingerprint
        first = self._fingerprints.get(block.height)
        if first is not None and first[1] != block.fingerprint and self.divergence is None:
            self.divergence = Divergence(block.height, (first[0], node), (first[1], block.fingerprint))
            self._out.append(self.divergence)

    # -- delivering -----------------------------------------------------------------------------------

    def _deliver(self) -> list[Output]:
        while self._deliver_block() or any(self._deliver_local(node) for node in self._sources):
            pass
        lowest = min(source.next_height for source in self._sources.values())
        lowest = max(lowest, self.height - FINGERPRINTS_MAX)
        while self._fingerprints and (height := next(iter(self._fingerprints))) < lowest:
            del self._fingerprints[height]
        out, self._out = self._out, []
        return out

    def _deliver_block(self) -> bool:
        height = self.height + 1
        if self.divergence is not None:
            return False
        for node, block in self._waiting.get(height, ()):
            if not self._lacking(block, node):
                break
        else:
            return False
        self._waive(block.clock, -1 if block.is_settled else height)
        del self._waiting[height]
        self.height = height
        self._out.append(BlockDelivered(node, block))
        return True

    def _lacking(self, block: FinalBlock, node: int) -> list[int]:
        """The nodes that a block waits for: what they said, or whether they have said it."""
        missing = self._missing(block.clock)
        if not block.is_settled:
            missing += [other for other in self._sources if not self._has_told_all_before(other, block.height)]
        return missing

    def _missing(self, clock: Clock) -> list[int]:
        """Nodes of a clock whose points are not delivered, and that are waited for."""
        return [point.node for point in clock if not self._is_delivered(point)]

    def _is_delivered(self, point: Point) -> bool:
        source = self._sources.get(point.node)
        if source is None or source.is_given_up:
            return True
        place = point.epoch, point.sequence
        if source.is_clamped:
            place = min(place, (source.epoch, source.taken))
        return source.epoch != 0 and source.at >= place

    def _has_told_all_before(self, node: int, height: int) -> bool:
        """Whether nothing that this node said before it was final at `height` can still come."""
        source = self._sources[node]
        if source.is_given_up:
            return True
        front = next((event for event in source.pending if isinstance(event, LocalEvent)), None)
        if front is not None and front.height < height:
            return False
        return front is not None or source.heard_height >= height

    def _waive(self, clock: Clock, height: int) -> None:
        """Something is delivered that depends on nodes which are given up: remember how far."""
        for source in self._sources.values():
            if source.is_given_up:
                source.waived_height = max(source.waived_height, height)
        for point in clock:
            waived = self._sources.get(point.node)
            if waived is not None and waived.is_given_up:
                waived.waived = max(waived.waived, (point.epoch, point.sequence))

    def _deliver_local(self, node: int) -> bool:
        source = self._sources[node]
        if not source.pending:
            return False
        front = source.pending[0]
        epoch, sequence = source.at
        if isinstance(front, _Jump):
            is_new = front.epoch > epoch
            self._out.append(Gap(node, epoch, sequence + 1, 0 if is_new else front.sequence - 1))
            if is_new and front.sequence > 1:
                self._out.append(Gap(node, front.epoch, 1, front.sequence - 1))
            source.at = front.epoch, front.sequence - 1
        elif (epoch, front.sequence) <= source.waived or front.height < source.waived_height:
            self._out.append(Late(node, epoch, front))
            source.at = epoch, front.sequence
        elif self.height >= front.height and not self._missing(front.clock):
            self._waive(front.clock, -1)
            self._out.append(LocalDelivered(node, epoch, front))
            source.at = epoch, front.sequence
        else:
            return False
        source.pending.popleft()
        return True
