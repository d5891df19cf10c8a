"""Evidence of equivocation: two votes that one honest validator never signs both.

- two notarize votes in one view for different blocks (a leader's proposal is its notarize vote),
- two finalize votes in one view that differ in block or in roots,
- a nullify and a finalize vote in one view.
"""

from typing import Final

import msgspec

from lockstep.base.errors import Reason, Refused
from lockstep.wire.codec import decode_canonical, encode
from lockstep.wire.validators import ValidatorSet
from lockstep.wire.vote import Finalize, Notarize, Nullify, Vote, verify_vote

EVIDENCE_BYTES_MAX: Final = 1024


class Evidence(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Two votes of one validator in one view that contradict each other."""

    first: Vote
    second: Vote

    @property
    def signer(self) -> int:
        """Who equivocated."""
        return self.first.signer

    @property
    def view(self) -> int:
        """Where."""
        return self.first.view

    def encode(self) -> bytes:
        """Canonical MessagePack, the two votes in ascending order of their encodings."""
        return encode(self)


_decoder = msgspec.msgpack.Decoder(Evidence)


def make_evidence(one: Vote, other: Vote) -> Evidence:
    """The one encoding of a pair of conflicting votes."""
    first, second = sorted((one, other), key=encode)
    return Evidence(first, second)


def conflict(one: Vote, other: Vote) -> bool:
    """Whether no honest validator signs both."""
    if one.signer != other.signer or one.view != other.view or one.message(b"") == other.message(b""):
        return False
    kinds = {type(one), type(other)}
    return kinds in ({Notarize}, {Finalize}, {Nullify, Finalize})


def decode_evidence(raw: bytes, validators: ValidatorSet) -> Evidence:
    """Decode and prove a piece of evidence; raises `Refused`."""
    if len(raw) > EVIDENCE_BYTES_MAX:
        raise Refused(Reason.OVERSIZE, f"evidence has at most {EVIDENCE_BYTES_MAX} bytes")
    evidence = decode_canonical(_decoder, raw, "evidence")
    for vote in (evidence.first, evidence.second):
        vote.check()
        verify_vote(vote, validators)
    if not conflict(evidence.first, evidence.second) or evidence != make_evidence(evidence.first, evidence.second):
        raise Refused(Reason.MALFORMED, "the two votes do not contradict each other, or are in the wrong order")
    return evidence
