"""Who was heard, so that a silent leader is skipped and not waited for.

A vote counts as a sign of life when it comes over its signer's own authenticated connection, even when nothing
depends on it any more and so its signature is not verified: the fourth of four votes is as alive as the first. Who
sends invalid votes only gets himself waited for. Who is not connected to us any more is silent at once.
"""

from typing import Final

from lockstep.wire.validators import ValidatorSet

_GONE: Final = -(1 << 62)
"""Before any view."""


class Activity:
    """For each validator, the view that this node was in when it last heard from it."""

    def __init__(self, validators: ValidatorSet, index: int | None, view: int, inactive_views: int) -> None:
        self._validators = validators
        self._index = index
        self._inactive_views = inactive_views
        self._heard = [view] * len(validators)

    def heard(self, signer: int, vote_view: int, view: int) -> None:
        """A vote for a recent view came from its signer while this node is in `view`."""
        if vote_view + self._inactive_views >= view and signer < len(self._heard):
            self._heard[signer] = view

    def gone(self, validator: int) -> None:
        """No connection to it is left: it is silent until it is heard again."""
        if validator < len(self._heard):
            self._heard[validator] = _GONE

    def is_active(self, validator: int, view: int) -> bool:
        """Whether it was heard in the last `inactive_views` views (or could not have been, at the beginning)."""
        return validator == self._index or self._heard[validator] + self._inactive_views >= view

    def skips(self, leader: int, view: int) -> bool:
        """Whether the leader is silent while a quorum is not: then the fault is not ours."""
        if self.is_active(leader, view):
            return False
        alive = [validator for validator in self._validators.seats if self.is_active(validator, view)]
        return self._validators.is_quorum(self._validators.stake_of(alive))
