"""Proven answers of running replicas, checked by a light client that knows one line; and altered ones, refused."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.base.digest import digest
from lockstep.base.errors import Refused
from lockstep.node.events import Proved, Question
from lockstep.node.proofs import ATTEMPTS_MAX, WAITING_MAX, WAITING_PER_CLIENT_MAX
from lockstep.node.prover import prove, prove_outcome
from lockstep.node.record import StoredBlock
from lockstep.simulator.world import World
from lockstep.sync.light_client import Answered, Follow, LightClient
from lockstep.sync.light_proof import check_outcome, check_state
from lockstep.sync.light_trust import genesis_trust
from lockstep.sync.light_walk import Answer
from lockstep.venue.event import EVENT, EventKind
from lockstep.venue.schema import ACCOUNTS, INSTRUMENTS, POSITIONS, VENUE
from lockstep.wire.block import Block, Header, Payload, decode_header
from lockstep.wire.bundle import Bundle, seal_bundle
from lockstep.wire.certificate import Finalization
from lockstep.wire.client import SubmitReply
from lockstep.wire.codec import encode
from lockstep.wire.command import COMMAND, Kind, Side
from lockstep.wire.light import (
    AskGenesis,
    AskLight,
    AskOutcome,
    AskState,
    GenesisReply,
    LightReply,
    OutcomeReply,
    Piece,
    Query,
    ShownRow,
    StateReply,
)
from tests.support.small_network import PRICE, TRADERS, Trader, keep_reporting, orders, small_world, trader_key

SECOND = 1_000_000
CLIENT = 77


def replies(world: World, kind: type, node: int = 0) -> list[Any]:
    return [message for client, message in world.nodes[node].replies if client == CLIENT and isinstance(message, kind)]


def light_client(world: World, node: int = 0) -> LightClient:
    client = LightClient(genesis_trust(world.genesis), 1)
    world.nodes[node].ask(CLIENT, AskLight(1, 0))
    client.step(Follow(), world.now_us // 1000)
    client.step(Answered(0, 0, replies(world, LightReply, node)[-1]), world.now_us // 1000)
    assert client.state is not None
    return client


def proven(client: LightClient, asked: AskState, reply: StateReply, now_ms: int) -> Answer:
    assert reply.finalization is not None, reply.reason
    header = decode_header(reply.header)
    client.check(header, reply.finalization, now_ms)
    return check_state(asked, reply, header, reply.finalization.state_root)


def ask(world: World, client: LightClient, query: Query, number: int, other: int = 0) -> Answer:
    asked = AskState(len(replies(world, StateReply)), query, number, other)
    world.nodes[0].ask(CLIENT, asked)
    assert world.run_until(lambda: len(replies(world, StateReply)) > asked.token, SECOND)
    return proven(client, asked, replies(world, StateReply)[-1], world.now_us // 1000)


@pytest.fixture(scope="module")
def trading() -> World:
    """A network on which accounts 0 and 1 traded; account 1 has an order that rests."""
    world = small_world()
    world.start()
    keep_reporting(world)
    world.run(SECOND)
    buyer, seller = Trader(world, 0), Trader(world, 1)
    seller.submit(orders(Side.SELL, PRICE, [5, 7]))
    world.run(SECOND // 4)
    buyer.submit(orders(Side.BUY, PRICE, [6]))
    world.run(SECOND)
    return world


def test_answers_are_those_of_the_state_and_are_proven(trading: World) -> None:
    client = light_client(trading)
    tables = trading.nodes[0].executor.venue.rows
    account = ask(trading, client, Query.ACCOUNT, 0)
    assert account.exists and account.fields["balance"] == tables(ACCOUNTS)[0]["balance"]
    assert account.fields["next_sequence"] == 1 and account.fields["positions"] == 1
    position = ask(trading, client, Query.POSITION, 1)
    assert position.fields["size"] == -6 and position.fields["open_sell"] == 6 and position.fields["orders"] == 1
    price = ask(trading, client, Query.PRICE, 0)
    assert price.fields["mark"] == PRICE == tables(INSTRUMENTS)[0]["mark"] and price.fields["best_ask"] == PRICE
    (slot,) = [n for n, row in enumerate(trading.nodes[0].executor.venue.rows(6)) if row["id"]]
    order_id = int(trading.nodes[0].executor.venue.rows(6)[slot]["id"])
    order = ask(trading, client, Query.ORDER, order_id)
    assert order.fields["remaining"] == 6 and order.fields["account"] == 1 and order.fields["id"] == order_id
    assert client.state is not None and client.state.height >= order.height > 10


@pytest.mark.parametrize(
    ("query", "number", "other"),
    [
        (Query.ACCOUNT, 10_000, 0), (Query.ACCOUNT, (1 << 63) - 1, 0), (Query.POSITION, 2, 0), (Query.POSITION, 0, 9),
        (Query.POSITION, 10_000, 0), (Query.ORDER, 1, 0), (Query.ORDER, (1 << 63) - 1, 0), (Query.PRICE, 1, 0),
    ],
)  # fmt: skip
def test_what_is_not_there_is_proven_not_to_be(trading: World, query: Query, number: int, other: int) -> None:
    answer = ask(trading, light_client(trading), query, number, other)
    assert not answer.exists and answer.fields == {} and answer.height > 10


def test_an_answer_waits_for_its_certificate_and_a_displaced_one_is_made_again() -> None:
    world = small_world()
    world.start()
    world.run(SECOND)
    node = world.nodes[0]
    proofs = node.replica._proofs
    question = Question(CLIENT, AskState(5, Query.ACCOUNT, 0, 0), 1)
    proofs._asking[CLIENT] = 1
    proofs.proved(Proved(question, bytes(32), node.replica.final.height + 1, b"", ()))
    assert replies(world, StateReply) == []
    assert world.run_until(lambda: bool(replies(world, StateReply)), SECOND)
    reply = replies(world, StateReply)[0]
    assert reply.finalization is not None and reply.finalization.block != bytes(32)
    assert proven(light_client(world), question.request, reply, world.now_us // 1000).exists
    last = Question(CLIENT, question.request, ATTEMPTS_MAX)
    proofs._asking[CLIENT] = 1
    node.take(Proved(last, bytes(32), 1, b"", ()))
    assert replies(world, StateReply)[-1].reason == "not-ready"


def test_too_many_questions_are_told_busy_and_a_halted_node_says_so() -> None:
    world = small_world()
    world.start()
    world.run(SECOND)
    node = world.nodes[0]
    for token in range(WAITING_PER_CLIENT_MAX + 3):
        node.ask(CLIENT, AskState(token, Query.PRICE, 0, 0))
    assert [reply.reason for reply in replies(world, StateReply)] == ["busy"] * 3
    others = WAITING_MAX - WAITING_PER_CLIENT_MAX
    for number in range(others + 1):
        node.ask(CLIENT + 1 + number, AskState(number, Query.PRICE, 0, 0))
    told = {c: m.reason for c, m in node.replies if c > CLIENT and isinstance(m, StateReply)}
    assert told == {CLIENT + 1 + others: "busy"}
    world.run(SECOND)
    answered = [reply for reply in replies(world, StateReply) if not reply.reason]
    assert sorted(reply.token for reply in answered) == list(range(WAITING_PER_CLIENT_MAX))
    assert len([1 for c, m in node.replies if c > CLIENT and isinstance(m, StateReply) and not m.reason]) == others
    node.ask(CLIENT, AskState(5_000, Query.PRICE, 0, 0))
    world.run(SECOND)
    assert replies(world, StateReply)[-1].token == 5_000 and not replies(world, StateReply)[-1].reason
    node.replica._ctx.halted = "for a test"
    node.ask(CLIENT, AskState(9_999, Query.PRICE, 0, 0))
    assert replies(world, StateReply)[-1].reason == "halted"


def test_the_genesis_is_given_and_its_digest_is_the_chain_id(trading: World) -> None:
    trading.nodes[0].ask(CLIENT, AskGenesis(3))
    reply = replies(trading, GenesisReply)[-1]
    assert reply.token == 3 and digest(reply.raw) == trading.genesis.chain_id


def test_a_genesis_that_does_not_fit_is_not_sent(trading: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lockstep.node.proofs.PROOF_BYTES_MAX", 100)
    trading.nodes[2].ask(CLIENT, AskGenesis(4))
    assert replies(trading, GenesisReply, 2)[-1] == GenesisReply(4, b"")


def test_a_height_that_is_not_there_yet_gets_nothing(trading: World) -> None:
    trading.nodes[0].ask(CLIENT, AskLight(4, 1 << 40))
    assert replies(trading, LightReply)[-1] == LightReply(4, (), None, b"", ())


# -- lies ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def position_proof(trading: World) -> tuple[LightClient, AskState, StateReply, int]:
    client = light_client(trading)
    asked = AskState(1 << 20, Query.POSITION, 1, 0)
    trading.nodes[0].ask(CLIENT, asked)
    assert trading.run_until(lambda: replies(trading, StateReply)[-1].token == asked.token, SECOND)
    return client, asked, replies(trading, StateReply)[-1], trading.now_us // 1000


@given(place=st.integers(0, 1 << 30), bit=st.integers(0, 7))
def test_an_altered_reply_is_refused(
    position_proof: tuple[LightClient, AskState, StateReply, int], place: int, bit: int
) -> None:
    client, asked, reply, now_ms = position_proof
    raw = bytearray(encode(reply))
    raw[place % len(raw)] ^= 1 << bit
    honest = proven(client, asked, reply, now_ms)
    try:
        changed = msgspec.msgpack.decode(bytes(raw), type=StateReply)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    if msgspec.structs.replace(changed, token=reply.token, reason=reply.reason) == reply:
        return  # a label that nothing follows from
    try:
        answer = proven(client, asked, changed, now_ms)
    except (Refused, AssertionError):
        return
    # Another row of the same chunk under a wrong number is no lie, if nothing follows from it; nothing else passes.
    assert answer == honest


def test_rows_left_out_added_or_of_another_question_are_refused(
    position_proof: tuple[LightClient, AskState, StateReply, int],
) -> None:
    client, asked, reply, now_ms = position_proof
    assert len(reply.rows) == 3
    for rows in (reply.rows[1:], reply.rows[:2], (*reply.rows, reply.rows[0]), ()):
        with pytest.raises(Refused):
            proven(client, asked, msgspec.structs.replace(reply, rows=rows), now_ms)
    with pytest.raises(Refused):
        proven(client, AskState(1, Query.POSITION, 0, 0), reply, now_ms)
    moved = (*reply.rows[:2], ShownRow("positions", reply.rows[2].row + 1, reply.rows[2].chunk, reply.rows[2].path))
    with pytest.raises(Refused):
        proven(client, asked, msgspec.structs.replace(reply, rows=moved), now_ms)


# -- outcomes ------------------------------------------------------------------------------------------


def outcome_case(sizes: list[int]) -> tuple[list[Bundle], StoredBlock, Finalization, np.ndarray, list[int]]:
    """A block of bundles with these numbers of commands, each command with one to three events."""
    bundles, commands = [], []
    for account, size in enumerate(sizes):
        rows = np.zeros(size, COMMAND)
        rows["kind"] = Kind.CANCEL_ALL
        bundles.append(seal_bundle(trader_key(account % TRADERS), bytes(32), account, 0, 9, rows))
    for command in range(sum(sizes)):
        commands += [command] * (1 + command % 3)
    events = np.zeros(len(commands) + 2, EVENT)
    events["command"] = [*commands, 0xFFFF_FFFF, 0xFFFF_FFFF]
    events["kind"], events["size"] = EventKind.FILL, np.arange(len(events))
    ends = np.flatnonzero(np.diff(events["command"][: len(commands) + 1].astype(np.int64)))
    events["flags"][ends] = 1
    payload = Payload(b"".join(bundle.digest for bundle in bundles), (), ())
    header = Header(bytes(32), 4, 4, 3, 1, 0, len(bundles), sum(sizes), bytes(32), digest(payload.encode()))
    final = Finalization(4, 4, header.digest, bytes(32), digest(events.tobytes()), b"", b"")
    edges = np.searchsorted(events["command"], np.cumsum([0, *sizes])).tolist()
    return bundles, StoredBlock(Block(header, payload), tuple(bundles)), final, events, edges


def outcome(case: Any, place: int) -> tuple[AskOutcome, OutcomeReply]:
    bundles, stored, final, events, edges = case
    asked = AskOutcome(1, bundles[place].digest)
    first = edges[place]
    return asked, prove_outcome(asked, stored, final, place, events.tobytes(), first, edges[place + 1] - first)


@pytest.mark.parametrize("sizes", [[1], [1, 1, 1], [40, 3, 200], [16, 16, 16, 16], [1024, 7]])
def test_outcomes_are_proven_whole(sizes: list[int]) -> None:
    case = outcome_case(sizes)
    for place in range(len(sizes)):
        asked, reply = outcome(case, place)
        rows = check_outcome(asked, reply, case[1].block.header, case[2].event_root)
        assert rows.tobytes() == case[3][case[4][place] : case[4][place + 1]].tobytes()


def test_outcomes_with_anything_missing_or_of_another_bundle_are_refused() -> None:
    case = outcome_case([40, 3, 200])
    header, root = case[1].block.header, case[2].event_root
    asked, reply = outcome(case, 1)
    other, _ = outcome(case, 2)
    big, whole = outcome(case, 2)
    change = msgspec.structs.replace
    lies = [
        (other, reply), (asked, change(reply, events=())), (asked, change(reply, bundles=reply.bundles[1:])),
        (asked, change(reply, payload=b"\x93\xc4\x00\x90\x90")), (big, change(whole, events=whole.events[1:])),
        (big, change(whole, events=whole.events[:-1])), (big, change(whole, events=whole.events[::-1])),
        (big, change(whole, events=(*whole.events[:3], *whole.events[4:]))),
        (asked, change(reply, bundles=(reply.bundles[1], reply.bundles[1]))),
    ]  # fmt: skip
    for question, lie in lies:
        with pytest.raises(Refused):
            check_outcome(question, lie, header, root)
    piece = reply.events[0]
    for at in range(0, len(piece.chunk), 37):
        raw = bytearray(piece.chunk)
        raw[at] ^= 1
        changed = Piece(piece.length, piece.number, bytes(raw), piece.path)
        with pytest.raises(Refused):
            check_outcome(asked, change(reply, events=(changed, *reply.events[1:])), header, root)


def test_a_bundle_that_waits_in_the_pool_is_pending(trading: World) -> None:
    trader = Trader(trading, 2)
    bundle = trader.bundle(orders(Side.BUY, PRICE - 9, [1]))
    trading.nodes[0].replica._ctx.pool.add(bundle)
    trading.nodes[0].ask(CLIENT, AskOutcome(8, bundle.digest))
    trading.nodes[0].replica._ctx.pool.remove(bundle.digest)
    assert replies(trading, OutcomeReply)[-1].reason == "pending"
    assert replies(trading, SubmitReply) == []


def test_the_prover_proves_the_newest_executed_state(trading: World) -> None:
    executor = trading.nodes[1].executor
    made = prove(executor, Question(1, AskState(1, Query.POSITION, 0, 0), 1))
    assert (made.block, made.height) == executor.top and digest(made.manifest) == executor.venue.ledger.root
    assert [row.table for row in made.rows] == ["venue", "accounts", "positions"]
    assert executor.venue.rows(VENUE)[0]["height"] == made.height
    assert len(executor.venue.rows(POSITIONS)) >= 2
