"""Recorded flow: read completely, mapped faithfully, and sent in an order that no network can upset."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lockstep.base.errors import ConfigurationError
from lockstep.base.keys import PrivateKey
from lockstep.market import bitstamp, lobster
from lockstep.market.recording import Recording, What
from lockstep.market.replay import Accounts, Bundle, Replay, compare
from lockstep.venue.event import EventKind
from lockstep.venue.schema import BUNDLE_SPAN
from lockstep.venue.venue import Venue
from lockstep.wire.command import Kind, TimeInForce
from lockstep.wire.genesis import Account, Genesis, Instrument, Parameters, Validator
from lockstep.wire.observation import OBSERVATION

ACCOUNTS = Accounts(bids=0, asks=1, taker=2)
RICH = 1 << 57
LOBSTER_FILE = "lobster_aapl_2012-06-21_first_999_messages.csv"
BITSTAMP_FILE = "bitstamp_btcusd_l3_2015-05-01.csv.xz"


class World:
    """A venue without a network: each block holds one bundle."""

    def __init__(self, instrument: Instrument, mark: int) -> None:
        keys = [PrivateKey(bytes([n + 1]) * 32).public for n in range(4)]
        self.venue = Venue(
            Genesis(
                name="replay", time_ms=0, validators=(Validator("v", keys[3], 1, b"", "", ""),),
                instruments=(instrument,), accounts=tuple(Account(key, RICH) for key in keys), bridge_account=3,
                fee_account=3, insurance_account=3, parameters=Parameters(accounts_max=1024, positions_max=1024),
            )
        )  # fmt: skip
        self.height = 0
        self.mark = mark
        self.sequences = [0, 0, 0, 0]

    def execute(self, bundle: Bundle) -> bytes:
        self.height += 1
        spans = np.zeros(1, BUNDLE_SPAN)
        spans["account"], spans["count"] = bundle.account, len(bundle.commands)
        spans["sequence"] = self.sequences[bundle.account]
        self.sequences[bundle.account] += 1
        seen = np.array([(0, 0, self.mark, self.height)], OBSERVATION)
        execution = self.venue.execute(self.height, self.height, seen, spans, bundle.commands)
        self.venue.commit()
        return execution.events.tobytes()


def play(recording: Recording, shuffle: int | None = None, bundle: int = 1_024) -> Iterator[Replay]:
    """Replay everything; yields after each step. With `shuffle`, bundles become final in any order that keeps each
    account's own, after any delay."""
    world = World(recording.instrument, next(mid for mid in recording.mids if mid))
    replay = Replay(recording, ACCOUNTS)
    source = random.Random(shuffle)
    sent: list[Bundle] = []
    while not replay.is_done:
        sent += replay.take(1 << 62, bundle if shuffle is None else source.choice([1, 7, bundle]))
        assert sent, "the replay waits for something that never comes"
        heads = list({b.account: b for b in reversed(sent)}.values())
        chosen = sent[0] if shuffle is None else source.choice(heads)
        sent.remove(chosen)
        replay.settled(chosen.number, world.execute(chosen))
        yield replay


def finish(recording: Recording, shuffle: int | None = None) -> Replay:
    *_, last = play(recording, shuffle)
    return last


@pytest.fixture(scope="module")
def apple(shared_data: Path) -> Recording:
    return lobster.read(shared_data / "orderflow" / LOBSTER_FILE)


@pytest.fixture(scope="module")
def bitcoin(shared_data: Path) -> Recording:
    return bitstamp.read(shared_data / "orderflow" / BITSTAMP_FILE)


# -- reading -----------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_lobster_every_row_is_accounted_for(apple: Recording) -> None:
    assert len(apple.messages) == len(apple.books) == 999
    assert apple.mapped() == {"amend": 1, "delete": 368, "execute": 94, "new": 471, "skip": 65}
    assert sum(apple.skipped().values()) == 65
    assert len(apple.seeds) == 19, "ten levels a side, less the one that the first message placed"
    assert apple.mids[0] == (58533 + 58594) // 2


@pytest.mark.real_data
def test_bitstamp_every_row_is_accounted_for(bitcoin: Recording) -> None:
    assert sum(bitcoin.mapped().values()) == 50_414
    skipped = bitcoin.skipped()
    assert skipped["delete of an order from before the recording"] == 182
    assert skipped["change of an order from before the recording"] == 4
    assert bitcoin.remarks["rows after which the recorded book is crossed"] == 781
    assert all(m.size > 0 and 0 < m.price < 1 << 17 for m in bitcoin.messages if m.what is not What.SKIP)


def test_lobster_kinds_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "x_message_1.csv"
    path.write_text(
        "1.5,1,7,100,5000000,1\n2.0,2,7,40,5000000,1\n2.5,4,7,10,5000000,1\n3.0,3,7,50,5000000,1\n"
        "4,5,0,1,5000050,1\n5,7,0,0,-1,-1\n6,3,99,5,5000000,1\n7,1,8,1,5000050,-1\n"
    )
    recording = lobster.read(path)
    assert [(m.what, m.size) for m in recording.messages[:4]] == [
        (What.NEW, 100), (What.AMEND, 60), (What.EXECUTE, 10), (What.DELETE, 50),
    ]  # fmt: skip
    assert recording.messages[0].time_us == 1_500_000
    assert [m.note.split()[0] for m in recording.messages[4:]] == ["execution", "message", "names", "a"]


@pytest.mark.parametrize("text", ["1.5,1,7", "x,1,7,100,5000000,1", "1.5,1,7,a,5000000,1"])
def test_a_broken_lobster_row_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "messages.csv"
    path.write_text(f"1.0,1,6,1,5000000,1\n{text}\n")
    with pytest.raises(ConfigurationError, match="row 2"):
        lobster.read(path)


HEAD = "id,timestamp,exchange.timestamp,price,volume,action,direction\n"


def test_bitstamp_kinds_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "l3.csv"
    path.write_text(
        HEAD + "1,1000,0,236.47,200000000,created,bid\n1,1001,0,236.47,150000000,changed,bid\n"
        "1,1002,0,236.40,150000000,changed,bid\n1,1003,0,236.40,150000000,changed,bid\n1,1004,0,236.40,0,deleted,bid\n"
        "1,1005,0,236.40,0,deleted,bid\n2,1006,0,1.00,1,deleted,ask\n3,1007,0,1.00,1,deleted,ask\n"
        "3,1008,0,1.00,1,created,ask\n"
    )
    recording = bitstamp.read(path)
    assert [(m.what, m.price, m.size) for m in recording.messages[:3]] == [
        (What.NEW, 23647, 20_000), (What.AMEND, 23647, 15_000), (What.AMEND, 23640, 15_000),
    ]  # fmt: skip
    assert recording.messages[4].what is What.DELETE
    assert list(recording.skipped()) == [
        "a change that changes nothing (at this tick and lot)",
        "creation of an order that was deleted already, or is there",
        "delete of an order from before the recording",
        "delete of an order that was deleted already",
        "delete of an order whose creation is recorded later: rows out of order",
    ]


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ConfigurationError, match="columns"):
        bitstamp.read(path)
    path.write_text(HEAD + "1,1,1,1.0,1,exploded,bid\n")
    with pytest.raises(ConfigurationError, match="row 2"):
        bitstamp.read(path)
    with pytest.raises(ConfigurationError, match="cannot read"):
        bitstamp.read(tmp_path / "absent.csv")
    (tmp_path / "y.xz").write_bytes(b"not xz")
    with pytest.raises(ConfigurationError, match="not a text file"):
        bitstamp.read(tmp_path / "y.xz")


# -- mapping -----------------------------------------------------------------------------------------

SMALL = (
    HEAD + "1,1000,0,100.00,100000000,created,bid\n2,1001,0,101.00,100000000,created,ask\n"
    "3,1002,0,99.00,100000000,created,bid\n1,1003,0,100.00,50000000,changed,bid\n"
    "4,1004,0,102.00,100000000,created,bid\n3,1005,0,99.00,100000000,deleted,bid\n"
)


def test_what_could_meet_waits_and_the_rest_does_not(tmp_path: Path) -> None:
    path = tmp_path / "l3.csv"
    path.write_text(SMALL)
    replay = Replay(bitstamp.read(path), ACCOUNTS)
    first = replay.take(1 << 62)
    assert [(b.account, len(b.commands)) for b in first] == [(0, 2), (1, 1)], "bids and asks that don't meet go at once"
    assert replay.take(1 << 62) == [], "the amendment waits to hear the order's id"
    world = World(replay.recording.instrument, 10_050)
    for bundle in reversed(first):
        replay.settled(bundle.number, world.execute(bundle))
    second = replay.take(1 << 62)
    assert [b.commands["kind"].tolist() for b in second] == [[Kind.REPLACE, Kind.PLACE, Kind.CANCEL_CLIENT]]
    replay.settled(second[0].number, world.execute(second[0]))
    assert replay.is_done
    assert replay.ladder.levels(True, 9) == ((10_000, 5_000),)
    assert replay.ladder.levels(False, 9) == ()
    assert replay.summary()["fills"] == 1


def test_recorded_time_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "l3.csv"
    path.write_text(SMALL)
    replay = Replay(bitstamp.read(path), ACCOUNTS)
    assert [len(b.commands) for b in replay.take(1_001_000)] == [1, 1]
    assert replay.position == 2


@pytest.mark.real_data
def test_lobster_executions_hit_the_order_that_was_executed(apple: Recording) -> None:
    """Every recorded execution of a visible order finds its lots in the venue's book."""
    replay = finish(apple)
    executed = sum(m.size for m in apple.messages if m.what is What.EXECUTE)
    assert replay.ladder.filled_lots == executed
    assert not any(name.startswith("rejected") for name in replay.ladder.outcomes)
    takes = [b for b in apple.messages if b.what is What.EXECUTE]
    assert replay.ladder.outcomes["filled"] == len(takes)


@pytest.mark.real_data
def test_lobster_book_agrees_row_by_row(apple: Recording) -> None:
    """After each message the venue's book is compared with the recorded one. They can't agree everywhere: orders below
    the ten levels of the first row were never shown, and what happens below ten levels has no message. The first of
    these to matter is a bid of 50 at 58540: best from row 441 on, it came up from below the tenth level in row 147."""
    numbered = Recording(
        apple.instrument, tuple(replace(m, time_us=0) for m in apple.seeds),
        [replace(m, time_us=n) for n, m in enumerate(apple.messages, 1)], apple.mids, apple.books,
    )  # fmt: skip
    world, replay = World(apple.instrument, apple.mids[0]), Replay(numbered, ACCOUNTS)
    tops: list[int] = []
    levels = equal = 0
    for row, book in enumerate(numbered.books, 1):
        while bundles := replay.take(row, 1):
            for bundle in bundles:
                replay.settled(bundle.number, world.execute(bundle))
        assert replay.position == row
        sides = compare(replay.ladder, book).values()
        if all(side["equal_from_the_top"] for side in sides):
            tops.append(row)
        levels += sum(side["levels"] for side in sides)
        equal += sum(side["equal"] for side in sides)
    assert tops[:440] == list(range(1, 441))
    assert len(tops) == 955, "rows of 999 in which the best bid and ask agree, price and size"
    assert (equal, levels) == (17_318, 19_980), "levels that agree, price and size"


@pytest.mark.real_data
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_order_of_finality_changes_the_result(apple: Recording, seed: int) -> None:
    straight, shuffled = finish(apple), finish(apple, shuffle=seed)
    for buy in (True, False):
        assert straight.ladder.levels(buy, 100) == shuffled.ladder.levels(buy, 100)
    assert straight.ladder.outcomes == shuffled.ladder.outcomes


@pytest.mark.real_data
def test_bitstamp_replays_to_an_uncrossed_book(bitcoin: Recording) -> None:
    part = Recording(bitcoin.instrument, (), bitcoin.messages[:8_000], bitcoin.mids[:8_000])
    replay = finish(part)
    bids, asks = replay.ladder.levels(True, 1), replay.ladder.levels(False, 1)
    assert bids[0][0] < asks[0][0]
    assert replay.ladder.fills > 0
    assert replay.position == 8_000


def test_takers_never_rest(tmp_path: Path) -> None:
    path = tmp_path / "x_message_1.csv"
    path.write_text("1.5,1,7,100,5000000,1\n2.5,4,7,10,5000000,1\n")
    replay = Replay(lobster.read(path), ACCOUNTS)
    replay.settled(1, World(lobster.INSTRUMENT, 50_000).execute(replay.take(1 << 62)[0]))
    taken = replay.take(1 << 62)[0]
    assert (taken.account, taken.commands["tif"][0], taken.commands["side"][0]) == (2, TimeInForce.IOC, 1)
    assert EventKind.FILLED.name == "FILLED"
