"""Lies to those who catch up: offers, parts of a state and blocks that are false, late, too little, too much or old.

It votes like an honest node, so that the network goes on without those whom it lies to. Its mood changes: for a
while it answers well, for a while not at all, slowly, or with one kind of lie after the other.
"""

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Final

import msgspec

from lockstep.base.digest import digest
from lockstep.base.errors import Refused
from lockstep.simulator.behaviour import Actor, Honest, Leaving
from lockstep.simulator.byzantine import forging
from lockstep.wire.block import Payload, decode_header
from lockstep.wire.certificate import Finalization
from lockstep.wire.message import Chain, ChainBlock, CheckpointOffer, FetchState, PeerMessage, Ping, StatePart

MOODS: Final = ("well", "silent", "late", "empty", "little", "far", "far", "false", "false", "false")
MOOD_TICKS: Final = (4, 40)
"""A mood lasts so many ticks of 50 ms."""
LATE_US: Final = (200_000, 1_900_000)
HELD_MAX: Final = 256
FAR: Final = 10_000
"""Blocks ahead of the real checkpoint, in an offer of one that does not exist."""
Answer = CheckpointOffer | StatePart | Chain


class LieSync(Honest):
    """Answers falsely to whoever fetches blocks or a state."""

    name = "lie-sync"

    def __init__(self, moods: Sequence[str] = MOODS) -> None:
        self._moods = moods
        self._mood = moods[-1]
        self._ticks = 0
        self._held: list[tuple[int, int, Answer]] = []
        self._old: dict[type, Answer] = {}
        """The first good answer of each kind, to be given again."""

    def outgoing(self, node: Actor, peer: int, message: PeerMessage) -> list[Leaving]:
        """By mood."""
        random = node.random
        if isinstance(message, Ping):
            claim = message.final_height + random.choice((0, 0, 1, 1_000, 1_000_000))
            return [Ping(message.time_us, message.view, claim)]
        if not isinstance(message, CheckpointOffer | StatePart | Chain):
            return [message]
        old = self._old.setdefault(type(message), message)
        match self._mood:
            case "false":
                return [self._false(node, message, old)]
            case "far" if isinstance(message, CheckpointOffer):
                return [_far_offer(node, message)]
            case "silent":
                return []
            case "late":
                self._held = [*self._held, (node.now_us + random.randint(*LATE_US), peer, message)][-HELD_MAX:]
                return []
            case "empty" if not isinstance(message, CheckpointOffer):
                return [Chain((), None) if isinstance(message, Chain) else StatePart(message.request, b"")]
            case "little" if isinstance(message, Chain):
                return [msgspec.structs.replace(message, blocks=message.blocks[:1])]
            case _:
                return [message]

    def incoming(self, node: Actor, peer: int, message: PeerMessage) -> PeerMessage | None:
        """Who believes in a checkpoint far ahead is served the real one's chunks for it."""
        if isinstance(message, FetchState) and message.height > FAR:
            return msgspec.structs.replace(message, height=message.height - FAR)
        return message

    def tick(self, node: Actor, now_us: int) -> list[tuple[int, Leaving]]:
        """Moods pass; what was held back leaves."""
        self._ticks -= 1
        if self._ticks < 0:
            self._mood, self._ticks = node.random.choice(self._moods), node.random.randint(*MOOD_TICKS)
        due = [(peer, message) for at_us, peer, message in self._held if at_us <= now_us]
        self._held = [held for held in self._held if held[0] > now_us]
        return [*due]

    def _false(self, node: Actor, message: Answer, old: Answer) -> Leaving:
        random = node.random
        if random.randrange(8) == 0 and not (isinstance(old, StatePart) and isinstance(message, StatePart)):
            return old
        if isinstance(message, StatePart):
            return StatePart(message.request, _false_data(random, bytes(message.data)))
        try:
            return _false_offer(node, message) if isinstance(message, CheckpointOffer) else _false_chain(node, message)
        except Refused:  # no header at all: nothing to make a better lie of
            return message


def _false_offer(node: Actor, offer: CheckpointOffer) -> CheckpointOffer:
    header = decode_header(offer.header)
    match node.random.randrange(4):
        case 0:
            return msgspec.structs.replace(offer, manifest=offer.manifest[:-1] + bytes((offer.manifest[-1] ^ 1,)))
        case 1:
            return msgspec.structs.replace(offer, header=replace(header, height=header.height + 1).encode())
        case 2:
            return _far_offer(node, offer)
        case _:
            return msgspec.structs.replace(
                offer, certificate=_alone(node, header.height, header.digest, offer, forging.NOWHERE)
            )


def _far_offer(node: Actor, offer: CheckpointOffer) -> CheckpointOffer:
    """Of a block far above the chain, with the state that is really here."""
    header = decode_header(offer.header)
    far = replace(header, height=header.height + FAR)
    return CheckpointOffer(far.encode(), _alone(node, far.height, far.digest, offer), offer.manifest)


def _alone(
    node: Actor, height: int, block: bytes, offer: CheckpointOffer, state_root: bytes | None = None
) -> Finalization:
    """A finalization that only this validator signed."""
    bitmap = (1 << node.index).to_bytes((len(node.genesis.validators) + 7) // 8, "little")
    good = offer.certificate
    root = good.state_root if state_root is None else state_root
    alone = Finalization(good.view, height, block, root, good.event_root, bitmap, b"")
    return msgspec.structs.replace(alone, signatures=node.key.sign(alone.message(node.genesis.chain_id)))


def _false_data(random: Random, data: bytes) -> bytes:
    """Other bytes, too few, or too many."""
    if not data:
        return random.randbytes(32)
    place = random.randrange(len(data))
    match random.randrange(4):
        case 0:
            return data[:place] + bytes((data[place] ^ 1 << random.randrange(8),)) + data[place + 1 :]
        case 1:
            return data[:-32]
        case 2:
            return data + bytes(32)
        case _:
            return data[32:] + data[:32]


def _false_chain(node: Actor, chain: Chain) -> Chain:
    """Blocks in another order, with a gap, from elsewhere, without their bundles, certified by nobody, or invented."""
    random, blocks, certificate = node.random, chain.blocks, chain.finalization
    if not blocks:
        return chain
    first = blocks[0]
    match random.randrange(8):
        case 0:
            return Chain(tuple(reversed(blocks)), certificate)
        case 1:
            return Chain((*blocks[: len(blocks) // 2], *blocks[len(blocks) // 2 + 1 :]), certificate)
        case 2:
            return Chain(blocks[1:], certificate)
        case 3:
            return Chain((*blocks[:-1], msgspec.structs.replace(blocks[-1], bundles=(random.randbytes(160),))), None)
        case 4:
            return Chain((msgspec.structs.replace(first, payload=first.payload + b"\x00"), *blocks[1:]), certificate)
        case 5 if certificate is not None:
            return Chain(blocks, msgspec.structs.replace(certificate, state_root=forging.NOWHERE))
        case 6:
            return Chain(blocks, None)
        case _:
            return _invented(chain)


def _invented(chain: Chain) -> Chain:
    """Blocks that follow each other by hash from the right place on, order nothing, and that nobody voted for."""
    wires: list[ChainBlock] = []
    parent = decode_header(chain.blocks[0].header).parent
    for block in chain.blocks:
        header = decode_header(block.header)
        payload = Payload(b"", (), ()).encode()
        header = replace(
            header, time_ms=header.time_ms + 1, bundles=0, commands=0, parent=parent, payload=digest(payload)
        )  # fmt: skip
        wires.append(ChainBlock(header.encode(), payload, ()))
        parent = header.digest
    return Chain(tuple(wires), None)
