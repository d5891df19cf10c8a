"""Leaders' headers for this view and the next few, at most one a view."""

from lockstep.consensus.config import PROPOSALS_AHEAD_MAX
from lockstep.consensus.interface import Proposed
from lockstep.wire.validators import ValidatorSet, epoch_of


class Proposals:
    """The first proposal of each view whose notarize signature was verified."""

    def __init__(self, validators: ValidatorSet) -> None:
        self._validators = validators
        self._proposed: dict[int, Proposed] = {}

    def of(self, view: int) -> Proposed | None:
        """The proposal of a view."""
        return self._proposed.get(view)

    def has(self, proposed: Proposed) -> bool:
        """Whether this very proposal is here."""
        held = self._proposed.get(proposed.view)
        return held is not None and held.header.digest == proposed.header.digest

    def is_timely(self, proposed: Proposed, view: int) -> bool:
        """Whether a proposal can still be, or is about to be, of use in `view`."""
        return view <= proposed.view <= view + PROPOSALS_AHEAD_MAX

    def fault(self, proposed: Proposed) -> str:
        """What no leader's proposal has, whatever the chain looks like; empty when there is nothing."""
        header, again = proposed.header, proposed.again
        if header.chain_id != self._validators.chain_id:
            return "a proposal for another chain"
        if epoch_of(header.view) != epoch_of(proposed.view):
            return f"a proposal of view {proposed.view} with a block of view {header.view}, of another epoch"
        if header.proposer != self._validators.leader(header.view):
            return f"a proposal by validator {header.proposer}, who does not lead view {header.view}"
        if proposed.parent_view >= proposed.view:
            return f"a proposal of view {proposed.view} on a parent of view {proposed.parent_view}"
        if again is not None and not header.closes_epoch:
            return f"block {header.height} of view {header.view} is proposed again, but does not end its epoch"
        if again is not None and again.parent_view < header.view:
            return f"a block of view {header.view} is proposed again, as if notarized in view {again.parent_view}"
        return ""

    def add(self, proposed: Proposed) -> None:
        """Keep it. There is never a second one: its notarize vote is then evidence, and it is not added."""
        self._proposed[proposed.view] = proposed

    def prune(self, view: int) -> None:
        """Views before this one are over."""
        self._proposed = {v: proposed for v, proposed in self._proposed.items() if v >= view}
