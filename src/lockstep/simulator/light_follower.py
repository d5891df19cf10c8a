"""A light client in the simulated world: follows the chain by certificates alone, asks for proofs, believes nothing.

It asks the nodes as any client does, and a node that does not answer in time counts as failed. At the end everything
that it trusted must be what honest nodes made final. An honest node that it called a liar is a violation, and so is a
proven outcome that differs from what was acknowledged.
"""

from typing import Final

from lockstep.base.errors import Reason, Refused
from lockstep.base.marks import reached
from lockstep.simulator.chance import stream
from lockstep.simulator.history import Violation
from lockstep.simulator.simulated_node import SimulatedNode
from lockstep.simulator.world import World
from lockstep.sync.bisection import pruned_below
from lockstep.sync.light_client import (
    Adopted,
    Answered,
    Ask,
    Dropped,
    Effect,
    Failed,
    Follow,
    Forked,
    LightClient,
)
from lockstep.sync.light_proof import check_outcome, check_state
from lockstep.sync.light_state import LightState
from lockstep.sync.light_trust import genesis_trust
from lockstep.wire.block import decode_header
from lockstep.wire.client import ClientReply
from lockstep.wire.light import AskLight, AskOutcome, AskState, LightReply, OutcomeReply, Query, StateReply

CLIENT: Final = 0xFF00
POLL_US: Final = (100_000, 500_000)
_PATIENCE_US: Final = 400_000
_LAG_US: Final = (200, 30_000)
_NO_ANSWER: Final = "no answer"


class LightFollower:
    """One light client, and what it trusted."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._client = CLIENT + number
        self._random = stream(world.seed, f"light client {number}")
        self._light = LightClient(genesis_trust(world.genesis), len(world.nodes))
        self._token = 0
        self._waiting: dict[int, tuple[int, AskLight | AskState | AskOutcome]] = {}
        """Token → (node, question)."""
        self.adopted: list[LightState] = []
        self.proven = 0
        self._violations: list[Violation] = []
        others, world.on_reply = world.on_reply, self._replied
        self._others = others

    def begin(self) -> None:
        """Follow from now on."""
        self._world.call(self._random.randint(*POLL_US), self._poll)

    # -- asking ---------------------------------------------------------------------------------------

    def _poll(self) -> None:
        if not self._light.sources:  # whoever watches gives it its sources again
            start = self._light.state or genesis_trust(self._world.genesis)
            self._light = LightClient(start, len(self._world.nodes))
        if not any(isinstance(question, AskLight) for _, question in self._waiting.values()):
            self._step(Follow())
            self._query()
        self._world.call(self._random.randint(*POLL_US), self._poll)

    def _query(self) -> None:
        """A question about the state, or about a bundle that somebody was told is final."""
        random, known = self._random, self._world.history.acknowledged
        node = random.randrange(len(self._world.nodes))
        if self._light.state is None:
            return
        if known and random.randrange(2):
            self._ask(node, AskOutcome(self._next(), random.choice(known).bundle))
        else:
            query = random.choice((Query.ACCOUNT, Query.POSITION, Query.PRICE))
            self._ask(node, AskState(self._next(), query, random.randrange(2), random.randrange(2)))

    def _next(self) -> int:
        self._token += 1
        return self._token

    def _ask(self, index: int, question: AskLight | AskState | AskOutcome) -> None:
        node, world = self._world.nodes[index], self._world
        self._waiting[question.token] = index, question
        if node.is_up:
            world.call(self._random.randint(*_LAG_US), node.ask, self._client, question)
        world.call(_PATIENCE_US, self._give_up, question.token)

    def _give_up(self, token: int) -> None:
        index, question = self._waiting.pop(token, (-1, None))
        if isinstance(question, AskLight):
            self._step(Failed(index, _NO_ANSWER))

    # -- answers --------------------------------------------------------------------------------------

    def _replied(self, node: SimulatedNode, client: int, message: ClientReply) -> None:
        if client != self._client:
            if self._others is not None:
                self._others(node, client, message)
        elif isinstance(message, LightReply | StateReply | OutcomeReply):
            self._world.call(self._random.randint(*_LAG_US), self._hear, node.index, message)

    def _hear(self, index: int, message: LightReply | StateReply | OutcomeReply) -> None:
        asked, question = self._waiting.pop(message.token, (-1, None))
        if asked != index or question is None:
            return
        if isinstance(message, LightReply):
            assert isinstance(question, AskLight)
            self._step(Answered(index, question.height, message))
        elif not message.reason and message.finalization is not None:
            try:
                self._check(question, message)
            except Refused as refused:
                if refused.reason is Reason.NOT_READY:
                    reached("light: the validators have changed meanwhile")
                    return
                self._wrong(index, f"proved {question} with something that is refused: {refused}")

    def _check(self, question: AskLight | AskState | AskOutcome, reply: StateReply | OutcomeReply) -> None:
        header, finalization = decode_header(reply.header), reply.finalization
        assert finalization is not None
        self._carry(self._light.check(header, finalization, self._now_ms))
        if isinstance(reply, StateReply) and isinstance(question, AskState):
            check_state(question, reply, header, finalization.state_root)
            reached("light: a row of the state is proven")
        elif isinstance(reply, OutcomeReply) and isinstance(question, AskOutcome):
            rows = check_outcome(question, reply, header, finalization.event_root)
            reached("light: an outcome is proven")
            told = next(a for a in self._world.history.acknowledged if a.bundle == question.bundle)
            if (told.height, told.outcomes) != (header.height, rows.tobytes()):
                text = f"bundle {question.bundle.hex()[:16]} was told another outcome than is proven"
                self._violations.append(Violation("light", text, self._world.now_us))
        self.proven += 1

    @property
    def _now_ms(self) -> int:
        return self._world.now_us // 1000

    def _step(self, event: Follow | Answered | Failed) -> None:
        self._carry(self._light.step(event, self._now_ms))

    def _carry(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Ask():
                    self._ask(effect.source, AskLight(self._next(), effect.height))
                case Adopted():
                    reached("light: a certified header is trusted")
                    self.adopted.append(effect.state)
                case Dropped() if effect.why != _NO_ANSWER and not self._has_less(effect):
                    self._wrong(effect.source, f"was dropped: {effect.why}")
                case Forked():
                    self._violations.append(Violation("light", "a light client saw a fork", self._world.now_us))
                case _:
                    pass

    def _has_less(self, dropped: Dropped) -> bool:
        """A node that installed a state has no headers below it, or pruned them, and says so: another must be asked."""
        lowest = self._world.nodes[dropped.source].home.store.lowest_header
        said = dropped.why.rpartition(" ")[2]
        return said.isdigit() and 1 < int(said) <= lowest and dropped.why.endswith(pruned_below(int(said)))

    def _wrong(self, index: int, text: str) -> None:
        node = self._world.nodes[index]
        if not node.history.is_faulty:
            self._violations.append(Violation("light", f"honest validator {index} {text}", self._world.now_us))

    # -- judging --------------------------------------------------------------------------------------

    def verdict(self) -> list[Violation]:
        """What it saw that must not be."""
        final = {
            height: (f.block, f.state_root) for node in self._world.history.honest for height, f in node.finals.items()
        }
        wrong = [s for s in self.adopted if final.get(s.height, (s.block, s.state_root)) != (s.block, s.state_root)]
        texts = [f"a light client trusted another block of height {state.height} than is final" for state in wrong]
        return [*self._violations, *(Violation("light", text, self._world.now_us) for text in texts)]
