"""A chain of certified headers for light clients, without a venue: roots are hashes of the height."""

from dataclasses import dataclass, field

import msgspec

from lockstep.base.digest import digest
from lockstep.base.keys import PrivateKey
from lockstep.sync.light_trust import TrustRoot
from lockstep.wire.block import Header, genesis_header
from lockstep.wire.certificate import Finalization, finalization
from lockstep.wire.light import HEADERS_PER_REPLY_MAX, AskLight, LightReply
from lockstep.wire.message import CheckpointOffer
from lockstep.wire.validators import ValidatorSet
from lockstep.wire.vote import sign_finalize

CHAIN = digest(b"a chain for light clients")
START_MS = 1_700_000_000_000
BLOCK_MS = 100


def keys_of(first: int, count: int) -> list[PrivateKey]:
    return [PrivateKey(bytes([first + i]) * 32) for i in range(count)]


def set_of(keys: list[PrivateKey]) -> ValidatorSet:
    return ValidatorSet(CHAIN, tuple(key.public for key in keys), (1,) * len(keys))


@dataclass
class LightChain:
    """Headers one after the other; `keys_at` gives each height's validators, `gaps` the heights without certificate."""

    keys: list[PrivateKey]
    salt: bytes = b""
    changes: dict[int, list[PrivateKey]] = field(default_factory=dict)
    gaps: tuple[int, ...] = ()
    payload: bytes = b""
    """Every block's payload digest; different ones if left out."""
    bundles: int = 0
    events: bytes = digest(b"events")
    headers: list[Header] = field(default_factory=lambda: [genesis_header(CHAIN, START_MS)])

    def keys_at(self, height: int) -> list[PrivateKey]:
        return self.changes[max((h for h in self.changes if h <= height), default=0)] if self.changes else self.keys

    def grow(self, height: int) -> "LightChain":
        """Headers up to this height."""
        while len(self.headers) <= height:
            parent = self.headers[-1]
            self.headers.append(
                Header(CHAIN, parent.height + 1, parent.view + 1, parent.view, parent.time_ms + BLOCK_MS, 0,
                       self.bundles, 0, parent.digest,
                       self.payload or digest(self.salt + bytes([len(self.headers) & 255])),
                       set_of(self.keys_at(parent.height + 1)).hash, set_of(self.keys_at(parent.height + 2)).hash)
            )  # fmt: skip
        return self

    def certify(self, height: int, signers: int | None = None, state: bytes = b"state") -> Finalization:
        """The finalization of a height by the first `signers` of its validators, all but a third if left out."""
        keys = self.keys_at(height)
        header, count = self.headers[height], len(keys) * 2 // 3 + 1 if signers is None else signers
        votes = [
            sign_finalize(key, CHAIN, i, header.view, height, header.digest, digest(state), self.events)
            for i, key in enumerate(keys[:count])
        ]
        return finalization(votes, len(keys))

    def reply(self, height: int, **certificate: object) -> LightReply:
        """What an honest node answers (0: the newest)."""
        first = height or len(self.headers) - 1
        if first >= len(self.headers):
            return LightReply(0, (), None, b"", ())
        last = first
        while last in self.gaps:
            last += 1
        validators = set_of(self.keys_at(last))
        headers = tuple(header.encode() for header in self.headers[first : last + 1])
        proof = self.certify(last, **certificate)  # type: ignore[arg-type]
        following = set_of(self.keys_at(last + 1))
        differs = following != validators
        return LightReply(
            0, headers, proof, b"".join(validators.keys), validators.stakes,
            next_keys=b"".join(following.keys) if differs else b"", next_stakes=following.stakes if differs else (),
        )  # fmt: skip

    @property
    def root(self) -> TrustRoot:
        """Trust in the first set."""
        return TrustRoot(CHAIN, 0, set_of(self.keys_at(1)).hash)

    def now_ms(self) -> int:
        """A moment after the newest header."""
        return self.headers[-1].time_ms + 50


@dataclass
class Served:
    """A node that shows this chain, from `lowest` on, and at most so many headers at a time as a node does."""

    chain: LightChain
    lowest: int = 1
    asked: list[int] = field(default_factory=list)

    def offer(self, height: int) -> CheckpointOffer:
        """Of a checkpoint at this height."""
        shown = self.chain.reply(height)
        assert shown.finalization is not None and len(shown.headers) == 1
        return CheckpointOffer(shown.headers[0], shown.finalization, b"", shown.keys, shown.stakes)

    def reply(self, height: int) -> LightReply:
        """The answer to a light client."""
        return self.answer(AskLight(0, height))

    def answer(self, ask: AskLight) -> LightReply:
        """The answer to a peer."""
        self.asked.append(ask.height)
        nothing = LightReply(ask.token, (), None, b"", (), self.lowest)
        if 0 < ask.height < self.lowest:
            return nothing
        shown = self.chain.reply(ask.height)
        if len(shown.headers) > HEADERS_PER_REPLY_MAX:
            return nothing
        return msgspec.structs.replace(shown, token=ask.token, lowest=self.lowest)


KEYS_OF_FOUR = keys_of(1, 4)
