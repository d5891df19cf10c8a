"""Old finalizations and outcomes from the disk, as light clients ask for them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lockstep.base.digest import digest
from lockstep.log.log import open_log
from lockstep.log.reader import LogReader
from lockstep.node.effects import ServeProof
from lockstep.node.record import StoredBlock, encode_record
from lockstep.runtime.block_index import BlockPlace, FatePlace
from lockstep.runtime.directory import Directory
from lockstep.runtime.history import History, HistoryReader
from lockstep.runtime.index import Index
from lockstep.runtime.light_serving import LightServing
from lockstep.runtime.store import Store
from lockstep.sync.light_client import Adopted, Answered, Follow, LightClient
from lockstep.sync.light_proof import check_outcome
from lockstep.venue.event import EVENT
from lockstep.wire.block import Block, Payload, decode_header
from lockstep.wire.bundle import seal_bundle
from lockstep.wire.command import COMMAND
from lockstep.wire.light import AskLight, AskOutcome, LightReply, OutcomeReply
from tests.support.light_chain import CHAIN, KEYS_OF_FOUR, LightChain, set_of

BLOCKS, GAPS = 90, (4, 5, 6, *range(20, 88))
VALIDATORS = set_of(KEYS_OF_FOUR)
BUNDLE = seal_bundle(KEYS_OF_FOUR[0], CHAIN, 0, 0, 9, np.zeros(3, COMMAND))
PAYLOAD = Payload(BUNDLE.digest, (), ())


def events() -> np.ndarray:
    rows = np.zeros(3, EVENT)
    rows["command"], rows["flags"] = np.arange(3), 1
    return rows


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[tuple[LightServing, LightChain]]:
    chain = LightChain(KEYS_OF_FOUR, gaps=GAPS, bundles=1, payload=digest(PAYLOAD.encode()),
                       events=digest(events().tobytes())).grow(BLOCKS)  # fmt: skip
    store = Store(tmp_path / "store")
    index = Index(store)
    log = open_log(Directory(tmp_path / "log"), None, lambda *_: None)
    history = History(tmp_path / "history", None, 0)
    for height in range(1, BLOCKS + 1):
        block = Block(chain.headers[height], PAYLOAD)
        (place,) = log.append([encode_record(StoredBlock(block, (BUNDLE,)))])
        certificate = 0 if height in GAPS else log.append([encode_record(chain.certify(height))])[0]
        at = history.add(height, block.digest, events().tobytes())
        index.blocks[height] = BlockPlace(place, certificate, at)
    index.fates[BUNDLE.digest] = FatePlace(9, 0, 0, 3)
    index.fates[b"g" * 32] = FatePlace(5, 0, 0, 3)
    log.close()
    history.close()
    readers = LogReader(Directory(tmp_path / "log")), HistoryReader(tmp_path / "history")
    yield LightServing(*readers, index, {VALIDATORS.hash: VALIDATORS}.get), chain
    for reader in readers:
        reader.close()
    store.close()


def headers(serving: LightServing, height: int) -> LightReply:
    reply = serving.answer(ServeProof(1, AskLight(7, height), BLOCKS))
    assert isinstance(reply, LightReply) and reply.token == 7
    return reply


def outcome(serving: LightServing, bundle: bytes) -> OutcomeReply:
    reply = serving.answer(ServeProof(1, AskOutcome(8, bundle), BLOCKS))
    assert isinstance(reply, OutcomeReply) and reply.token == 8
    return reply


def test_a_height_gets_its_finalization_or_the_way_to_the_next(serving: tuple[LightServing, LightChain]) -> None:
    light, chain = serving
    for height, certified in ((3, 3), (4, 7), (6, 7), (90, 90), (30, 88)):
        reply = headers(light, height)
        assert [decode_header(raw).height for raw in reply.headers] == list(range(height, certified + 1))
        client = LightClient(chain.root, 1)
        client.step(Follow(height), chain.now_ms())
        assert isinstance(client.step(Answered(0, height, reply), chain.now_ms())[0], Adopted)
    for height in (91, 20):  # not there yet; the next certificate is 68 blocks on, more than a reply may hold
        assert headers(light, height) == LightReply(7, (), None, b"", ())


def test_an_outcome_is_proven_unless_nothing_signed_its_events(serving: tuple[LightServing, LightChain]) -> None:
    light, chain = serving
    reply = outcome(light, BUNDLE.digest)
    assert reply.finalization is not None and reply.finalization.height == 9
    header = decode_header(reply.header)
    assert header == chain.headers[9]
    rows = check_outcome(AskOutcome(8, BUNDLE.digest), reply, header, reply.finalization.event_root)
    assert rows.tobytes() == events().tobytes()
    assert outcome(light, b"g" * 32).reason == "uncertified"
    assert outcome(light, b"x" * 32).reason == "unknown"
