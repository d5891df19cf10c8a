"""Own votes: what this validator signed, and the one place where it signs.

Nothing here asks whether a vote is wise; `Simplex` does. This only guarantees that no two votes leave this validator
that an honest one never signs both, also across restarts, provided that it is given back every vote that it made
durable. A mistake of the caller raises `InvariantBroken` instead of signing.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

from lockstep.base.errors import InvariantBroken
from lockstep.base.keys import PrivateKey
from lockstep.base.marks import reached
from lockstep.consensus.config import OWN_VIEWS_MAX, RESENT_VOTES_MAX
from lockstep.wire.evidence import conflict
from lockstep.wire.validators import ValidatorSet
from lockstep.wire.vote import Finalize, Notarize, Nullify, Vote, sign_finalize, sign_notarize, sign_nullify

V = TypeVar("V", Notarize, Nullify, Finalize)


class OwnVotes:
    """The own votes above the final view. In views up to `closed_view` nothing more is signed."""

    def __init__(self, validators: ValidatorSet, index: int | None, key: PrivateKey | None, closed_view: int) -> None:
        if (index is None) != (key is None):
            raise ValueError("a validator has an index and a key, an observer has neither")
        self._validators = validators
        self._index = index
        self._key = key
        self.closed_view = closed_view
        self._votes: dict[int, list[Vote]] = {}
        self._finalizes: dict[int, Finalize] = {}
        self._pending: list[Vote] = []
        """Signed, but not known to be durable: they bind this validator, and must not leave yet."""

    def restore(self, votes: Iterable[Vote], final_view: int) -> None:
        """Take back votes that were made durable; raises `InvariantBroken` when they contradict each other."""
        for vote in votes:
            if vote.signer != self._index:
                raise InvariantBroken(f"a vote of validator {vote.signer} is in the log of validator {self._index}")
            self._remember(vote)
        self.prune(final_view)

    # -- what may still be signed ---------------------------------------------------------------------

    def of(self, view: int) -> list[Vote]:
        """The own votes in a view."""
        return self._votes.get(view, [])

    def reached(self) -> int:
        """The highest view that own votes prove to have been entered."""
        return max((v + (v in self._finalizes) for v in self._votes), default=0)

    def finalized(self, view: int) -> Finalize | None:
        """The own finalize vote in a view."""
        return self._finalizes.get(view)

    def check_same(self, view: int, block: bytes, roots: tuple[bytes, bytes]) -> None:
        """Raises `InvariantBroken` when a finalize vote was cast on this block with other roots: then this node's
        state before the restart was not what it is now."""
        vote = self.finalized(view)
        if vote is not None and vote.block == block and (vote.state_root, vote.event_root) != roots:
            raise InvariantBroken(
                f"block {block.hex()} gave state root {roots[0].hex()}, but this validator signed "
                f"{vote.state_root.hex()} for it: its state is not what it was"
            )

    def may_notarize(self, view: int) -> bool:
        """Only as the first vote in a view: after a nullify vote a notarize vote would be of no use."""
        return not self._votes.get(view) and self._open(view)

    def may_nullify(self, view: int) -> bool:
        """Once, and not after a finalize vote."""
        return self._open(view) and not any(isinstance(vote, Nullify | Finalize) for vote in self.of(view))

    def may_finalize(self, view: int) -> bool:
        """Once, and not after a nullify vote."""
        return self.may_nullify(view)

    def _open(self, view: int) -> bool:
        return self._key is not None and view > self.closed_view

    # -- signing --------------------------------------------------------------------------------------

    def notarize(self, view: int, block: bytes) -> Notarize:
        """Sign a notarize vote."""
        key, index = self._signer(self.may_notarize(view), f"notarize a block in view {view}")
        return self._remembered(sign_notarize(key, self._validators.chain_id, index, view, block))

    def nullify(self, view: int) -> Nullify:
        """Sign a nullify vote."""
        key, index = self._signer(self.may_nullify(view), f"nullify view {view}")
        return self._remembered(sign_nullify(key, self._validators.chain_id, index, view))

    def finalize(self, view: int, height: int, block: bytes, state_root: bytes, event_root: bytes) -> Finalize:
        """Sign a finalize vote."""
        key, index = self._signer(self.may_finalize(view), f"finalize a block in view {view}")
        chain_id = self._validators.chain_id
        return self._remembered(sign_finalize(key, chain_id, index, view, height, block, state_root, event_root))

    def _signer(self, allowed: bool, what: str) -> tuple[PrivateKey, int]:
        if not allowed or self._key is None or self._index is None:
            raise InvariantBroken(f"this validator was about to {what}, which contradicts what it signed before")
        return self._key, self._index

    def _remembered(self, vote: V) -> V:
        self._remember(vote)
        self._pending.append(vote)
        return vote

    def durable(self, vote: Vote) -> None:
        """This vote is on the disk: from now on it may be said again."""
        self._pending = [other for other in self._pending if other != vote]

    def _remember(self, vote: Vote) -> None:
        if vote.view <= self.closed_view:
            return
        held = self._votes.setdefault(vote.view, [])
        if any(conflict(vote, other) for other in held):
            raise InvariantBroken(f"own votes in view {vote.view} contradict each other")
        if vote not in held:
            held.append(vote)
        if isinstance(vote, Finalize):
            self._finalizes[vote.view] = vote
            if len(self._finalizes) > RESENT_VOTES_MAX:
                del self._finalizes[min(self._finalizes)]
        if len(self._votes) > OWN_VIEWS_MAX:
            reached("own votes: the oldest views are closed")
            self.closed_view = max(self.closed_view, min(self._votes))
            del self._votes[min(self._votes)]

    # -- forgetting and saying again ------------------------------------------------------------------

    def prune(self, final_view: int) -> None:
        """The view is final: forget the votes up to it, and sign nothing there any more."""
        self.closed_view = max(self.closed_view, final_view)
        self._votes = {v: votes for v, votes in self._votes.items() if v > final_view}
        self._finalizes = {v: vote for v, vote in self._finalizes.items() if v > final_view}
        self._pending = [vote for vote in self._pending if vote.view > final_view]

    def undecided(self, decided: Callable[[int], bool]) -> list[Vote]:
        """Own durable notarize and nullify votes in views that are not decided, newest 64, oldest first."""
        votes: list[Vote] = [
            vote
            for view in sorted(self._votes)
            if not decided(view)
            for vote in self._votes[view]
            if not isinstance(vote, Finalize) and vote not in self._pending
        ]
        return votes[-RESENT_VOTES_MAX:]

    def finalizes(self) -> list[Finalize]:
        """Own durable finalize votes for blocks that are not final yet, newest 64, oldest first."""
        votes = [self._finalizes[view] for view in sorted(self._finalizes)]
        return [vote for vote in votes if vote not in self._pending]

    def unsettled(self, decided: Callable[[int], bool]) -> list[Vote]:
        """Everything of the own that is worth saying again."""
        return [*self.undecided(decided), *self.finalizes()]

    def awaits_finality(self) -> bool:
        """Whether finalize votes are out (or about to be) for blocks that are not final yet."""
        return bool(self._finalizes)
