"""The roster: all validators that a chain ever had, who of them decides now, and what change is pending.

A roster is what a block leaves behind; each block makes the next one (`after`). It follows from the blocks alone, so
every node that has the same chain has the same roster, and it stands in the state (`venue.validators`).

Upon a block that orders a change: the added validators are on the roster, without stake; the change is *pending*, for
  the first height above the block's that is a multiple of `epoch_blocks`.
Upon the block of that height: it is the last that the old set decides. The new stakes count from its child on.
"""

from dataclasses import dataclass, field, replace

from lockstep.base.errors import Reason, Refused
from lockstep.base.keys import PUBLIC_KEY_BYTES
from lockstep.wire.genesis import STAKE_TOTAL_MAX, Genesis, Validator, fault_of_record
from lockstep.wire.set_change import ApprovedChange, SetChange, decode_change, verify_change
from lockstep.wire.validators import ValidatorSet, first_view, validator_set


@dataclass(frozen=True, slots=True)
class Pending:
    """A change that is ordered, and not in force yet."""

    stakes: tuple[int, ...]
    """Of all members, by index, from the child of the block at `height` on."""
    height: int


@dataclass(frozen=True)
class Roster:
    """As of the end of a block."""

    epoch: int
    validators: ValidatorSet
    """Decides the block's child."""
    members: tuple[Validator, ...]
    """Everybody, by index; the `stake` in a record is the one that it came with. Longer than `validators` while
    validators that a pending change adds wait for it."""
    pending: Pending | None
    epoch_blocks: int
    validators_max: int
    _next: ValidatorSet | None = field(init=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if self.pending is not None:
            keys = tuple(member.public_key for member in self.members)
            after = ValidatorSet(self.validators.chain_id, keys, self.pending.stakes)
            object.__setattr__(self, "_next", after)

    @property
    def view(self) -> int:
        """The view that this epoch begins after."""
        return first_view(self.epoch)

    def is_newer(self, other: "Roster") -> bool:
        """Whether it came after the other one of the same chain."""
        mine, theirs = (self.epoch, self.pending is not None), (other.epoch, other.pending is not None)
        return mine > theirs

    def closes(self, height: int) -> bool:
        """Whether a child at this height is the last block of its epoch."""
        return self.pending is not None and self.pending.height == height

    @property
    def next_set(self) -> ValidatorSet:
        """The set of the next epoch, when a change is pending; else the present one."""
        return self.validators if self._next is None else self._next

    def set_after(self, height: int) -> ValidatorSet:
        """The set that decides the child of a block at this height."""
        return self._next if self._next is not None and self.closes(height) else self.validators

    def after(self, height: int, change: SetChange | None) -> "Roster":
        """The roster that a child block at this height leaves; `change` is what it orders, and was checked."""
        if self.closes(height):
            assert change is None, "one change at a time"
            return replace(self, epoch=self.epoch + 1, validators=self.set_after(height), pending=None)
        if change is None:
            return self
        stakes = [*self.validators.stakes, *(member.stake for member in change.added)]
        for index, stake in change.stakes:
            stakes[index] = stake
        at = height - height % self.epoch_blocks + self.epoch_blocks
        return replace(self, members=(*self.members, *change.added), pending=Pending(tuple(stakes), at))

    def check(self, raw: bytes) -> ApprovedChange:
        """Decode a change that a child block is to order; raises `Refused` and says why not."""
        approved = decode_change(raw)
        change = approved.change
        if change.chain_id != self.validators.chain_id:
            raise Refused(Reason.WRONG_CHAIN, "the change of validators is for another chain")
        if change.epoch != self.epoch:
            raise Refused(
                Reason.BAD_SET_CHANGE, f"it was approved for epoch {change.epoch}, and this is epoch {self.epoch}"
            )
        if self.pending is not None:
            raise Refused(Reason.BAD_SET_CHANGE, f"another change takes effect after height {self.pending.height}")
        self._check_added(change)
        self._check_stakes(change)
        verify_change(approved, self.validators)
        return approved

    def _check_added(self, change: SetChange) -> None:
        keys = [member.public_key for member in self.members]
        for member in change.added:
            fault = fault_of_record(member)
            if fault:
                raise Refused(Reason.BAD_SET_CHANGE, f"validator {member.name!r}: {fault}")
            if len(member.public_key) != PUBLIC_KEY_BYTES or member.public_key in keys:
                raise Refused(Reason.BAD_SET_CHANGE, f"validator {member.name!r}: its key is on the roster already")
            keys.append(member.public_key)
        if len(keys) > self.validators_max:
            raise Refused(Reason.BAD_SET_CHANGE, f"a roster of {len(keys)} is more than {self.validators_max}")

    def _check_stakes(self, change: SetChange) -> None:
        indices = [index for index, _ in change.stakes]
        if indices != sorted(set(indices)) or any(not 0 <= index < len(self.members) for index in indices):
            raise Refused(Reason.BAD_SET_CHANGE, "stakes are set by ascending index, of validators on the roster")
        if any(not 0 <= stake < STAKE_TOTAL_MAX for _, stake in change.stakes):
            raise Refused(Reason.BAD_SET_CHANGE, "a stake is out of range")
        after = self.after(self.epoch_blocks + 1, change).pending
        assert after is not None
        if not 0 < sum(after.stakes) < STAKE_TOTAL_MAX:
            raise Refused(Reason.BAD_SET_CHANGE, "the total stake after the change is zero, or too large")
        if after.stakes == self.validators.stakes:
            raise Refused(Reason.BAD_SET_CHANGE, "the change changes nothing")


def genesis_roster(genesis: Genesis) -> Roster:
    """The roster that a chain starts with."""
    parameters = genesis.parameters
    return Roster(
        0, validator_set(genesis), genesis.validators, None, parameters.epoch_blocks, parameters.validators_max
    )
