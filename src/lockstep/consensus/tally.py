"""The votes of one view, grouped by what they say, and the certificate that a quorum of them makes.

Of each validator the first vote of each kind is kept. Every vote in here is verified.
"""

from enum import IntEnum
from typing import Final, cast

from lockstep.wire.certificate import (
    Certificate,
    Finalization,
    Notarization,
    finalization,
    notarization,
    nullification,
)
from lockstep.wire.validators import ValidatorSet
from lockstep.wire.vote import Finalize, Notarize, Nullify, Vote


class Kind(IntEnum):
    """What a vote or a certificate is about."""

    NOTARIZE = 1
    NULLIFY = 2
    FINALIZE = 3


_RIVALS: Final = {
    Kind.NOTARIZE: (Kind.NOTARIZE,),
    Kind.NULLIFY: (Kind.FINALIZE,),
    Kind.FINALIZE: (Kind.FINALIZE, Kind.NULLIFY),
}
"""Kinds of votes by one signer in one view that may contradict each other."""

Statement = tuple[Kind, int, bytes, bytes, bytes]


def statement(said: Vote | Certificate) -> Statement:
    """What it says, without who says it: votes with equal statements (of one view) add up.

    `isinstance` takes five times as long as a comparison of types to say no to a msgspec structure, here and in all of
    `consensus`, which is asked at every vote.
    """
    if type(said) is Finalize or type(said) is Finalization:
        return Kind.FINALIZE, said.height, said.block, said.state_root, said.event_root
    if type(said) is Notarize or type(said) is Notarization:
        return Kind.NOTARIZE, 0, said.block, b"", b""
    return Kind.NULLIFY, 0, b"", b"", b""


class Tally:
    """Verified votes of one view."""

    def __init__(self) -> None:
        self._votes: dict[tuple[Kind, int], Vote] = {}
        self._groups: dict[Statement, list[Vote]] = {}

    def vote_of(self, kind: Kind, signer: int) -> Vote | None:
        """The vote of this kind by this validator."""
        return self._votes.get((kind, signer))

    def contradicted(self, vote: Vote, said: Statement) -> Vote | None:
        """A vote by the same signer that no honest validator signs as well. `said` is the vote's statement."""
        for kind in _RIVALS[said[0]]:
            other = self._votes.get((kind, vote.signer))
            if other is not None and statement(other) != said:
                return other
        return None

    def add(self, vote: Vote, said: Statement) -> None:
        """Count a verified vote, the first of its kind by its signer. `said` is its statement."""
        assert (said[0], vote.signer) not in self._votes
        self._votes[(said[0], vote.signer)] = vote
        self._groups.setdefault(said, []).append(vote)

    def is_lost(self, validators: ValidatorSet, *, voted: bool) -> bool:
        """Whether so many gave up on the view that no block of it can become final; for somebody who has voted for
        one: that none can even be notarized."""
        gone = [signer for kind, signer in self._votes if kind is Kind.NULLIFY]
        lost = [signer for signer in gone if not voted or (Kind.NOTARIZE, signer) not in self._votes]
        return validators.blocks_quorum(validators.stake_of(lost))

    def certificate(self, vote: Vote, validators: ValidatorSet) -> Certificate | None:
        """The certificate of this vote's statement, if a quorum made it."""
        group = self._groups.get(statement(vote), [])
        if not validators.is_quorum(validators.stake_of([other.signer for other in group])):
            return None
        if type(vote) is Notarize:
            return notarization(cast("list[Notarize]", group), len(validators))
        if type(vote) is Finalize:
            return finalization(cast("list[Finalize]", group), len(validators))
        return nullification(cast("list[Nullify]", group), len(validators))

    def signatures(self, certificate: Certificate) -> dict[int, bytes]:
        """Verified signatures on this certificate's statement, by signer: they need not be verified again."""
        return {vote.signer: vote.signature for vote in self._groups.get(statement(certificate), [])}

    def finalize_groups(self) -> list[list[Finalize]]:
        """Finalize votes, grouped by what they say, in the order in which they came."""
        return [
            cast("list[Finalize]", group)  # what its statement says
            for said, group in self._groups.items()
            if said[0] is Kind.FINALIZE
        ]
