"""The validator set: who may vote, with what stake, and what makes a quorum.

A quorum is strictly more than 2/3 of the stake, as integers: `3 x stake > 2 x total`. A validator's index is for life:
the list of keys only grows, and who has no stake does not vote. A set decides for one *epoch*; the epoch is in the
view (`view >> 40`), so votes and certificates of different sets are never about the same view.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from lockstep.base.digest import digest
from lockstep.wire.genesis import Genesis

EPOCH_VIEWS_BITS: Final = 40


def epoch_of(view: int) -> int:
    """The epoch that a view belongs to."""
    return view >> EPOCH_VIEWS_BITS


def first_view(epoch: int) -> int:
    """The view that an epoch begins after: its floor, in which nothing is voted on."""
    return epoch << EPOCH_VIEWS_BITS


@dataclass(frozen=True)
class ValidatorSet:
    """Public keys and stakes, by validator index, and the chain that they vote on."""

    chain_id: bytes
    keys: tuple[bytes, ...]
    stakes: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.keys or len(self.keys) != len(self.stakes):
            raise ValueError("a validator set needs one stake for each key, and at least one of them")

    @cached_property
    def total(self) -> int:
        """The total stake."""
        return sum(self.stakes)

    @cached_property
    def seats(self) -> tuple[int, ...]:
        """Validators with stake, ascending: those that lead and vote."""
        return tuple(index for index, stake in enumerate(self.stakes) if stake)

    @cached_property
    def hash(self) -> bytes:
        """BLAKE3 over keys and stakes, for headers and trust roots."""
        return digest(b"".join(k + s.to_bytes(8, "little") for k, s in zip(self.keys, self.stakes, strict=True)))

    def __len__(self) -> int:
        return len(self.keys)

    def votes(self, index: int | None) -> bool:
        """Whether this validator exists and has stake."""
        return index is not None and 0 <= index < len(self.stakes) and self.stakes[index] > 0

    def stake_of(self, signers: Iterable[int]) -> int:
        """The summed stake of distinct `signers`."""
        return sum([self.stakes[signer] for signer in signers])  # a list: asked at every vote

    def is_quorum(self, stake: int) -> bool:
        """Strictly more than 2/3: two quorums share more than 1/3, so at least one honest validator."""
        return 3 * stake > 2 * self.total

    def blocks_quorum(self, stake: int) -> bool:
        """Whether validators of this stake, holding out, leave too little for a quorum."""
        return not self.is_quorum(self.total - stake)

    def leader(self, view: int) -> int:
        """The leader of a view: validators with stake take turns."""
        return self.seats[view % len(self.seats)]


def validator_set(genesis: Genesis) -> ValidatorSet:
    """The set that a chain starts with."""
    return ValidatorSet(
        genesis.chain_id,
        tuple(v.public_key for v in genesis.validators),
        tuple(v.stake for v in genesis.validators),
    )
