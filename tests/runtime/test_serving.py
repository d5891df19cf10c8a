"""What peers that catch up, and clients that ask late, are served from disk."""

import time
from pathlib import Path

import numpy as np
import pytest

from lockstep.base.digest import digest
from lockstep.base.limits import FIRST_OBSERVER
from lockstep.log.log import open_log
from lockstep.node import old_blocks
from lockstep.node.effects import Effect, Reply, Send, ServeChain, ServeEvents, ServeFate, ServeProof, ServeState
from lockstep.node.record import StoredBlock, encode_record
from lockstep.runtime import serving as serving_module
from lockstep.runtime.block_index import BlockPlace, FatePlace
from lockstep.runtime.directory import Directory
from lockstep.runtime.history import History
from lockstep.runtime.index import Index
from lockstep.runtime.serving import EVENT_REQUESTS_MAX, STATE_REQUESTS_MAX, Serving
from lockstep.runtime.set_files import SetFiles
from lockstep.runtime.store import Store
from lockstep.venue.event import EVENT
from lockstep.wire.block import Block, Header, Payload
from lockstep.wire.certificate import Finalization
from lockstep.wire.client import Fate
from lockstep.wire.light import AskLight, LightReply
from lockstep.wire.message import BLOCKS_PER_CHAIN_MAX, Chain, FetchState, StatePart
from lockstep.wire.stream import AskEvents, EventBatch

BLOCKS = 100


def stored(height: int) -> StoredBlock:
    payload = Payload(b"", (), ())
    header = Header(bytes(32), height, height, height - 1, 0, 0, 0, 0, bytes(32), digest(payload.encode()))
    return StoredBlock(Block(header, payload), ())


def final(height: int) -> Finalization:
    block = stored(height).block
    return Finalization(height, height, block.digest, bytes(32), bytes(32), b"\x07", bytes(192))


def rows(height: int) -> np.ndarray:
    events = np.zeros(10, EVENT)
    events["command"] = np.arange(10) + 100 * height
    return events


class Archive:
    """A hundred final blocks on disk, every third with a finalization of its own; and the thread that serves them."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "store")
        index = Index(self.store)
        log = open_log(Directory(folder / "log"), None, lambda *_: None)
        history = History(folder / "history", None, 0)
        for height in range(1, BLOCKS + 1):
            (block,) = log.append([encode_record(stored(height))])
            certificate = log.append([encode_record(final(height))])[0] if height % 3 == 0 else 0
            at = history.add(height, stored(height).block.digest, rows(height).tobytes())
            index.blocks[height] = BlockPlace(block, certificate, at)
        index.fates[b"d" * 32] = FatePlace(42, 5, 3, 4)
        log.close()
        history.close()
        self.answers: list[Effect] = []
        self.failures: list[BaseException] = []
        self.serving = Serving(
            folder / "log",
            folder / "history",
            index,
            self.store,
            SetFiles(folder / "sets", bytes(32)),
            self.answers.append,
            self.failures.append,
        )

    def ask(self, request: ServeChain | ServeFate | ServeEvents | ServeProof | ServeState) -> Effect:
        before = len(self.answers)
        self.serving.put(request)
        deadline = time.monotonic() + 10
        while len(self.answers) == before:
            assert time.monotonic() < deadline and not self.failures
            time.sleep(0.001)
        return self.answers[-1]

    def chain(self, from_height: int, final_height: int) -> Chain:
        answer = self.ask(ServeChain(2, from_height, final_height))
        assert isinstance(answer, Send) and answer.peer == 2 and isinstance(answer.message, Chain)
        return answer.message

    def close(self) -> None:
        self.serving.close()
        self.store.close()
        assert not self.failures


@pytest.fixture
def archive(tmp_path: Path):
    made = Archive(tmp_path)
    yield made
    made.close()


def test_a_chain_has_consecutive_blocks_and_the_newest_finalization_among_them(archive: Archive) -> None:
    chain = archive.chain(7, 20)
    assert list(chain.blocks) == [stored(height).to_wire() for height in range(7, 21)]
    assert chain.finalization == final(18)


def test_a_chain_is_bounded_in_blocks_and_in_bytes(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(archive.chain(1, BLOCKS).blocks) == BLOCKS_PER_CHAIN_MAX
    monkeypatch.setattr(old_blocks, "CHAIN_BYTES_MAX", 1_000)
    few = len(archive.chain(1, BLOCKS).blocks)
    assert 1 < few < 10
    monkeypatch.setattr(old_blocks, "CHAIN_BYTES_MAX", 1)
    assert len(archive.chain(1, BLOCKS).blocks) == 1, "one block always fits, or nobody could ever catch up"


def test_a_node_that_does_not_vote_gets_so_much_and_no_more(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_module, "ANSWER_BYTES_MIN", serving_module.OBSERVER_BYTES_PER_SECOND * 1_000)
    archive.ask(ServeChain(FIRST_OBSERVER, 1, BLOCKS))
    archive.chain(1, BLOCKS)  # by now the first answer is in the account
    archive.serving.put(ServeChain(FIRST_OBSERVER, 1, BLOCKS))
    archive.chain(1, BLOCKS)
    assert [answer.peer for answer in archive.answers if isinstance(answer, Send)] == [FIRST_OBSERVER, 2, 2]
    archive.ask(ServeChain(FIRST_OBSERVER + 1, 1, BLOCKS))  # others have allowances of their own


def test_a_peer_is_shown_the_next_certified_header_and_what_it_asks_counts(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = archive.ask(ServeProof(2, AskLight(9, 7), BLOCKS, is_peer=True))
    assert isinstance(answer, Send) and answer.peer == 2
    assert isinstance(answer.message, LightReply) and answer.message.token == 9
    assert isinstance(archive.ask(ServeProof(2, AskLight(9, 7), BLOCKS)), Reply), "a client has number 2 too"
    monkeypatch.setattr(serving_module, "STATE_REQUESTS_MAX", 0)
    archive.serving.put(ServeProof(2, AskLight(10, 7), BLOCKS, is_peer=True))
    assert isinstance(archive.ask(ServeProof(2, AskLight(11, 7), BLOCKS)), Reply)
    assert sum(isinstance(answer, Send) for answer in archive.answers) == 1


def test_blocks_that_are_not_indexed_yet_are_left_out(archive: Archive) -> None:
    assert len(archive.chain(95, BLOCKS + 10).blocks) == 6
    assert archive.chain(BLOCKS + 1, BLOCKS + 10) == Chain((), None)


def test_a_fate_comes_with_its_outcome_rows(archive: Archive) -> None:
    answer = archive.ask(ServeFate(9, b"d" * 32))
    assert answer == Reply(9, Fate(b"d" * 32, "final", 42, 5, "", rows(42)[3:7].tobytes()))


def test_an_unknown_bundle_is_unknown(archive: Archive) -> None:
    assert archive.ask(ServeFate(9, b"u" * 32)) == Reply(9, Fate(b"u" * 32, "unknown", 0, 0, "", b""))


def test_a_damaged_record_stops_the_node(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    (segment,) = (tmp_path / "history").iterdir()
    data = bytearray(segment.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    segment.write_bytes(data)
    archive.serving._index.fates[b"e" * 32] = FatePlace(90, 0, 0, 1)
    archive.serving.put(ServeFate(9, b"e" * 32))
    archive.serving.close()
    assert "damaged" in str(archive.failures[0])
    archive.store.close()


def events(client: int, height: int, *accounts: int) -> ServeEvents:
    head = EventBatch(1, "", 2, 3, 1, 1, BLOCKS, 0, "live", (), ())
    return ServeEvents(client, AskEvents(1, height, 0, 3, 1, accounts, 0), head, ())


def test_old_events_are_told_from_disk_unsettled_only_where_there_are_bundles(archive: Archive) -> None:
    answer = archive.ask(events(7, 98))
    assert isinstance(answer, Reply) and isinstance(answer.message, EventBatch) and answer.client == 7
    told = answer.message.blocks
    assert [(block.first, block.end, block.total, block.is_whole) for block in told] == [(0, 10, 10, True)] * 3
    assert [digest(block.rows) for block in told] == [block.event_root for block in told]
    assert told[0].rows == rows(98).tobytes() and all(block.is_settled and not block.clock for block in told)
    assert [block.finalization for block in told] == [None, final(99), None]
    picked = archive.ask(events(7, 100, 5))
    assert isinstance(picked, Reply) and isinstance(picked.message, EventBatch)
    assert (picked.message.blocks[0].rows, picked.message.blocks[0].end) == (b"", 10)


def test_blocks_that_are_not_here_are_said_not_to_be(archive: Archive) -> None:
    archive.serving._index.blocks.pop(50)
    missing = archive.ask(events(7, 50))
    assert isinstance(missing, Reply) and isinstance(missing.message, EventBatch)
    assert missing.message.blocks == () and "block 50" in missing.message.reason
    first = archive.ask(events(7, 0))
    assert isinstance(first, Reply) and isinstance(first.message, EventBatch)
    assert len(first.message.blocks) == 49 and first.message.reason == ""
    ahead = archive.ask(events(7, BLOCKS + 1))
    assert isinstance(ahead, Reply) and isinstance(ahead.message, EventBatch)
    assert (ahead.message.blocks, ahead.message.reason) == ((), "")


def test_clients_share_a_bound_and_a_reader_has_its_own(archive: Archive) -> None:
    """The thread is held up, so that requests pile up."""
    held = archive.serving._in_use.reading
    with held:
        for number in range(2 * STATE_REQUESTS_MAX):
            request = FetchState(number, 512, 0, 0, bytes(4), True)
            archive.serving.put(ServeState(number % 5, request, is_client=True))
        for _ in range(3 * EVENT_REQUESTS_MAX):
            archive.serving.put(events(8, BLOCKS + 1))
        archive.serving.put(events(9, BLOCKS + 1))
    archive.ask(events(10, BLOCKS + 1))
    deadline = time.monotonic() + 10
    while not any(isinstance(a, Reply) and a.client == 10 for a in archive.answers) and time.monotonic() < deadline:
        time.sleep(0.01)
    replies = [answer for answer in archive.answers if isinstance(answer, Reply)]
    assert sum(isinstance(reply.message, StatePart) for reply in replies) <= STATE_REQUESTS_MAX + 1
    readers = [reply.client for reply in replies if isinstance(reply.message, EventBatch)]
    assert readers.count(8) <= EVENT_REQUESTS_MAX + 1 and readers[-2:] == [9, 10]
