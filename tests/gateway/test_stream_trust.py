"""A stream that believes what a quorum signed, from nodes some of which lie; without a network."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from msgspec.structs import replace

from lockstep.base.digest import digest
from lockstep.gateway import light, stream
from lockstep.gateway.stream import EventBlock, EventStream, Lost, NobodyLeft, NodeAddress, Refuted
from lockstep.sync.light_trust import TrustRoot
from lockstep.sync.merge import BlockDelivered, Divergence
from lockstep.venue.event import EVENT
from lockstep.wire.light import LightReply
from lockstep.wire.stream import BlockEvents, EventBatch
from tests.support.light_chain import CHAIN, KEYS_OF_FOUR, LightChain, keys_of, set_of

LAST = 80
GAPS = (5, 6, 30)
OTHERS = [*KEYS_OF_FOUR[3:], *keys_of(9, 3)]
"""One of the four stays: too few for the light client's rule to skip the change."""


def rows(account: int = 1) -> bytes:
    events = np.zeros(2, EVENT)
    events["account"] = [account, 2]
    return events.tobytes()


def changing() -> LightChain:
    """The set is another from height 20 on; some blocks have no finalization of their own."""
    return LightChain(KEYS_OF_FOUR, changes={0: KEYS_OF_FOUR, 20: OTHERS}, gaps=GAPS, events=digest(rows())).grow(LAST)


Alter = Callable[[BlockEvents, int], BlockEvents]
FALSE = rows(7)


def honest(block: BlockEvents, height: int) -> BlockEvents:
    return block


def other_rows(block: BlockEvents, height: int) -> BlockEvents:
    """Rows under a root of their own, beside the true finalization."""
    return replace(block, rows=FALSE, event_root=digest(FALSE)) if height == 12 else block


def unsigned_rows(block: BlockEvents, height: int) -> BlockEvents:
    """The same, without the finalization that would show it."""
    return replace(other_rows(block, height), finalization=None) if height == 12 else block


def forged_root(block: BlockEvents, height: int) -> BlockEvents:
    """The finalization says what the rows say, and the signatures do not hold."""
    if height != 12 or block.finalization is None:
        return block
    return replace(other_rows(block, height), finalization=replace(block.finalization, event_root=digest(FALSE)))


def too_few(block: BlockEvents, height: int) -> BlockEvents:
    """Two of four signed."""
    return replace(block, finalization=changing().certify(height, 2)) if height == 12 else block


def never_signed(block: BlockEvents, height: int) -> BlockEvents:
    return replace(block, finalization=None)


def another_chain(height: int) -> Alter:
    """Blocks that only the liar's own keys signed, from a height on: it names them as validators."""
    keys = keys_of(77, 4)
    false = LightChain(keys, changes={0: KEYS_OF_FOUR, height: keys}, salt=b"false", events=digest(rows())).grow(LAST)

    def alter(block: BlockEvents, at: int) -> BlockEvents:
        return (
            block if at < height else replace(block, header=false.headers[at].encode(), finalization=false.certify(at))
        )

    return alter


@dataclass
class Node:
    """Tells a chain's blocks, as a client hears it. `alter` is what it lies about."""

    number: int
    chain: LightChain
    alter: Alter = honest
    own: tuple[int, ...] = ()
    """Heights whose finalization it has though the others lack it."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def events(
        self, place: tuple[int, int, int], row: int = 0, accounts: tuple[int, ...] = (), wait_ms: int = 0
    ) -> EventBatch:
        assert accounts == (), "what is proven is fetched whole"
        await asyncio.sleep(0)
        height = place[0]
        blocks = tuple(self.block(at) for at in range(max(1, height), min(LAST, height + 7) + 1))
        if not blocks and wait_ms:
            await asyncio.sleep(0.02)
        return EventBatch(0, "", self.number, 1, 1, 0, LAST, 0, "live", blocks, ())

    def block(self, height: int) -> BlockEvents:
        header, told = self.chain.headers[height], rows()
        final = self.chain.certify(height) if height not in self.chain.gaps or height in self.own else None
        block = BlockEvents(
            header.encode(), digest(told), 0, 2, 2, True, b"", told, b"", (), True, final
        )  # fmt: skip
        return self.alter(block, height)

    async def light(self, height: int) -> LightReply:
        reply = self.chain.reply(height)
        if height in self.own:
            return LightReply(0, (self.chain.headers[height].encode(),), self.chain.certify(height), b"", ())
        return reply

    async def disconnect(self) -> None:
        """Nothing is held."""

    def abort(self) -> None:
        """Nothing is held."""


def read(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch, root: TrustRoot | None = None, accounts: tuple[int, ...] = (),
    last: int = LAST, first: int = 1,
) -> tuple[dict[int, EventBlock], list[Refuted]]:  # fmt: skip
    """The blocks that come, and who is refuted, until the last height is there."""
    named = {f"node-{node.number}": node for node in nodes}

    async def connect(address: str, certificate: bytes | None) -> Node:
        return named[address]

    monkeypatch.setattr(stream, "connect", connect)
    monkeypatch.setattr(light, "connect", connect)
    monkeypatch.setattr("lockstep.gateway.stream_trust.time.time_ns", lambda: nodes[0].chain.now_ms() * 1_000_000)
    trust = root or nodes[0].chain.root
    followed = EventStream([NodeAddress(name, name) for name in named], first, (), accounts, 0.2, trust)
    found: dict[int, EventBlock] = {}
    refuted: list[Refuted] = []

    async def main() -> None:
        async with asyncio.timeout(20):
            async for output in followed.outputs():
                assert not isinstance(output, Divergence | Lost), output
                if isinstance(output, Refuted):
                    refuted.append(output)
                if isinstance(output, BlockDelivered):
                    assert isinstance(output.block.body, EventBlock)
                    found[output.block.height] = output.block.body
                if last in found and len(refuted) == sum(node.alter is not honest for node in nodes):
                    return

    asyncio.run(main())
    return found, refuted


def test_blocks_over_a_change_of_validators_are_signed_and_those_without_a_finalization_are_marked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chain = changing()
    found, refuted = read([Node(0, chain), Node(1, chain)], monkeypatch)
    assert list(found) == list(range(1, LAST + 1)) and not refuted
    assert [height for height, block in found.items() if not block.is_signed] == list(GAPS)


def test_a_stream_begins_anywhere_that_trust_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = changing()
    found, _ = read([Node(0, chain)], monkeypatch, first=33)
    assert list(found) == list(range(33, LAST + 1)) and all(block.is_signed for block in found.values())
    later = TrustRoot(CHAIN, 25, set_of(OTHERS).hash)
    found, _ = read([Node(0, chain)], monkeypatch, later, first=22)
    assert list(found) == list(range(22, LAST + 1)), "below the trusted height, by the same validators"


def test_only_what_is_asked_for_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = read([Node(0, changing())], monkeypatch, accounts=(2,))
    assert {tuple(block.indices.tolist()) for block in found.values()} == {(1,)}
    assert {tuple(block.rows["account"].tolist()) for block in found.values()} == {(2,)}


@pytest.mark.parametrize(
    ("alter", "why"),
    [
        (other_rows, "is of another"), (forged_root, "signature in the certificate is not valid"),
        (too_few, "no quorum"), (never_signed, "blocks without a finalization"), (another_chain(12), "does not"),
        (unsigned_rows, "a quorum signed other events of block 12"),
    ],
)  # fmt: skip
def test_a_node_that_shows_what_no_quorum_signed_is_named_and_the_others_are_read(
    alter: Alter, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = changing()
    found, refuted = read([Node(0, chain, alter), Node(1, chain)], monkeypatch)
    assert [one.name for one in refuted] == ["node-0"] and why in refuted[0].reason
    assert list(found) == list(range(1, LAST + 1))
    assert all(block.event_root == digest(rows()) for block in found.values())


def test_when_all_lie_the_stream_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NobodyLeft):
        read([Node(0, changing(), forged_root), Node(1, changing(), too_few)], monkeypatch)
