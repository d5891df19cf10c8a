"""The validator set: who may vote, with what stake, and what makes a quorum.

A quorum is strictly more than 2/3 of the stake, as integers: `3 x stake > 2 x total`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from lockstep.base.digest import digest
from lockstep.wire.genesis import Genesis


@dataclass(frozen=True)
class ValidatorSet:
    """Public keys and stakes, by validator index, and the chain that they vote on."""

    chain_id: bytes
    keys: tuple[bytes, ...]
    stakes: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.keys or len(self.keys) != len(self.stakes):
            raise ValueError("a validator set needs one stake for each key, and at least one of them")

    @property
    def total(self) -> int:
        """The total stake."""
        return sum(self.stakes)

    @property
    def hash(self) -> bytes:
        """BLAKE3 over keys and stakes, for trust roots."""
        return digest(b"".join(k + s.to_bytes(8, "little") for k, s in zip(self.keys, self.stakes, strict=True)))

    def __len__(self) -> int:
        return len(self.keys)

    def stake_of(self, signers: Iterable[int]) -> int:
        """The summed stake of distinct `signers`."""
        return sum(self.stakes[signer] for signer in signers)

    def is_quorum(self, stake: int) -> bool:
        """Strictly more than 2/3: two quorums share more than 1/3, so at least one honest validator."""
        return 3 * stake > 2 * self.total

    def blocks_quorum(self, stake: int) -> bool:
        """Whether validators of this stake, holding out, leave too little for a quorum."""
        return not self.is_quorum(self.total - stake)

    def leader(self, view: int) -> int:
        """The leader of a view: validators take turns."""
        return view % len(self.keys)


def validator_set(genesis: Genesis) -> ValidatorSet:
    """The set that a chain starts with."""
    return ValidatorSet(
        genesis.chain_id,
        tuple(v.public_key for v in genesis.validators),
        tuple(v.stake for v in genesis.validators),
    )
