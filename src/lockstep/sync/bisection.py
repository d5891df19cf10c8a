"""From a trusted header to one that a source shows, over certified headers in between, which the same source shows too.

Upon a header that the rule (`light_rule`) accepts from the newest trusted one: trust it, and go on with what waited.
Upon one out of trust's reach: ask for the certified header half-way, or the next above that has a certificate; down, if
  need be, to an epoch's last block, whose certificate by a set that is known names the next set.
Upon an answer without a header: it was pruned there; or that many headers have no certificate of their own, and the
  search goes on above them, or below.
A source that shows every header from the trusted one on, and not the certificate that an epoch's last block always has
(decision 0017), lies. One that lacks headers or certificates does not.

Halving a distance takes few answers; a source that leads to nothing in many is left. Pure.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from lockstep.base.marks import reached
from lockstep.sync.light_rule import Anchor, Rule, Verdict, judge
from lockstep.sync.light_shown import Shown
from lockstep.wire.light import HEADERS_PER_REPLY_MAX

ANSWERS_MAX: Final = 128
"""So many answers may a source give between two headers that are trusted. Halving any distance takes fewer."""


class Turn(Enum):
    """What comes next."""

    ASK = "ask the source for `asked`"
    ARRIVED = "the header that was shown first is trusted"
    LACKS = "the source can't lead there: its headers are pruned, or too few have certificates"
    LIED = "the source showed what can't hold"
    EXPIRED = "what is trusted is older than the trusting period: nobody is to blame"
    FUTURE = "a header is from the future: the source lies, or the clock is slow"


@dataclass(slots=True)
class Waiting:
    """A header that is out of trust's reach."""

    shown: Shown
    low: int
    """From here on up to it there is no other certified header, if its source is right."""
    first: int
    """Headers that link from this height up to it were shown."""


class Bisection:
    """One way from `anchor` to `goal`. Call `go` first."""

    def __init__(self, anchor: Anchor, goal: Shown, rule: Rule) -> None:
        self.anchor = anchor
        """The newest that is trusted."""
        self.goal = goal
        self._rule = rule
        self.waiting = [Waiting(goal, goal.headers[0].height, goal.headers[0].height)]
        """The goal, and then lower and lower headers."""
        self.trusted: list[Shown] = []
        """What was trusted, lowest first; the caller takes them out."""
        self._half_way = 0
        """The certified header of this height is looked for, or the next above it."""
        self.asked = 0
        """The height to ask for: half-way, or above that."""
        self.answers = 0
        self.why = ""
        """Of the last turn, when that is no `ASK` or `ARRIVED`."""

    def go(self, now_ms: int) -> Turn:
        """Trust what can be trusted now."""
        while self.waiting:
            claim = self.waiting[-1].shown.claim
            if self._rule.is_expired(self.anchor, now_ms):
                return self._end(Turn.EXPIRED, f"block {self.anchor.height} is older than the trusting period")
            if self._rule.is_future(claim, now_ms):
                return self._end(Turn.FUTURE, f"header {claim.height} is from the future")
            verdict, why = judge(self.anchor, claim, now_ms, self._rule)
            if verdict is Verdict.INVALID:
                return self._end(Turn.LIED, f"header {claim.height}: {why}")
            if verdict is Verdict.NOT_ENOUGH_TRUST:
                return self._halve(self.waiting[-1])
            self.anchor, self.answers = self._trust(self.waiting.pop().shown), 0
        return Turn.ARRIVED

    def shown(self, shown: Shown | None, lowest: int, now_ms: int) -> Turn:
        """What the source shows from `asked` on (`examine` looks to that). It has no headers below `lowest`."""
        self.answers += 1
        if self.answers > ANSWERS_MAX:
            return self._end(Turn.LACKS, f"it leads nowhere in {ANSWERS_MAX} answers")
        nearest = self.waiting[-1]
        if shown is None:
            return self._nothing(nearest, lowest, now_ms)
        if shown.header.height < nearest.low:
            self.waiting.append(Waiting(shown, self._half_way, self.asked))
        else:
            nearest.low = self._half_way
            if any(header.digest == nearest.shown.header.digest for header in shown.headers):
                nearest.first = self.asked
        return self.go(now_ms)

    def _trust(self, shown: Shown) -> Anchor:
        self.trusted.append(shown)
        return shown.state.anchor

    def _nothing(self, nearest: Waiting, lowest: int, now_ms: int) -> Turn:
        """Nothing there: it was pruned; or no header is certified in all that an answer has room for."""
        above = self.asked + HEADERS_PER_REPLY_MAX
        if self.asked < lowest:
            reached("bisection: a source has no headers there")
            return self._end(Turn.LACKS, f"it has no certified block there{pruned_below(lowest)}")
        if above < nearest.low:
            reached("bisection: no certificate in many headers")
            self.asked = above
            return Turn.ASK
        nearest.low = self._half_way
        return self.go(now_ms)

    def _halve(self, nearest: Waiting) -> Turn:
        below = self.anchor.height
        if nearest.low > below + 1:
            self._half_way = self.asked = (below + nearest.low) // 2
            return Turn.ASK
        if nearest.first == below + 1:
            height = nearest.shown.header.height
            return self._end(Turn.LIED, f"no certificates lead from block {below} to header {height}")
        reached("bisection: a source has too few certificates")
        return self._end(Turn.LACKS, f"it has too few certificates between block {below} and its newest")

    def _end(self, turn: Turn, why: str) -> Turn:
        self.why = why
        return turn


def pruned_below(lowest: int) -> str:
    """What is added where a node that has nothing to show told why."""
    return f": it has pruned all below height {lowest}" if lowest > 1 else ""
