"""One answer of a replay: consecutive final blocks with their bundles, checked as far as they can be by themselves.

Blocks link by hash, so one finalization of a block proves all of a batch below it: one certificate is checked for each
batch. What a batch holds above its certificate is let go, and asked for again: it would have to be proven by another
answer, and the batch after next would then be without a certificate at a node that replayed from this one.
"""

from dataclasses import dataclass
from itertools import pairwise

from lockstep.base.errors import Reason, Refused
from lockstep.wire.block import Header, decode_block
from lockstep.wire.bundle import Bundle
from lockstep.wire.certificate import Finalization, verify_certificate
from lockstep.wire.message import Chain, ChainBlock
from lockstep.wire.validators import ValidatorSet


@dataclass(frozen=True, slots=True)
class Fetched:
    """A decoded block with its bundles."""

    wire: ChainBlock
    header: Header
    bundles: tuple[Bundle, ...]

    @property
    def size_bytes(self) -> int:
        """On the wire, about."""
        return len(self.wire.header) + len(self.wire.payload) + sum(len(raw) for raw in self.wire.bundles)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Consecutive blocks. `finalization` signs the last one; None: nothing proves them yet."""

    peer: int
    """Who sent it."""
    blocks: tuple[Fetched, ...]
    finalization: Finalization | None
    size_bytes: int

    @property
    def first(self) -> int:
        """Height of the first block."""
        return self.blocks[0].header.height

    @property
    def last(self) -> int:
        """Height of the last block."""
        return self.blocks[-1].header.height

    def above(self, height: int) -> tuple[Fetched, ...]:
        """The blocks above a height."""
        return self.blocks[max(0, height + 1 - self.first) :]


def check_batch(peer: int, chain: Chain, validators: ValidatorSet) -> Batch:
    """Check an answer that has blocks; raises `Refused` for a lie."""
    fetched = [_decode(wire) for wire in chain.blocks]
    for below, block in pairwise(fetched):
        header, tip = block.header, below.header
        if header.parent != tip.digest or header.height != tip.height + 1:
            raise Refused(Reason.WRONG_PARENT, f"block {header.height} does not follow {tip.height}")
    finalization, first = chain.finalization, fetched[0].header.height
    if finalization is not None and first <= finalization.height < first + len(fetched):
        del fetched[finalization.height - first + 1 :]
        verify_certificate(finalization, validators)
        if fetched[-1].header.digest != finalization.block:
            raise Refused(Reason.BAD_CERTIFICATE, f"another block of height {finalization.height} is final")
    else:
        finalization = None  # about a block that is not in here: of no use, and no lie
    return Batch(peer, tuple(fetched), finalization, sum(block.size_bytes for block in fetched))


def _decode(wire: ChainBlock) -> Fetched:
    block = decode_block(wire.header, wire.payload)
    bundles = tuple(Bundle(raw) for raw in wire.bundles)
    if [bundle.digest for bundle in bundles] != block.payload.bundle_digests():
        raise Refused(Reason.MISSING_BUNDLE, f"block {block.header.height} came with other bundles than it orders")
    return Fetched(wire, block.header, bundles)
