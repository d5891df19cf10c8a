"""What this node says by itself, numbered; and what it has heard that others said.

Upon a bundle that a client hands in: say so, and spread the bundle with the place where it was said (its stamp).
Upon a stamped bundle from a peer: its sender has said so much. A stamp counts only for the one who sends it: nobody
speaks for another, so a lie about a clock is always the liar's own.
Upon a final block: its clock is made of the stamps of its bundles. It is complete (`settled`) when each bundle has one;
bundles that were fetched, or came out of the log, have none.

Events are kept in a ring; whoever reads too slowly is told what is missing. `epoch` is the time of the start.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from lockstep.base.digest import ZERO_DIGEST
from lockstep.base.limits import EMPTY_DEPTH_MAX
from lockstep.node.tree import Tree
from lockstep.pool.pool import Pool
from lockstep.wire.bundle import Bundle
from lockstep.wire.client import Fate
from lockstep.wire.stream import Clock, LocalEvent, LocalKind, Point, clock_of

RING_EVENTS_MAX: Final = 8_192
HEIGHT_AHEAD_MAX: Final = EMPTY_DEPTH_MAX
"""A stamp from further ahead than this is not believed: what comes after it could not be shown for so long."""
Stamp = tuple[int, int, int]
"""(epoch, sequence, height) of what a node said when it took a bundle."""
_KINDS: Final = {"expired": LocalKind.EXPIRED, "rejected": LocalKind.REJECTED}


class Said:
    """One node's voice and ears."""

    def __init__(self, node: int, validators: int, tree: Tree, pool: Pool, epoch: int) -> None:
        self.node = node
        self.epoch = epoch
        self._validators = validators
        self._tree = tree
        self._pool = pool
        self._ring: deque[LocalEvent] = deque(maxlen=RING_EVENTS_MAX)
        self._height = 0
        self._heard: dict[int, tuple[Point, int]] = {}
        """By validator: its last stamp, and the highest block that one of its stamps came after."""
        self.times_heard = 0
        self._stamps: dict[bytes, dict[int, Stamp]] = {}
        """By pending bundle and node. No larger than the pool."""
        self._state = ""
        self.say(LocalKind.STARTED)

    @property
    def sequence(self) -> int:
        """Of what was said last."""
        return self._ring[-1].sequence

    @property
    def oldest(self) -> int:
        """The first sequence that is still kept."""
        return self._ring[0].sequence

    def since(self, sequence: int, count: int) -> tuple[LocalEvent, ...]:
        """What was said after this sequence, so much of it."""
        begin = max(0, sequence + 1 - self.oldest)
        return tuple(self._ring[place] for place in range(begin, min(begin + count, len(self._ring))))

    def clock(self) -> Clock:
        """What was heard, and what was said."""
        return clock_of([*(point for point, _ in self._heard.values()), Point(self.node, self.epoch, self.sequence)])

    # -- speaking -------------------------------------------------------------------------------------

    def say(
        self, kind: LocalKind, digest: bytes = ZERO_DIGEST, account: int = 0, number: int = 0, detail: str = "",
        clock: Clock = (),
    ) -> Stamp:  # fmt: skip
        """Number an event. It comes after the final block here, and after `clock`."""
        self._height = max(self._height, self._tree.root.height)
        sequence = self._ring[-1].sequence + 1 if self._ring else 1
        self._ring.append(LocalEvent(sequence, kind, self._height, clock, digest, account, number, detail))
        return self.epoch, sequence, self._height

    def taken(self, bundle: Bundle, after: Clock) -> Stamp:
        """A client's bundle is in the pool. It comes after what the client has seen (`after`), and after its account's
        bundle before it, where that was taken."""
        before = self._pool.pending(bundle.account, bundle.sequence - 1)
        stamps = {} if before is None else self._stamps.get(before.digest, {})
        clock = clock_of([*after, *_points(stamps)])
        self._height = max([self._height, *(self._heard[p.node][1] for p in clock if p.node in self._heard)])
        others = tuple(point for point in clock if point.node != self.node)
        stamp = self.say(LocalKind.TAKEN, bundle.digest, bundle.account, bundle.sequence, "", others)
        self._stamps.setdefault(bundle.digest, {})[self.node] = stamp
        return stamp

    def stamp_of(self, digest: bytes) -> Stamp | None:
        """Where this node said that it took a bundle that is still pending."""
        return self._stamps.get(digest, {}).get(self.node)

    def closed(self, fate: Fate, bundle: Bundle) -> None:
        """A pending bundle has a fate other than final."""
        self._stamps.pop(fate.digest, None)
        self.say(_KINDS[fate.status], fate.digest, bundle.account, bundle.sequence, fate.reason)

    def state(self, word: str) -> None:
        """How this node is, now."""
        if word != self._state:
            self._state = word
            self.say(LocalKind.STATE, detail=word)

    # -- hearing --------------------------------------------------------------------------------------

    def heard(self, peer: int, stamp: Stamp, digest: bytes) -> None:
        """A validator sent a bundle, and said where it said so."""
        epoch, sequence, height = stamp
        if not 0 <= peer < self._validators or height > self._tree.root.height + HEIGHT_AHEAD_MAX:
            return
        point = Point(peer, epoch, sequence)
        before, highest = self._heard.get(peer, (point, height))
        self._heard[peer] = max(before, point), max(highest, height)
        self.times_heard += 1
        if self._pool.get(digest) is not None:
            stamps = self._stamps.setdefault(digest, {})
            stamps[peer] = max(stamps.get(peer, stamp), stamp)

    def has_heard(self, clock: Clock) -> bool:
        """Whether all of this was heard, or said."""
        return all(self._has(point) for point in clock)

    def _has(self, point: Point) -> bool:
        if point.node == self.node:
            return (point.epoch, point.sequence) <= (self.epoch, self.sequence)
        heard = self._heard.get(point.node)
        return heard is not None and heard[0] >= point

    # -- final blocks ---------------------------------------------------------------------------------

    def final(self, height: int, bundles: Iterable[Bundle]) -> tuple[Clock, bool]:
        """(clock, settled) of a block that is final now. A stamp from its height or above is no cause of it."""
        points: list[Point] = []
        settled = True
        for bundle in bundles:
            stamps = {n: s for n, s in self._stamps.pop(bundle.digest, {}).items() if s[2] < height}
            points += _points(stamps)
            settled = settled and bool(stamps)
        return clock_of(points), settled


def _points(stamps: dict[int, Stamp]) -> list[Point]:
    return [Point(node, epoch, sequence) for node, (epoch, sequence, _) in stamps.items()]
