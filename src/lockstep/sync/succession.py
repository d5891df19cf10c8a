"""From the validators that are known here to those that signed an offered checkpoint, over the changes between them.

Upon an offer by a set that is not known: judge its header by the light client's rule, from the newest header that is
  trusted here, over headers in between that the peer shows (`bisection`). What was trusted once is where the next
  peer's walk begins.
Upon an answer that can't hold: the peer is blamed.
Upon none in time, or none that leads further: leave the peer alone for a while. Others are asked meanwhile, some at a
  time.
When the offer's own header is trusted, so is its set, for this offer and for others.

So a set is trusted here only if certificates lead to it, each by more than a third of the set before. That holds as
long as validators keep away from their old keys: a header older than the trusting period says nothing any more, and a
node that was away for longer replays blocks, or is begun anew. The genesis is of any age: whoever gave it vouches.

Pure: the caller sends what `asks` holds, brings offers, answers and ticks, names those in `blamed`, offers again what
is in `trusted`, and tells the operator what `take_notes` returns.
"""

from dataclasses import dataclass
from typing import Final

from lockstep.base.errors import Refused
from lockstep.base.marks import reached
from lockstep.sync.bisection import Bisection, Turn
from lockstep.sync.light_rule import DAY_MS, Anchor, Rule
from lockstep.sync.light_shown import Shown, examine
from lockstep.wire.block import Header
from lockstep.wire.light import AskLight, LightReply
from lockstep.wire.message import CheckpointOffer
from lockstep.wire.validators import ValidatorSet

WALKS_MAX: Final = 4
"""Peers that are asked at a time."""
TIMEOUT_US: Final = 1_500_000
WALK_US: Final = 15_000_000
"""So long may a peer take until it leads to something that is trusted, again and again."""
RESTING_US: Final = 1_000_000
DOUBLINGS_MAX: Final = 5
SETS_MAX: Final = 16


@dataclass(slots=True)
class _Walk:
    """What one peer leads to."""

    offer: CheckpointOffer
    path: Bisection
    began_us: int
    """Or when something was trusted last."""
    token: int = 0
    due_us: int = 0


@dataclass(slots=True)
class _Resting:
    until_us: int = 0
    times: int = 0


def anchor_at(header: Header, deciding: ValidatorSet) -> Anchor:
    """Trust in a node's own final block, and in the set that decides after it."""
    return Anchor(header.height, header.time_ms if header.height else None, deciding.hash, deciding)


class Succession:
    """All sets that are trusted besides the node's own, and walks to further ones. Call `begin` first."""

    def __init__(self, chain_id: bytes, rule: Rule | None = None) -> None:
        self._chain_id = chain_id
        self._rule = rule or Rule()
        self._own: Anchor | None = None
        self._newest: Anchor | None = None
        """The highest that was trusted on a walk."""
        self._sets: dict[bytes, tuple[ValidatorSet, int]] = {}
        """By hash; with the time of the header that was trusted, in ms."""
        self._walks: dict[int, _Walk] = {}
        self._resting: dict[int, _Resting] = {}
        self._token = 0
        self._told: dict[Turn, None] = {}
        self.asks: list[tuple[int, AskLight]] = []
        """Requests to be sent, by peer."""
        self.trusted: list[tuple[int, CheckpointOffer]] = []
        """Offers, and who made them, whose sets are trusted now."""
        self.blamed: list[tuple[int, str]] = []
        """Peers that lied, and what about; told once."""
        self._notes: list[str] = []

    def begin(self, own: Anchor) -> None:
        """An effort begins; what was trusted on the way before stays trusted."""
        self._own = own
        self._walks.clear()
        self.asks.clear()

    def known(self, named: bytes) -> ValidatorSet | None:
        """A set that was trusted within the trusting period, by its hash."""
        found = self._sets.get(named)
        return None if found is None else found[0]

    def deadline(self) -> int | None:
        """When `tick` has something to do."""
        return min((walk.due_us for walk in self._walks.values()), default=None)

    def tick(self, connected: list[int], now_us: int) -> None:
        """Time passes; `connected` are the peers that can be asked."""
        for peer, walk in list(self._walks.items()):
            if peer not in connected:
                del self._walks[peer]
            elif walk.due_us <= now_us:
                reached("succession: a peer did not answer in time")
                self._rest(peer, now_us)
        for peer in [peer for peer in self._resting if peer not in connected]:
            del self._resting[peer]
        for named in [n for n, (_, at) in self._sets.items() if at + self._rule.period_ms <= now_us // 1000]:
            del self._sets[named]

    def take_notes(self) -> list[str]:
        """What the operator should know, once."""
        notes, self._notes = self._notes, []
        return notes

    # -- walks ----------------------------------------------------------------------------------------

    def offered(self, peer: int, offer: CheckpointOffer, now_us: int) -> None:
        """A peer offers a checkpoint that an unknown set signed. It does so again and again, so it can wait."""
        assert self._own is not None
        resting = self._resting.get(peer)
        is_resting = resting is not None and now_us < resting.until_us
        if peer in self._walks or is_resting or len(self._walks) >= WALKS_MAX:
            return
        try:
            shown = examine(LightReply(0, (offer.header,), offer.certificate, offer.keys, offer.stakes), self._chain_id)
        except Refused as refused:
            self._blame(peer, str(refused))
            return
        assert shown is not None
        height, anchor = shown.header.height, self._own
        if height <= anchor.height:
            return
        if self._newest is not None and anchor.height < self._newest.height < height:
            anchor = self._newest
        reached("succession: a walk begins")
        walk = self._walks[peer] = _Walk(offer, Bisection(anchor, shown, self._rule), now_us)
        self._turn(peer, walk, walk.path.go(now_us // 1000), now_us)

    def answered(self, peer: int, reply: LightReply, now_us: int) -> None:
        """An answer came. One that nobody waits for any more is of no use, and no lie."""
        walk = self._walks.get(peer)
        if walk is None or reply.token != walk.token:
            return
        try:
            shown = examine(reply, self._chain_id, walk.path.asked)
        except Refused as refused:
            self._blame(peer, str(refused))
            return
        self._turn(peer, walk, walk.path.shown(shown, reply.lowest, now_us // 1000), now_us)

    def _turn(self, peer: int, walk: _Walk, turn: Turn, now_us: int) -> None:
        path = walk.path
        for shown in path.trusted:
            self._trust(walk, shown, now_us)
        path.trusted.clear()
        match turn:
            case Turn.ASK:
                reached("succession: headers between are asked for")
                self._token += 1
                walk.token = self._token
                walk.due_us = min(now_us + TIMEOUT_US, walk.began_us + WALK_US)
                self.asks.append((peer, AskLight(walk.token, path.asked)))
            case Turn.ARRIVED:
                del self._walks[peer]
                self._resting.pop(peer, None)
                self.trusted.append((peer, walk.offer))
            case Turn.LIED:
                self._blame(peer, path.why)
            case Turn.LACKS | Turn.EXPIRED | Turn.FUTURE:
                self._tell(turn, path)
                self._rest(peer, now_us)

    def _trust(self, walk: _Walk, shown: Shown, now_us: int) -> None:
        state = shown.state
        walk.began_us = now_us
        if self._newest is None or self._newest.height < state.height:
            self._newest = state.anchor
        for validators in (shown.validators, state.validators):
            self._sets.pop(validators.hash, None)
            self._sets[validators.hash] = validators, shown.header.time_ms
        while len(self._sets) > SETS_MAX:
            del self._sets[next(iter(self._sets))]

    # -- ends -----------------------------------------------------------------------------------------

    def _tell(self, turn: Turn, path: Bisection) -> None:
        """What a clock forbids is nobody's lie. The operator is told, once."""
        if turn is Turn.EXPIRED:
            reached("succession: what is trusted is too old")
            text = (
                f"a state by other validators is offered; block {path.anchor.height}, from which they would be "
                f"verified, is older than {self._rule.period_ms // DAY_MS} days: its validators may have left since, "
                "so only blocks are fetched. Connect a node that keeps them all (mode archive)"
            )
        elif turn is Turn.FUTURE:
            reached("succession: a header from the future")
            text = f"{path.why}, so it can't be verified: check this machine's clock"
        else:
            return
        if turn not in self._told:
            self._told[turn] = None
            self._notes.append(text)

    def _rest(self, peer: int, now_us: int) -> None:
        """It is not to blame, and not of use now."""
        self._walks.pop(peer, None)
        resting = self._resting.setdefault(peer, _Resting())
        resting.until_us = now_us + (RESTING_US << min(resting.times, DOUBLINGS_MAX))
        resting.times += 1

    def _blame(self, peer: int, detail: str) -> None:
        reached("succession: a peer lied")
        self._walks.pop(peer, None)
        self.blamed.append((peer, detail))
