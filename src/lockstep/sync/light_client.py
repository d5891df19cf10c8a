"""The light client: follows certificates, asks witnesses, stops at a fork. Pure: `step(event, now_ms) -> effects`.

Upon `Follow`: ask the primary for the newest certified header.
Upon its answer: judge it (`light_rule`), over headers in between, where trust does not reach so far (`bisection`).
Trusted: ask every witness for the same height.
Upon a witness's answer: the same block and roots agree. Others that are validly certified are a fork: the client keeps
the proof, and trusts nothing any more. Others that are not are the witness's lie.
A witness that is ahead of a primary that has nothing newer takes its place. A source that lies or fails is dropped.
"""

from dataclasses import dataclass
from typing import Final

from lockstep.base.errors import Reason, Refused
from lockstep.base.marks import reached
from lockstep.sync.bisection import Bisection, Turn
from lockstep.sync.light_fork import Fork, differ, make_fork
from lockstep.sync.light_rule import Anchor, Rule, Verdict, judge
from lockstep.sync.light_shown import Shown, check_shown, examine
from lockstep.sync.light_state import LightState
from lockstep.sync.light_trust import TrustRoot
from lockstep.wire.block import Header
from lockstep.wire.certificate import Finalization
from lockstep.wire.light import LightReply
from lockstep.wire.validators import ValidatorSet

SETS_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Follow:
    """Look for something newer: the header of this height, or the next above it that is certified (0: the newest)."""

    height: int = 0


@dataclass(frozen=True, slots=True)
class Answered:
    """A source answered the `Ask` for this height. One that is not waited for any more is of no use."""

    source: int
    height: int
    reply: LightReply


@dataclass(frozen=True, slots=True)
class Failed:
    """A source did not answer, or closed the connection."""

    source: int
    why: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask this source for the finalization at a height (0: the newest); answer `Answered` or `Failed`."""

    source: int
    height: int


@dataclass(frozen=True, slots=True)
class Adopted:
    """This is trusted now: remember it."""

    state: LightState


@dataclass(frozen=True, slots=True)
class Agreed:
    """A witness has the same block and roots at this height, or does not have that height yet (`is_behind`)."""

    source: int
    height: int
    is_behind: bool


@dataclass(frozen=True, slots=True)
class Dropped:
    """This source is not asked any more."""

    source: int
    why: str


@dataclass(frozen=True, slots=True)
class Forked:
    """Two finalizations contradict each other: the chain is not to be trusted. Keep the proof, and show it around."""

    fork: Fork


Event = Follow | Answered | Failed
Effect = Ask | Adopted | Agreed | Dropped | Forked


class LightClient:
    """Trusts a chain of certificates. Sources are numbers, in order of preference: the first is the primary."""

    def __init__(self, start: TrustRoot | LightState, sources: int, rule: Rule | None = None) -> None:
        self.rule = rule or Rule()
        self.sources = list(range(sources))
        self.state = start if isinstance(start, LightState) else None
        self.fork: Fork | None = None
        if isinstance(start, LightState):
            self.chain_id = start.validators.chain_id
            self._anchor = start.anchor
        else:
            self.chain_id = start.chain_id
            self._anchor = Anchor(start.height, None, start.validators_hash, None)
        self._bases = [self._anchor]
        """From where the head in comparison was reached: where the way to it began, and its last step."""
        self._head: Shown | None = None
        self._sets: dict[bytes, ValidatorSet] = {}
        """Sets that were trusted lately, by hash: older headers are theirs."""
        if isinstance(start, LightState):
            self._sets[start.validators.hash] = start.validators
        self._way: Bisection | None = None
        """To what the primary shows."""
        self._awaited: dict[int, int] = {}
        """Source → the height that it was asked for."""
        self.certificates = 0
        """Certificates whose signatures were checked, ever."""

    def step(self, event: Event, now_ms: int) -> list[Effect]:
        """Take one event. Raises `Refused` when what is trusted has become too old: no source is to blame."""
        if self.fork is not None:
            return []
        match event:
            case Follow():
                self._require_fresh(now_ms)
                self._way = None
                return self._ask(self.sources[:1], event.height)
            case Failed():
                return self._drop(event.source, event.why)
            case Answered():
                if event.source not in self.sources or self._awaited.get(event.source) != event.height:
                    return []
                del self._awaited[event.source]
                try:
                    shown = examine(event.reply, self.chain_id, event.height)
                except Refused as refused:
                    return self._drop(event.source, str(refused))
                self.certificates += shown is not None
                return self._answered(event.source, shown, event.reply.lowest, now_ms)

    def validators(self, named: bytes) -> ValidatorSet | None:
        """A set that was trusted lately, by its hash."""
        return self._sets.get(named)

    def check(self, header: Header, finalization: Finalization, now_ms: int) -> list[Effect]:
        """Trust the header that a proof is about, by the set that is trusted now; raises `Refused`.

        Older headers hold as well, as long as that set signed them. One that is newer than the head is adopted, and
        witnesses are asked about it."""
        state = self.state
        if state is None or self.fork is not None:
            raise Refused(Reason.BAD_CERTIFICATE, "nothing is trusted: follow the chain first")
        self._require_fresh(now_ms)
        anchor = state.anchor
        validators = self._sets.get(header.validators)
        if validators is None:
            raise Refused(Reason.NOT_READY, "a set that is not trusted (any more) decided it: follow the chain first")
        if header.height <= state.height:
            anchor = Anchor(header.height - 1, None, validators.hash, validators)
        self.certificates += 1
        signers = check_shown(header, finalization, validators)
        following = None if header.closes_epoch else validators
        shown = Shown((header,), finalization, validators, signers, following)
        verdict, why = judge(anchor, shown.claim, now_ms, self.rule)
        if verdict is not Verdict.SUCCESS:
            raise Refused(Reason.BAD_CERTIFICATE, why)
        if header.height == state.height and finalization.block != state.block:
            raise Refused(Reason.BAD_CERTIFICATE, f"another block of height {state.height} is trusted: ask witnesses")
        if header.height <= state.height or following is None:
            return []
        self._bases = [anchor]
        return [*self._adopt(shown), *self._ask(self.sources[1:], header.height)]

    # -- inside --------------------------------------------------------------------------------------

    def _require_fresh(self, now_ms: int) -> None:
        if self.rule.is_expired(self._anchor, now_ms):
            raise Refused(Reason.EXPIRED, "the trusted header is older than the trusting period: give a new trust line")

    def _ask(self, sources: list[int], height: int) -> list[Effect]:
        self._awaited |= dict.fromkeys(sources, height)
        return [Ask(source, height) for source in sources]

    def _answered(self, source: int, shown: Shown | None, lowest: int, now_ms: int) -> list[Effect]:
        if source != self.sources[0]:
            return self._compare(source, shown, now_ms)
        if self._way is not None:
            return self._take(source, self._way, self._way.shown(shown, lowest, now_ms))
        if shown is None:
            return self._ask(self.sources[1:], 0)
        if self.state is not None and shown.header.height <= self.state.height:
            return self._known(source, shown, now_ms)
        return self._set_out(source, shown, now_ms)

    def _set_out(self, source: int, goal: Shown, now_ms: int) -> list[Effect]:
        self._bases = [self._anchor]
        self._way = Bisection(self._anchor, goal, self.rule)
        return self._take(source, self._way, self._way.go(now_ms))

    def _take(self, source: int, way: Bisection, turn: Turn) -> list[Effect]:
        """Go on, where the primary leads."""
        effects: list[Effect] = []
        for shown in way.trusted:
            if shown.header.height > self._anchor.height:  # unless a proof has led further meanwhile
                self._bases[1:] = [self._anchor]
                effects += self._adopt(shown)
        way.trusted.clear()
        match turn:
            case Turn.ASK:
                reached("light: headers between are asked for")
                return effects + self._ask([source], way.asked)
            case Turn.ARRIVED:
                self._way = None
                return effects + self._ask(self.sources[1:], way.goal.header.height)
            case Turn.EXPIRED:
                self._way = None
                raise Refused(Reason.EXPIRED, f"{way.why}: give a new trust line")
            case Turn.FUTURE:
                return effects + self._drop(source, f"{way.why}, or this machine's clock is slow")
            case Turn.LACKS | Turn.LIED:
                return effects + self._drop(source, way.why)

    def _known(self, source: int, shown: Shown, now_ms: int) -> list[Effect]:
        """The primary has nothing newer: maybe a witness has. At the trusted height it must have what is trusted."""
        state, final = self.state, shown.finalization
        assert state is not None
        if final.height == state.height and (final.block, final.state_root, final.event_root) != (
            state.block, state.state_root, state.event_root,
        ):  # fmt: skip
            if self._head is not None:
                return self._compare(source, shown, now_ms)
            return self._drop(source, f"it has another block of the trusted height {state.height}")
        return self._ask(self.sources[1:], 0)

    def _adopt(self, shown: Shown) -> list[Effect]:
        self.state = shown.state
        self._anchor = self.state.anchor
        self._head = shown
        for validators in (shown.validators, self.state.validators):
            self._sets.pop(validators.hash, None)
            self._sets[validators.hash] = validators
        while len(self._sets) > SETS_MAX:
            del self._sets[next(iter(self._sets))]
        return [Adopted(self.state)]

    def _compare(self, source: int, shown: Shown | None, now_ms: int) -> list[Effect]:
        head = self._head
        if shown is not None and shown.headers[0].height > self._anchor.height:
            return self._overtake(source, shown, now_ms)
        if head is None:
            return []
        height = head.header.height
        if shown is None:
            return [Agreed(source, height, is_behind=True)]
        if shown.headers[0].height != height:
            return []  # about an earlier head
        mine = Shown((head.header,), head.finalization, head.validators, head.signers, head.next_validators)
        if not differ(mine, shown):
            return [Agreed(source, height, is_behind=False)]
        verdicts = [judge(base, shown.claim, now_ms, self.rule) for base in self._bases]
        if all(verdict is not Verdict.SUCCESS for verdict, _ in verdicts):
            why = verdicts[0][1]
            return self._drop(source, f"it has another block of height {height}, without a certificate to trust: {why}")
        self.fork = make_fork(mine, shown)
        return [Forked(self.fork)]

    def _overtake(self, source: int, shown: Shown, now_ms: int) -> list[Effect]:
        """A witness is ahead of a primary that has nothing newer: let it lead, if what it shows can hold."""
        verdict, why = judge(self._anchor, shown.claim, now_ms, self.rule)
        if verdict is Verdict.INVALID:
            return self._drop(source, f"header {shown.header.height}: {why}")
        self.sources.remove(source)
        self.sources.insert(0, source)
        return self._set_out(source, shown, now_ms)

    def _drop(self, source: int, why: str) -> list[Effect]:
        if source not in self.sources:
            return []
        was_primary = self.sources[0] == source
        self.sources.remove(source)
        if was_primary:
            self._way = None
        return [Dropped(source, why), *(self._ask(self.sources[:1], 0) if was_primary else [])]
