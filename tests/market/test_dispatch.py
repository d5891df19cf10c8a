"""Following bundles to their fate: nothing sent twice with different bytes, nothing forgotten or counted twice."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.market.cast import Role, Trader, derive_key
from lockstep.market.dispatch import ASK_AFTER_SECONDS, LOST_AFTER_ASKS, RETRY_SECONDS, Dispatcher
from lockstep.market.meter import Meter
from lockstep.market.outbox import WINDOW_BUNDLES, Outbox
from lockstep.wire.bundle import Bundle
from lockstep.wire.client import AskFate, ClientRequest, Fate, Submit, SubmitReply
from lockstep.wire.command import COMMAND, Kind

CHAIN = bytes(range(32))
TRADER = Trader(4, Role.MAKER, derive_key(1, "a"), 1)
OTHER = Trader(5, Role.TAKER, derive_key(1, "b"), 1)


def commands(count: int = 3) -> np.ndarray:
    rows = np.zeros(count, COMMAND)
    rows["kind"] = Kind.CANCEL_CLIENT
    rows["client_id"] = np.arange(1, count + 1)
    return rows


@dataclass
class World:
    """A dispatcher with two validators that only write down what they are sent."""

    sent: list[tuple[int, ClientRequest]] = field(default_factory=list)
    dead: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.meter = Meter(0.0)
        self.meter.begin("run", 0.0)
        self.dispatcher = Dispatcher(CHAIN, (TRADER, OTHER), 2, self.send, self.meter)
        self.dispatcher.usable(0, True, 0.0)
        self.dispatcher.usable(1, True, 0.0)

    def send(self, validator: int, request: ClientRequest) -> bool:
        if validator in self.dead:
            return False
        self.sent.append((validator, request))
        return True

    def submit(self, now: float = 0.0) -> Bundle:
        self.dispatcher.submit(TRADER.account, commands(), now, now)
        return self.last()

    def last(self) -> Bundle:
        request = self.sent[-1][1]
        assert isinstance(request, Submit)
        return Bundle(request.raw)

    def submitted(self) -> list[tuple[int, bytes]]:
        return [(v, r.raw) for v, r in self.sent if isinstance(r, Submit)]

    def asked(self) -> list[bytes]:
        return [r.digest for _, r in self.sent if isinstance(r, AskFate)]


def fate(bundle: Bundle, status: str) -> Fate:
    return Fate(bundle.digest, status, 9, 0, "", b"")


def test_sequences_are_consecutive_and_signatures_valid() -> None:
    world = World()
    bundles = [world.submit() for _ in range(5)]
    assert [bundle.sequence for bundle in bundles] == [0, 1, 2, 3, 4]
    assert all(bundle.signed_by(TRADER.key.public) and bundle.account == TRADER.account for bundle in bundles)
    assert {v for v, _ in world.submitted()} == {0}, "an account keeps to one validator"


def test_a_final_bundle_is_counted_once_with_its_delay() -> None:
    world = World()
    bundle = world.submit(now=1.0)
    assert world.dispatcher.fate(fate(bundle, "final"), 1.25)
    assert not world.dispatcher.fate(fate(bundle, "final"), 1.5)
    window = world.meter.windows[0]
    assert (window.bundles, window.commands) == (1, 3)
    assert window.latencies.quantile(0.5) == pytest.approx(250, rel=0.02)
    assert world.dispatcher.pending_commands == 0
    assert world.dispatcher.last_final == bundle.raw


def test_busy_is_tried_again_later_with_the_same_bytes() -> None:
    world = World()
    bundle = world.submit()
    world.dispatcher.replied(SubmitReply(bundle.digest, "busy", ""), 0.0)
    world.dispatcher.sweep(RETRY_SECONDS / 2)
    assert len(world.submitted()) == 1
    world.dispatcher.sweep(RETRY_SECONDS * 2)
    assert [raw for _, raw in world.submitted()] == [bundle.raw] * 2
    assert world.meter.refused == {"busy": 1}


def test_a_lost_validators_bundles_go_to_another_in_order() -> None:
    world = World()
    bundles = [world.submit() for _ in range(3)]
    world.dispatcher.usable(0, False, 1.0)
    assert world.submitted()[3:] == [(1, bundle.raw) for bundle in bundles]
    world.dispatcher.replied(SubmitReply(bundles[0].digest, "duplicate", ""), 1.0)
    world.submit(1.1)
    assert world.sent[-1][0] == 1


def test_with_nobody_there_bundles_wait() -> None:
    world = World(dead={0, 1})
    world.dispatcher.submit(TRADER.account, commands(), 0.0, 0.0)
    assert world.sent == []
    world.dead.clear()
    world.dispatcher.sweep(1.0)
    assert len(world.submitted()) == 1


def test_silence_is_asked_about_and_the_unknown_is_sent_again() -> None:
    world = World()
    bundle = world.submit()
    world.dispatcher.replied(SubmitReply(bundle.digest, "", ""), 0.1)
    world.dispatcher.sweep(ASK_AFTER_SECONDS / 2)
    assert world.asked() == []
    world.dispatcher.sweep(ASK_AFTER_SECONDS + 0.2)
    assert world.asked() == [bundle.digest]
    world.dispatcher.fate(fate(bundle, "unknown"), 2.0)
    assert [raw for _, raw in world.submitted()] == [bundle.raw] * 2


def test_an_expired_bundle_is_signed_again_only_when_it_can_never_be_final() -> None:
    world = World()
    bundle = world.submit()
    world.dispatcher.fate(fate(bundle, "expired"), 1.0)
    assert len(world.submitted()) == 1, "our own final height does not say so yet"
    world.dispatcher.final_height = bundle.valid_until
    world.dispatcher.fate(fate(bundle, "expired"), 1.0)
    again = world.last()
    assert (again.sequence, again.commands.tobytes()) == (bundle.sequence, bundle.commands.tobytes())
    assert again.valid_until > bundle.valid_until
    world.dispatcher.fate(fate(again, "final"), 2.0)
    assert world.meter.total.bundles == 1


def test_signing_a_living_bundle_again_is_refused() -> None:
    outbox = Outbox(TRADER, CHAIN)
    item = outbox.sign(commands(), 10, 0.0)
    with pytest.raises(ValueError, match="still valid"):
        outbox.sign_again(item, 11)


def test_a_used_sequence_that_nobody_can_explain_is_reported() -> None:
    world = World()
    bundle = world.submit()
    for attempt in range(LOST_AFTER_ASKS):
        world.dispatcher.replied(SubmitReply(bundle.digest, "replayed", ""), attempt)
        world.dispatcher.fate(fate(bundle, "unknown"), attempt)
    assert len(world.meter.wronged) == 1
    assert world.dispatcher.pending_commands == 0


def test_a_replayed_bundle_that_turns_out_final_is_counted() -> None:
    world = World()
    bundle = world.submit()
    world.dispatcher.replied(SubmitReply(bundle.digest, "replayed", ""), 0.0)
    assert world.asked() == [bundle.digest]
    world.dispatcher.fate(fate(bundle, "final"), 0.1)
    assert world.meter.total.bundles == 1
    assert world.meter.wronged == []


def test_the_window_closes_behind_the_oldest_pending_bundle() -> None:
    world = World()
    bundles = [world.submit() for _ in range(WINDOW_BUNDLES)]
    assert not world.dispatcher.can_submit(TRADER.account)
    assert world.dispatcher.can_submit(OTHER.account)
    world.dispatcher.fate(fate(bundles[1], "final"), 1.0)
    assert not world.dispatcher.can_submit(TRADER.account), "the oldest one still blocks"
    world.dispatcher.fate(fate(bundles[0], "final"), 1.0)
    assert world.dispatcher.can_submit(TRADER.account)


@given(st.lists(st.tuples(st.sampled_from(["submit", "busy", "taken", "final", "unknown", "down", "up", "sweep"]),
                          st.integers(0, 5)), max_size=60))  # fmt: skip
@settings(deadline=None)
def test_whatever_happens_no_two_bundles_share_a_sequence_and_none_is_lost(steps: list[tuple[str, int]]) -> None:
    world = World()
    bundles: list[Bundle] = []
    final: set[bytes] = set()
    for now, (what, which) in enumerate(steps):
        dispatcher = world.dispatcher
        if what == "submit":
            dispatcher.submit(TRADER.account, commands(), now, now)
            outbox = dispatcher._outboxes[TRADER.account]
            bundles.append(outbox.items[outbox.next_sequence - 1].bundle)
        elif what == "sweep":
            dispatcher.sweep(now)
        elif what in ("down", "up"):
            dispatcher.usable(which % 2, what == "up", now)
        elif bundles:
            bundle = bundles[which % len(bundles)]
            if what in ("busy", "taken"):
                dispatcher.replied(SubmitReply(bundle.digest, "busy" if what == "busy" else "", ""), now)
            elif what == "final" or bundle.digest not in final:
                dispatcher.fate(fate(bundle, what), now)
                if what == "final":
                    final.add(bundle.digest)
    by_sequence: dict[int, set[bytes]] = {}
    for _, raw in world.submitted():
        by_sequence.setdefault(Bundle(raw).sequence, set()).add(raw)
    assert all(len(raws) == 1 for raws in by_sequence.values())
    assert world.meter.total.bundles == len(final)
    assert world.dispatcher.pending_commands == 3 * (len(bundles) - len(final))
