"""Replay: fetch final blocks in order from one peer after another until the certified head is reached.

Nothing is believed: blocks must link by hash from our final block, carry the bundles that they name, and be covered
by a finalization that verifies, before they are handed on. Blocks not covered yet wait in a bounded buffer. A peer
that answers wrongly is named; one that doesn't answer in time is passed over for the next.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from lockstep.base.errors import InvariantBroken, Reason, Refused
from lockstep.base.marks import reached
from lockstep.wire.block import Header, decode_block
from lockstep.wire.bundle import Bundle
from lockstep.wire.certificate import Finalization, verify_certificate
from lockstep.wire.message import Chain, ChainBlock, FetchChain
from lockstep.wire.validators import ValidatorSet

TIMEOUT_US: Final = 1_000_000
BUFFER_BLOCKS_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Fetched:
    """A decoded block with its bundles, linked but maybe not proven yet."""

    wire: ChainBlock
    header: Header
    bundles: tuple[Bundle, ...]


@dataclass(frozen=True, slots=True)
class Proven:
    """Blocks in order, the last of which `finalization` certifies."""

    blocks: list[Fetched]
    finalization: Finalization


@dataclass(slots=True)
class CatchUp:
    """One request at a time; `attempt` walks through the peers."""

    validators: ValidatorSet
    asked: int | None = None
    due_us: int = 0
    attempt: int = 0
    base: bytes = b""
    """The block that the outstanding request builds on."""
    buffer: list[Fetched] = field(default_factory=list)

    def request(self, final: Header, peer: int | None, now_us: int) -> FetchChain | None:
        """The next request to `peer`, or None while one is outstanding or nobody can be asked."""
        if peer is None or (self.asked is not None and now_us < self.due_us):
            return None
        if self.asked is not None:  # it did not answer in time
            reached("catch-up: a peer did not answer in time")
            self.attempt += 1
        self.asked, self.due_us = peer, now_us + TIMEOUT_US
        if self.base != final.digest:
            self.base = final.digest
            self.buffer.clear()
        return FetchChain(final.height + 1 + len(self.buffer))

    def reset(self) -> None:
        """Nothing is missing any more."""
        self.asked = None
        self.buffer.clear()

    def take(self, peer: int, chain: Chain, final: Header) -> Proven | None:
        """Take an answer. Returns what is proven now; None when nothing is yet; raises `Refused` for a lie."""
        if peer != self.asked:
            return None  # late, after its time-out
        self.asked = None
        self.attempt += not chain.blocks  # it has nothing for us: ask another
        if self.base != final.digest:
            return None  # the blocks came another way meanwhile
        try:
            return self._take(chain, final)
        except Refused:
            reached("catch-up: a peer lied")
            self.attempt += 1
            self.buffer.clear()
            raise

    def _take(self, chain: Chain, final: Header) -> Proven | None:
        tip = self.buffer[-1].header if self.buffer else final
        for wire in chain.blocks:
            fetched = _decode(wire)
            if fetched.header.parent != tip.digest or fetched.header.height != tip.height + 1:
                self._check_fork(chain, final)
                raise Refused(Reason.WRONG_PARENT, f"block {fetched.header.height} does not follow {tip.height}")
            self.buffer.append(fetched)
            tip = fetched.header
        if len(self.buffer) > BUFFER_BLOCKS_MAX:
            raise Refused(Reason.BAD_CERTIFICATE, f"{len(self.buffer)} blocks without a certificate")
        finalization = chain.finalization
        if finalization is None:
            return None
        covered = finalization.height - final.height
        if not 1 <= covered <= len(self.buffer) or self.buffer[covered - 1].header.digest != finalization.block:
            return None  # about a block that is not here yet: of no use now, and no lie
        verify_certificate(finalization, self.validators)
        proven, self.buffer = self.buffer[:covered], self.buffer[covered:]
        return Proven(proven, finalization)

    def _check_fork(self, chain: Chain, final: Header) -> None:
        """Raises `InvariantBroken` when these blocks are final, and not on our final block: two quorums disagree."""
        headers = [_decode(wire).header for wire in chain.blocks]
        follows = all(b.parent == a.digest and b.height == a.height + 1 for a, b in pairwise(headers))
        certificate = chain.finalization
        if certificate is None or not follows or headers[0].height != final.height + 1:
            return
        if headers[0].parent != final.digest and certificate.block in [header.digest for header in headers]:
            verify_certificate(certificate, self.validators)
            raise InvariantBroken(
                f"a quorum finalized block {headers[0].digest.hex()} of height {headers[0].height}, which is not on "
                "this node's final block: validators with more than a third of the stake are faulty"
            )


def _decode(wire: ChainBlock) -> Fetched:
    block = decode_block(wire.header, wire.payload)
    bundles = tuple(Bundle(raw) for raw in wire.bundles)
    if [bundle.digest for bundle in bundles] != block.payload.bundle_digests():
        raise Refused(Reason.MISSING_BUNDLE, f"block {block.header.height} came with other bundles than it orders")
    return Fetched(wire, block.header, bundles)
