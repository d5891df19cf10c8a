"""Fetching a certified state, whole or as far as it differs, from several peers at once.

    Upon beginning: ask every peer for its checkpoint. An offer is the header, a finalization of it, and the manifest,
    whose hash that finalization signs: it is checked at once, and is worth the same whoever sent it.
    Upon an offer by validators that are not known: follow the changes that lead to them (`succession`).
    Upon the first good offer above our own height: it becomes the target. Peers with another one are asked again for
    that one, for they may serve it too; a node that serves several keeps the older for a while.
    While there is a target: walk its trees beside what is here (`state_walk`), with as many requests to each peer as
    it has shown to answer (`state_peers`). Each answer is checked on arrival; chunks go to the staging area of the
    store, once. A request that is late is asked of another peer too; the first good answer counts.
    Upon a wrong answer or a false offer: name the peer, bar it, and ask the others.
    Upon a wrong answer that nobody vouches for (it came over a plain connection, and anybody on the way may have
    changed it): accuse nobody, have that connection left (`doubted`), and ask again; what comes then has the peer's
    word.
    Upon the answer that the checkpoint is gone: ask for offers again, and go for another when nobody serves this one,
    or when as many serve a newer one. What was stored stays, and is found in the next walk like anything else that is
    here: the target moves, the work is kept.
    When the walk is done and all is stored: complete.

Ends as long as one honest peer that serves a checkpoint is reached: others cost at most a time-out each time that they
are tried, at doubling distances. After a crash the staging area is read back and hashed: nothing is fetched twice.

Pure: the caller sends what `asks` holds, reads what `reads` names, stores `arrived`, says when that is stored, and
brings answers and ticks.
"""

from dataclasses import dataclass, field
from typing import Final

from lockstep.base.errors import Reason, Refused
from lockstep.base.marks import reached
from lockstep.sync.local_table import LocalTable
from lockstep.sync.state_offer import Target, check_offer, read_offer
from lockstep.sync.state_peers import StatePeer, StatePeers
from lockstep.sync.state_walk import Array, Arrived, Kind, Piece, StateWalk
from lockstep.sync.succession import Succession
from lockstep.wire.certificate import verify_certificate
from lockstep.wire.light import AskLight, LightReply
from lockstep.wire.message import CheckpointOffer, FetchCheckpoint, FetchState, StatePart
from lockstep.wire.validators import ValidatorSet

OFFERS_EVERY_US: Final = 1_000_000
UNSTORED_BYTES_MAX: Final = 64 * 1024 * 1024
MEASURED_US: Final = 1_000_000
HEDGE_US: Final = 250_000
"""A request older than this, and several times older than a ready peer needs, is asked of that one too."""
COPIES_MAX: Final = 2
KEEP_US: Final = 2_000_000
"""A target is kept at least so long, each further one twice as long, while somebody serves it,"""
KEEP_ALONE_US: Final = 10_000_000
"""and so long when fewer peers serve the newer one."""
DOUBLINGS_MAX: Final = 6


@dataclass(slots=True, eq=False)
class _Flight:
    piece: Piece
    peer: int
    sent_us: int
    due_us: int
    copies: list[int] = field(default_factory=list)
    """Numbers of all requests for this piece; shared between them."""


class StateSync:
    """One effort to reach a newer state. Give it `local` when the world has read it (`needs_local`)."""

    def __init__(
        self, validators: ValidatorSet, own_height: int, ranges: dict[int, tuple[int, int]] | None = None,
        succession: Succession | None = None,
    ) -> None:  # fmt: skip
        """Without `succession`, only such offers are taken as one step of trust leads to (`check_offer`)."""
        self._validators = validators
        self._succession = succession
        self._own_height = own_height
        self._ranges = ranges
        self.peers = StatePeers()
        self.target: Target | None = None
        self._moves = 0
        self._aimed_us = 0
        self.walk: StateWalk | None = None
        self._flights: dict[int, _Flight] = {}
        self._number = 0
        self._unstored = 0
        self._offers_due_us = 0
        self._ticked_us = 0
        self.asks: list[tuple[int, FetchCheckpoint | FetchState | AskLight]] = []
        """Requests to be sent, by peer."""
        self.arrived: list[Arrived] = []
        """To be stored."""
        self.blamed: list[tuple[int, str]] = []
        """Peers that lied, and what about; told once."""
        self.doubted: list[int] = []
        """Peers whose parts are to come over no plain connection any more."""
        self.reads: list[tuple[int, list[int]]] = []
        """Tables, and their ranges, of which the world is to read the leaves and hand them to `leaves_read`."""
        self.needs_local = False
        """The world is to read what is here, in the shape of `target`, and hand it to `begin_walk`."""
        self.bytes_fetched = 0
        self.began_us = -1

    # -- what is known --------------------------------------------------------------------------------

    @property
    def is_complete(self) -> bool:
        """Everything is fetched, checked and stored."""
        return self.walk is not None and self.walk.is_done and not self._unstored

    @property
    def is_wanting(self) -> bool:
        """Whether any peer serves the target."""
        return self.target is not None and bool(self.peers.serving(self.target.header.height))

    def rate(self, now_us: int) -> int:
        """Bytes a second since the walk began; 0 when that is not long enough ago to say."""
        elapsed = now_us - self.began_us
        return self.bytes_fetched * 1_000_000 // elapsed if self.began_us >= 0 and elapsed >= MEASURED_US else 0

    def deadline(self) -> int:
        """When `tick` has something to do."""
        times = [self._offers_due_us, *(flight.due_us for flight in self._flights.values())]
        if self._succession is not None and (due := self._succession.deadline()) is not None:
            times.append(due)
        hedges = [flight.sent_us + HEDGE_US for flight in self._flights.values()]
        return min([*times, *(due for due in hedges if due > self._ticked_us)])

    # -- peers come and go ----------------------------------------------------------------------------

    def tick(self, connected: list[int], now_us: int) -> None:
        """Time passes; `connected` are the peers that can be asked."""
        self._ticked_us = now_us
        for peer in [p for p in self.peers.peers if p not in connected]:
            self._lost(peer)
        for number, flight in list(self._flights.items()):
            if flight.due_us <= now_us:
                reached("state: a peer did not answer in time")
                self._end(number)
                self.peers.of(flight.peer).stalled(now_us)
                self.doubted.append(flight.peer)
        if self._succession is not None:
            self._succession.tick(connected, now_us)
            self._follow(now_us)
        if now_us >= self._offers_due_us:
            self._ask_offers(connected, now_us)
        self._fill(now_us)

    def _lost(self, peer: int) -> None:
        known = self.peers.of(peer)
        known.height = -1
        for number, flight in list(self._flights.items()):
            if flight.peer == peer:
                self._end(number)
                known.asked -= 1

    def _ask_offers(self, connected: list[int], now_us: int) -> None:
        """Everybody who does not serve the target is asked, again and again: it may by now, or something newer."""
        self._offers_due_us = now_us + OFFERS_EVERY_US
        height = self.target.header.height if self.target is not None else 0
        for peer in connected:
            known = self.peers.of(peer)
            if not known.barred and (known.height != height or self.target is None):
                self.asks.append((peer, FetchCheckpoint(height)))

    def offered(self, peer: int, offer: CheckpointOffer, now_us: int) -> None:
        """A peer shows its checkpoint."""
        known = self.peers.of(peer)
        if known.barred:
            return
        if self.target is not None and offer == self.target.offer:
            target = self.target
        else:
            try:
                target = self._check(offer)
            except Refused as refused:
                if refused.reason is not Reason.STRANGER:
                    self._blame(peer, str(refused))
                elif self._succession is not None:
                    self._succession.offered(peer, offer, now_us)
                    self._follow(now_us)
                return
        if target.header.height == known.gone:
            return  # it said that it doesn't serve that one
        known.height = target.header.height
        if known.height > self._own_height and self._is_better(target, now_us):
            self._aim(target, now_us)
        self._fill(now_us)

    def _check(self, offer: CheckpointOffer) -> Target:
        """Raises `Refused`, with `STRANGER` when it can't be said by the sets that are known."""
        if self._succession is None:
            return check_offer(offer, self._validators)
        target, own = read_offer(offer, self._validators.chain_id), self._validators
        named = target.header.validators
        known = own if named == own.hash else self._succession.known(named)
        if known is None:
            raise Refused(Reason.STRANGER, "the validators that signed the checkpoint are not known")
        verify_certificate(offer.certificate, known)
        return target

    def shown(self, peer: int, reply: LightReply, now_us: int) -> None:
        """A peer shows a certified header."""
        if self._succession is not None:
            self._succession.answered(peer, reply, now_us)
            self._follow(now_us)

    def _follow(self, now_us: int) -> None:
        """What became of offers by validators that were not known."""
        succession = self._succession
        assert succession is not None
        self.asks.extend(succession.asks)
        succession.asks.clear()
        blamed, succession.blamed = succession.blamed, []
        for peer, detail in blamed:
            self._blame(peer, detail)
        trusted, succession.trusted = succession.trusted, []
        for peer, offer in trusted:
            reached("state: validators are trusted over a change")
            self.offered(peer, offer, now_us)

    def _is_better(self, target: Target, now_us: int) -> bool:
        """Whether to go for this one. Nobody may hold us at an old state that only he serves; nor may peers whose
        checkpoints differ have us change between them for ever."""
        if self.target is None:
            return True
        present, offered = self.target.header.height, target.header.height
        if not self.peers.serving(present):
            return offered != present
        more = len(self.peers.serving(offered)) >= len(self.peers.serving(present))
        keep_us = (KEEP_US if more else KEEP_ALONE_US) << min(self._moves, DOUBLINGS_MAX)
        return offered > present and now_us >= self._aimed_us + keep_us

    def _aim(self, target: Target, now_us: int) -> None:
        """Go for this one."""
        if self.target is not None:
            reached("state: the target moves")
        self._aimed_us = now_us
        self._moves += 1
        self.target = target
        self.walk = None
        self.reads.clear()
        for number in list(self._flights):
            self.peers.of(self._flights.pop(number).peer).asked -= 1
        self.needs_local = True
        self._offers_due_us = 0

    def begin_walk(self, target: Target, local: list[LocalTable | None], now_us: int) -> None:
        """What is here, in the shape of this target's tables."""
        if self.target is not target:
            return
        if self.began_us < 0:
            self.began_us = now_us
        self.walk = StateWalk(target.manifest, local, self._ranges)
        if any(part is None or part.has_some for part in local):
            reached("state: some of it is here already")
        self._fill(now_us)

    def leaves_read(self, target: Target, table: int, ranges: list[int], leaves: Array, now_us: int) -> None:
        """What is here of these ranges, in the shape of this target."""
        if self.target is target and self.walk is not None:
            reached("state: leaves of a large table are looked up")
            self.walk.read(table, ranges, leaves)
            self._fill(now_us)

    # -- asking ---------------------------------------------------------------------------------------

    def _fill(self, now_us: int) -> None:
        """Ask as much as peers, and what waits to be stored, allow."""
        walk, target = self.walk, self.target
        if walk is None or target is None:
            return
        self.reads += walk.take_reads()
        height = target.header.height
        while self._unstored + self._asked_bytes() < UNSTORED_BYTES_MAX:
            ready = self.peers.ready(height, now_us)
            if not ready:
                return
            piece = walk.next(self.peers.of(ready[0]).part_chunks)
            if piece is None:
                self._hedge(ready, now_us)
                return
            others = [peer for peer in ready if peer not in walk.askers(piece)]
            self._ask((others or ready)[0], piece, [], now_us)

    def _asked_bytes(self) -> int:
        return sum(flight.piece.size_bytes for flight in self._flights.values())

    def _ask(self, peer: int, piece: Piece, copies: list[int], now_us: int) -> None:
        assert self.target is not None
        self._number += 1
        known = self.peers.of(peer)
        due_us = now_us + known.allowed_us(piece.size_bytes)
        copies.append(self._number)
        self._flights[self._number] = _Flight(piece, peer, now_us, due_us, copies)
        known.asked += 1
        indices = b"".join(index.to_bytes(4, "little") for index in piece.indices)
        height = self.target.header.height
        chunks = piece.kind is not Kind.NODES
        request = FetchState(self._number, height, piece.table, piece.level, indices, chunks, piece.marks)
        self.asks.append((peer, request))

    def _hedge(self, ready: list[int], now_us: int) -> None:
        """Nothing new is to be asked: ask a ready peer for what a slow one should have answered."""
        slow = sorted(self._flights.values(), key=lambda flight: flight.sent_us)
        for flight in slow:
            for peer in ready:
                known = self.peers.of(peer)
                waited = now_us - flight.sent_us
                if (
                    waited >= HEDGE_US and waited > 4 * known.latency_us and len(flight.copies) < COPIES_MAX
                    and peer != flight.peer and known.asked < known.window
                ):  # fmt: skip
                    reached("state: a second peer is asked for what is late")
                    self._ask(peer, flight.piece, flight.copies, now_us)
                    break

    def _end(self, number: int) -> None:
        """A request comes to nothing; its piece is asked for again, unless another request for it is under way."""
        flight = self._flights.pop(number)
        flight.copies.remove(number)
        if not flight.copies and self.walk is not None:
            self.walk.give_back(flight.piece)

    # -- answers --------------------------------------------------------------------------------------

    def answered(
        self, peer: int, part: StatePart, now_us: int, is_vouched: bool = True, leaves: Array | None = None
    ) -> None:
        """An answer came; `is_vouched`: over a connection that proves that the peer sent it; `leaves`: see
        `StateWalk.take`. One that nobody waits for any more is of no use, and no lie."""
        flight = self._flights.get(part.request)
        if flight is None or flight.peer != peer or self.walk is None:
            return
        known = self.peers.of(peer)
        if not is_vouched and (not part.data or flight.piece.kind is not Kind.CHUNKS):
            self._doubt(peer, now_us)
            return
        if not part.data:
            self._gone(known, part.request)
            self._fill(now_us)
            return
        try:
            arrived = self.walk.take(flight.piece, part.data, peer, leaves)
        except Refused as refused:
            if is_vouched:
                self._blame(peer, str(refused))
                self._fill(now_us)
            else:
                self._doubt(peer, now_us)
            return
        known.answered(len(part.data), now_us - flight.sent_us)
        self.bytes_fetched += len(part.data)
        for number in flight.copies:
            other = self._flights.pop(number)
            if number != part.request:
                self.peers.of(other.peer).stalled(now_us)
        if arrived is not None:
            self._unstored += arrived.data.nbytes
            self.arrived.append(arrived)
        liars = [liar for liar in self.walk.pending.take_liars() if not self.peers.of(liar).barred]
        for liar in liars:
            self._blame(liar, "chunks that it sent, or did not send, are not those of the state")
        self._fill(now_us)

    def _gone(self, known: StatePeer, number: int) -> None:
        """It doesn't serve the target any more."""
        reached("state: a peer does not serve the target any more")
        known.asked -= 1
        if known.height >= 0:
            known.gone, known.height = known.height, -1
        self._end(number)
        self._offers_due_us = 0

    def _doubt(self, peer: int, now_us: int) -> None:
        """What came over the plain connection with this peer is wrong, whoever made it so."""
        reached("state: a part that nobody vouches for is wrong")
        self.doubted.append(peer)
        self.plain_lost(peer, now_us)

    def plain_lost(self, peer: int, now_us: int) -> None:
        """The plain connection with this peer is gone, and answers under way with it: they are asked for again."""
        for number, flight in list(self._flights.items()):
            if flight.peer == peer and flight.piece.kind is Kind.CHUNKS:
                self._end(number)
                self.peers.of(peer).asked -= 1
        self._fill(now_us)

    def stored(self, size: int, now_us: int) -> None:
        """So many bytes of `arrived` are in the store."""
        self._unstored -= size
        self._fill(now_us)

    def _blame(self, peer: int, detail: str) -> None:
        reached("state: a peer lied")
        self.peers.of(peer).barred = detail
        self.blamed.append((peer, detail))
        self._lost(peer)
