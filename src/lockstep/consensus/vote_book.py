"""Which votes are looked at, and who contradicts himself.

Verifying a signature costs more than everything else that is done with a vote, so what cannot matter is dropped
before: a vote for a view that is decided, a duplicate, a second accusation. A vote that contradicts a counted one is
always verified, once for each signer and view, because it is evidence.
"""

from collections.abc import Container

from lockstep.consensus.certificate_book import CertificateBook
from lockstep.consensus.config import VIEWS_AHEAD_MAX
from lockstep.consensus.tally import Tally, statement
from lockstep.wire.evidence import Evidence, make_evidence
from lockstep.wire.validators import ValidatorSet
from lockstep.wire.vote import Finalize, Vote, verify_vote


class VoteBook:
    """Tallies by view."""

    def __init__(self, validators: ValidatorSet) -> None:
        self._validators = validators
        self._tallies: dict[int, Tally] = {}
        self._accused: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self._tallies)

    def tally(self, view: int) -> Tally:
        """The votes of a view (an empty tally, not kept, when there are none)."""
        return self._tallies.get(view) or Tally()

    def take(self, vote: Vote, *, wanted: bool, own: bool = False) -> bool | Evidence:
        """Look at a vote: whether it was counted, or the evidence that it completes.

        `wanted` says whether it could still decide something. An own vote needs no verification. Raises `Refused`
        when a vote that was worth looking at is not valid.
        """
        view, said = vote.view, statement(vote)
        tally = self._tallies.get(view) or Tally()
        other = tally.contradicted(vote, said)
        if other is not None:
            return self._accuse(vote, other)
        if not wanted or tally.vote_of(said[0], vote.signer) is not None:
            return False
        if not own:
            verify_vote(vote, self._validators)
        tally.add(vote, said)
        self._tallies[view] = tally
        return True

    def _accuse(self, vote: Vote, other: Vote) -> bool | Evidence:
        accused = self._accused.setdefault(vote.view, [])
        if vote.signer in accused:
            return False
        verify_vote(vote, self._validators)
        accused.append(vote.signer)
        return make_evidence(vote, other)

    def is_lost(self, view: int, *, voted: bool) -> bool:
        """See `Tally.is_lost`."""
        tally = self._tallies.get(view)
        return tally is not None and tally.is_lost(self._validators, voted=voted)

    def prune(self, final_view: int, oldest_view: int, keep: Container[int]) -> None:
        """Forget every view up to the final one, and those before `oldest_view` that are not in `keep`."""
        for view in list(self._tallies):
            if view <= final_view or (view < oldest_view and view not in keep):
                del self._tallies[view]
                self._accused.pop(view, None)


def is_in_window(vote: Vote, view: int, book: CertificateBook) -> bool:
    """Whether a vote is worth looking at for a node in `view`: not for a final view, nor for one that is far away,
    except that a notarized block can become final at any time."""
    recent = vote.view + VIEWS_AHEAD_MAX >= view
    in_time = recent or (type(vote) is Finalize and vote.view in book.notarizations)
    return book.final.view < vote.view <= view + VIEWS_AHEAD_MAX and in_time
