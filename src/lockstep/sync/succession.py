"""From the validators that are known here to those that signed an offered checkpoint, over the changes between them.

Upon an offer by a set that is not known: judge its header by the light client's rule (`light_rule`), from the newest
  header that is trusted here. Where trust does not reach so far, ask the peer that offered it for the certified header
  half-way, and again for one half-way to that; down, if need be, to an epoch's last block, whose certificate by a set
  that is known names the next set.
Upon an answer: what its own header names and signs must hold, or the peer is blamed. Trusted: go on from there, with
  what waited for it. What was trusted once is where the next peer's walk begins.
Upon an answer without a header, because the peer has pruned it or has no certificates there; upon none in time: leave
  the peer alone for a while. Others are asked meanwhile, some at a time.
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
from lockstep.sync.light_rule import DAY_MS, Anchor, Claim, Rule, Verdict, judge
from lockstep.sync.light_shown import Shown, examine
from lockstep.wire.block import Header
from lockstep.wire.light import HEADERS_PER_REPLY_MAX, AskLight, LightReply
from lockstep.wire.message import CheckpointOffer
from lockstep.wire.validators import ValidatorSet

WALKS_MAX: Final = 4
"""Peers that are asked at a time."""
TIMEOUT_US: Final = 1_500_000
WALK_US: Final = 15_000_000
ANSWERS_MAX: Final = 128
"""So long, and so many answers, may a peer take until it leads to something that is trusted, again and again. Halving
any distance takes fewer."""
RESTING_US: Final = 1_000_000
DOUBLINGS_MAX: Final = 5
SETS_MAX: Final = 16


@dataclass(slots=True)
class _Waiting:
    """A header that is out of trust's reach."""

    shown: Shown
    low: int
    """From here on up to it there is no other certified header, if its sender is right."""
    first: int
    """Headers that link from this height up to it were shown."""


@dataclass(slots=True)
class _Walk:
    """What one peer leads to."""

    offer: CheckpointOffer
    anchor: Anchor
    waiting: list[_Waiting]
    """The offer's header, and then lower and lower ones."""
    token: int = 0
    half_way: int = 0
    """The certified header of this height is looked for, or the next above it."""
    asked: int = 0
    """The height that was asked for: half-way, or above that."""
    due_us: int = 0
    began_us: int = 0
    """Or when something was trusted last."""
    answers: int = 0


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
        self._told: dict[str, None] = {}
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
        self._walks[peer] = _Walk(offer, anchor, [_Waiting(shown, height, height)], began_us=now_us)
        self._go(peer, self._walks[peer], now_us)

    def answered(self, peer: int, reply: LightReply, now_us: int) -> None:
        """An answer came. One that nobody waits for any more is of no use, and no lie."""
        walk = self._walks.get(peer)
        if walk is None or reply.token != walk.token:
            return
        walk.answers += 1
        try:
            shown = examine(reply, self._chain_id)
        except Refused as refused:
            self._blame(peer, str(refused))
            return
        if walk.answers > ANSWERS_MAX:
            self._rest(peer, now_us)
        elif shown is None:
            self._lacks(peer, walk, reply.lowest, now_us)
        elif shown.headers[0].height != walk.asked:
            self._blame(peer, f"it shows header {shown.headers[0].height} where {walk.asked} was asked for")
        else:
            lowest = walk.waiting[-1]
            if shown.header.height < lowest.low:
                walk.waiting.append(_Waiting(shown, walk.half_way, walk.asked))
            else:
                lowest.low = walk.half_way
                if any(header.digest == lowest.shown.header.digest for header in shown.headers):
                    lowest.first = walk.asked
            self._go(peer, walk, now_us)

    def _lacks(self, peer: int, walk: _Walk, lowest: int, now_us: int) -> None:
        """Nothing at this height: it was pruned there; or no header is certified in all that an answer has room for."""
        above = walk.asked + HEADERS_PER_REPLY_MAX
        if walk.asked < lowest:
            reached("succession: a peer has no headers there")
            self._rest(peer, now_us)
        elif above < walk.waiting[-1].low:
            reached("succession: no certificate in many headers")
            self._ask(peer, walk, above, now_us)
        else:
            walk.waiting[-1].low = walk.half_way
            self._go(peer, walk, now_us)

    def _go(self, peer: int, walk: _Walk, now_us: int) -> None:
        """Trust what can be trusted now, and ask for what is between that and what cannot."""
        while walk.waiting:
            anchor, newest = walk.anchor, walk.waiting[-1]
            claim = newest.shown.claim
            if self._is_out_of_time(anchor, claim, now_us // 1000):
                self._rest(peer, now_us)
                return
            verdict, why = judge(anchor, claim, now_us // 1000, self._rule)
            if verdict is Verdict.INVALID:
                self._blame(peer, f"header {claim.height}: {why}")
                return
            if verdict is Verdict.NOT_ENOUGH_TRUST:
                self._halve(peer, walk, newest, now_us)
                return
            walk.waiting.pop()
            self._trust(walk, newest.shown, now_us)
        del self._walks[peer]
        self._resting.pop(peer, None)
        self.trusted.append((peer, walk.offer))

    def _halve(self, peer: int, walk: _Walk, newest: _Waiting, now_us: int) -> None:
        below = walk.anchor.height
        if newest.low > below + 1:
            reached("succession: headers between are asked for")
            walk.half_way = (below + newest.low) // 2
            self._ask(peer, walk, walk.half_way, now_us)
        elif newest.first == below + 1:
            # All headers from the trusted one on, linked, and an epoch ends among them: its last block is final by
            # itself (decision 0017), so its certificate would have been shown.
            self._blame(peer, f"no certificates lead from block {below} to header {newest.shown.header.height}")
        else:
            reached("succession: a peer has too few certificates")
            self._rest(peer, now_us)

    def _ask(self, peer: int, walk: _Walk, height: int, now_us: int) -> None:
        self._token += 1
        walk.token, walk.asked = self._token, height
        walk.due_us = min(now_us + TIMEOUT_US, walk.began_us + WALK_US)
        self.asks.append((peer, AskLight(self._token, height)))

    def _trust(self, walk: _Walk, shown: Shown, now_us: int) -> None:
        state = shown.state
        walk.anchor, walk.answers, walk.began_us = state.anchor, 0, now_us
        if self._newest is None or self._newest.height < walk.anchor.height:
            self._newest = walk.anchor
        for validators in (shown.validators, state.validators):
            self._sets.pop(validators.hash, None)
            self._sets[validators.hash] = validators, shown.header.time_ms
        while len(self._sets) > SETS_MAX:
            del self._sets[next(iter(self._sets))]

    # -- ends -----------------------------------------------------------------------------------------

    def _is_out_of_time(self, anchor: Anchor, claim: Claim, now_ms: int) -> bool:
        """Whether nothing can be said, for a clock's sake: that is nobody's lie. The operator is told, once."""
        if anchor.time_ms is not None and anchor.time_ms + self._rule.period_ms <= now_ms:
            reached("succession: what is trusted is too old")
            self._tell(
                "period",
                f"a state by other validators is offered; block {anchor.height}, from which they would be verified, is "
                f"older than {self._rule.period_ms // DAY_MS} days: its validators may have left since, so only blocks "
                "are fetched. Connect a node that keeps them all (mode archive)",
            )
            return True
        if claim.time_ms >= now_ms + self._rule.drift_ms:
            reached("succession: a header from the future")
            self._tell(
                "future",
                f"header {claim.height} is from the future, so it can't be verified: check this machine's clock",
            )
            return True
        return False

    def _tell(self, kind: str, text: str) -> None:
        if kind not in self._told:
            self._told[kind] = None
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
