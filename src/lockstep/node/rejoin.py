"""When a validator whose record of its own votes is lost may vote again.

Upon a start from a home that was made anew, or upon an empty one turning out to be hundreds of blocks behind: sign
nothing. Upon pings from other validators with a quorum of the stake,
each claiming a view that the certificates held here already prove: let w be the view reached; sign only in views
above w + 1.

Why that is enough: to vote in its last view v, the lost home held a certificate of view v - 1, so a quorum voted in
v - 1. Any quorum of the others contains an honest one of those, and an honest validator never pings with a view below
one that it voted in. So w is at least v - 1. A liar can claim a view that nothing proves, and is then not counted; it
cannot make the others' claims lower.

Both are in the log (`Mute`), before anything is signed: a restart is muted as long, and signs as little below.
"""

from collections.abc import Sequence
from typing import Final

from lockstep.wire.validators import ValidatorSet, epoch_of
from lockstep.wire.vote import Vote

MUTED: Final = 1 << 62
"""`mute_through_view` until it is known."""


def is_muted_at_start(mute: int, votes: Sequence[Vote], epoch: int, is_rebuilt: bool) -> bool:
    """Whether a process begins muted. `mute` is the newest record of it in the log (0: none), `votes` are the own ones
    there, `epoch` is the present one, and `is_rebuilt` says that the home was made anew."""
    if mute == MUTED:
        return True
    if mute == 0:
        return is_rebuilt and not votes
    # An epoch began since: whether that made it mute again was to be in the log too, but for a crash just before.
    return epoch_of(mute) < epoch and not any(epoch_of(vote.view) == epoch for vote in votes)


class Rejoin:
    """Who of the others has said where it is."""

    def __init__(self, validators: ValidatorSet, index: int, is_muted: bool, above: int = 0) -> None:
        """`above`: the view above which this validator has signed again already; 0: there is none."""
        self._validators = validators
        self._index = index
        self._heard: dict[int, None] = {}
        self.above = above
        """The view above which it has signed again, in this epoch; 0: it was never mute, or is."""
        self.is_muted = is_muted

    def turn(self, validators: ValidatorSet, last_view: int) -> None:
        """An epoch begins; the last block of the one before was first proposed in `last_view`. See `epochs`."""
        self._validators = validators
        self._heard.clear()
        if self.above and not self.is_muted:
            self.is_muted = last_view <= self.above
            self.above = 0

    def mute(self) -> None:
        """The home turns out to be one that was made anew."""
        self.is_muted, self.above = True, 0

    def heard(self, peer: int, claimed_view: int, proven_view: int) -> int | None:
        """A ping. Returns the view above which votes may be signed, once, when that becomes known."""
        if not self.is_muted or claimed_view > proven_view or peer == self._index:
            return None
        if peer >= len(self._validators):
            return None
        self._heard[peer] = None
        if not self._validators.is_quorum(sum(self._validators.stakes[v] for v in self._heard)):
            return None
        self.is_muted = False
        self.above = proven_view + 1
        return self.above
