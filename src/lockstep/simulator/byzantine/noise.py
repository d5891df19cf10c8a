"""Noise: bytes that are no messages, old messages again, and more questions than anybody has time for."""

from typing import Final

from lockstep.simulator.behaviour import Actor, Honest, Leaving
from lockstep.wire.message import (
    BundleBody,
    FetchBlock,
    FetchBundles,
    FetchCertificates,
    FetchChain,
    ObservationBody,
    PeerMessage,
    Ping,
    encode_message,
)

MEMORY: Final = 512
BURST: Final = 20


def everybody_else(node: Actor) -> list[int]:
    """All other validators."""
    return [peer for peer in range(len(node.genesis.validators)) if peer != node.index]


class Garbage(Honest):
    """One message in four leaves with a bit flipped, cut short, or followed by something; one is random bytes."""

    name = "garbage"

    def outgoing(self, node: Actor, peer: int, message: PeerMessage) -> list[Leaving]:
        """Mostly the message itself."""
        random = node.random
        if random.randrange(4):
            return [message]
        raw = bytearray(encode_message(message))
        match random.randrange(4):
            case 0:
                raw[random.randrange(len(raw))] ^= 1 << random.randrange(8)
            case 1:
                del raw[random.randrange(len(raw)) :]
            case 2:
                raw += random.randbytes(1 + random.randrange(64))
            case _:
                raw = bytearray(random.randbytes(1 + random.randrange(256)))
        return [bytes(raw)]


class Replay(Honest):
    """Sends what it sent or heard before once more, to anybody."""

    name = "replay"

    def __init__(self) -> None:
        self._memory: list[PeerMessage] = []

    def _remember(self, node: Actor, message: PeerMessage) -> None:
        if len(self._memory) < MEMORY:
            self._memory.append(message)
        else:
            self._memory[node.random.randrange(MEMORY)] = message

    def outgoing(self, node: Actor, peer: int, message: PeerMessage) -> list[Leaving]:
        """The message itself."""
        self._remember(node, message)
        return [message]

    def incoming(self, node: Actor, peer: int, message: PeerMessage) -> PeerMessage | None:
        """The message itself."""
        self._remember(node, message)
        return message

    def tick(self, node: Actor, now_us: int) -> list[tuple[int, Leaving]]:
        """A few old ones."""
        if not self._memory:
            return []
        peers = everybody_else(node)
        return [(node.random.choice(peers), node.random.choice(self._memory)) for _ in range(3)]


class Spam(Honest):
    """Asks everybody for everything, all the time, and spreads bundles and observations that are none."""

    name = "spam"

    def tick(self, node: Actor, now_us: int) -> list[tuple[int, Leaving]]:
        """A burst to one peer."""
        random = node.random
        peer = random.choice(everybody_else(node))
        return [(peer, self._nuisance(node, now_us)) for _ in range(BURST)]

    def _nuisance(self, node: Actor, now_us: int) -> PeerMessage:
        random = node.random
        match random.randrange(7):
            case 0:
                return FetchChain(random.randrange(1 << 16))
            case 1:
                return FetchBlock(random.randbytes(32))
            case 2:
                return FetchBundles(random.randbytes(32 * (1 + random.randrange(256))))
            case 3:
                return FetchCertificates(random.randrange(1 << 10), random.randrange(1 << 40))
            case 4:
                return Ping(now_us, random.randrange(1 << 20), random.randrange(1 << 20))
            case 5:
                return BundleBody(random.randbytes(160))
            case _:
                return ObservationBody(random.randbytes(96))
