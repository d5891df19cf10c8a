"""Which final blocks are known to be signed: one chain of headers, whichever nodes show them. Pure.

Upon headers that follow each other, and a finalization of the last: they stand on what is proven below them, each is
decided by the set that the one before names, and a quorum of that set signed the last one. Then all are final; of the
roots, only the last one's are signed.

Who decides the first block is found out by other means (`light_client`); then the headers tell: an epoch's last block
names the next set.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lockstep.base.errors import Reason, Refused
from lockstep.base.marks import reached
from lockstep.sync.light_shown import check_shown
from lockstep.wire.block import Header
from lockstep.wire.certificate import Finalization
from lockstep.wire.validators import ValidatorSet

BLOCKS_MAX: Final = 4_096
"""Remembered, the newest; slower nodes than that are checked against the sets only."""
SETS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class _Proven:
    block: bytes
    next_validators: bytes


class SignedChain:
    """What is proven so far."""

    def __init__(self) -> None:
        self._sets: dict[bytes, ValidatorSet] = {}
        self._blocks: dict[int, _Proven] = {}

    def trust(self, validators: ValidatorSet) -> None:
        """A set that a trusted header names."""
        self._sets[validators.hash] = validators
        while len(self._sets) > SETS_MAX:
            del self._sets[next(iter(self._sets))]

    def knows(self, named: bytes) -> bool:
        """Whether the set of this hash is trusted, and here."""
        return named in self._sets

    def names(self, header: Header) -> bool:
        """Whether the block below is proven, and names the set that this header says it is decided by."""
        below = self._blocks.get(header.height - 1)
        return below is not None and below.next_validators == header.validators

    def prove(self, headers: Sequence[Header], finalization: Finalization) -> None:
        """Take headers that are final by this; raises `Refused` when they are not. The last one's set must be known."""
        below = self._blocks.get(headers[0].height - 1)
        if below is not None and headers[0].parent != below.block:
            reached("signed chain: a block that does not stand on what is signed")
            height = headers[0].height
            raise Refused(Reason.WRONG_PARENT, f"block {height} does not follow block {height - 1}, which is signed")
        deciding = headers[-1].validators if below is None else below.next_validators
        for header in headers:
            if header.validators != deciding or (header.closes_epoch and header is not headers[-1]):
                raise Refused(Reason.BAD_CERTIFICATE, f"block {header.height} names validators that do not decide it")
        self.check(headers[-1], finalization)
        for header in headers:
            self._blocks[header.height] = _Proven(header.digest, header.next_validators)
        while len(self._blocks) > BLOCKS_MAX:
            del self._blocks[next(iter(self._blocks))]

    def check(self, header: Header, finalization: Finalization) -> None:
        """Whether a quorum of the header's set, which must be known, signed it with these roots; raises `Refused`."""
        validators = self._sets[header.validators]
        signers = check_shown(header, finalization, validators)
        if not validators.is_quorum(validators.stake_of(signers)):
            raise Refused(
                Reason.BAD_CERTIFICATE, f"the signers of block {header.height} are no quorum of its validators"
            )
