"""A fork: two finalizations that cannot both be honest, of different blocks or roots at one height.

Every quorum shares more than a third of the stake with every other, so a fork proves that more than a third broke the
rules. Where both finalizations are of one view, the signers of both are named by pairs of contradicting votes
(`Evidence`). Where they are of different views, who is guilty is known only together with the nullifications between
them, which every validator's log holds.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from lockstep.base.errors import Reason, Refused
from lockstep.base.keys import SIGNATURE_BYTES
from lockstep.base.limits import FRAME_BYTES_MAX
from lockstep.sync.light_shown import Shown, check_shown, linked
from lockstep.wire.certificate import Finalization, signer_list
from lockstep.wire.codec import decode_canonical, encode
from lockstep.wire.evidence import Evidence, conflict, make_evidence
from lockstep.wire.light import HEADERS_PER_REPLY_MAX
from lockstep.wire.validators import ValidatorSet
from lockstep.wire.vote import Finalize


class Side(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One of the two: headers from the fork's height up to the certified one, and its finalization."""

    headers: tuple[bytes, ...]
    finalization: Finalization


class Fork(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Both sides, in ascending order of their encodings."""

    chain_id: bytes
    one: Side
    other: Side

    def encode(self) -> bytes:
        """Canonical MessagePack."""
        return encode(self)


_decoder: Final = msgspec.msgpack.Decoder(Fork)


@dataclass(frozen=True, slots=True)
class Guilt:
    """What a fork proves."""

    height: int
    evidence: tuple[Evidence, ...]
    """Pairs of contradicting votes, when both sides are of one view."""
    in_both: tuple[int, ...]
    """Validators that signed both sides."""


def make_fork(one: Shown, other: Shown) -> Fork:
    """The one encoding of a pair."""
    sides = [Side(tuple(h.encode() for h in shown.headers), shown.finalization) for shown in (one, other)]
    first, second = sorted(sides, key=encode)
    return Fork(one.validators.chain_id, first, second)


def differ(one: Shown, other: Shown) -> bool:
    """Whether two shown chains that begin at one height contradict each other."""
    if one.headers[0].digest != other.headers[0].digest:
        return True
    mine, theirs = one.finalization, other.finalization
    roots = (mine.state_root, mine.event_root) != (theirs.state_root, theirs.event_root)
    return mine.block == theirs.block and roots


def prove_fork(raw: bytes, validators: ValidatorSet) -> Guilt:
    """Decode and prove a fork among these validators; raises `Refused` when it is none."""
    if len(raw) > FRAME_BYTES_MAX:
        raise Refused(Reason.OVERSIZE, "the proof of a fork is too long")
    fork = decode_canonical(_decoder, raw, "fork")
    shown = [_side(side, validators) for side in (fork.one, fork.other)]
    if fork.chain_id != validators.chain_id or make_fork(*shown) != fork:
        raise Refused(Reason.MALFORMED, "the fork is of another chain, or its sides are in the wrong order")
    one, other = shown
    if one.headers[0].height != other.headers[0].height or not differ(one, other):
        raise Refused(Reason.MALFORMED, "the two sides do not contradict each other")
    signed = [_votes(side.finalization, len(validators)) for side in (fork.one, fork.other)]
    both = tuple(signer for signer in signed[0] if signer in signed[1])
    pairs = [(signed[0][signer], signed[1][signer]) for signer in both]
    evidence = tuple(make_evidence(a, b) for a, b in pairs if conflict(a, b))
    return Guilt(one.headers[0].height, evidence, both)


def _side(side: Side, validators: ValidatorSet) -> Shown:
    if not 1 <= len(side.headers) <= HEADERS_PER_REPLY_MAX:
        raise Refused(Reason.OVERSIZE, "a side of the fork has no header, or too many")
    headers = linked(side.headers)
    signers = check_shown(headers[-1], side.finalization, validators)
    if not validators.is_quorum(validators.stake_of(signers)):
        raise Refused(Reason.BAD_CERTIFICATE, "a side of the fork has no quorum")
    return Shown(headers, side.finalization, validators, signers)


def _votes(final: Finalization, validators: int) -> dict[int, Finalize]:
    """The votes that a finalization is made of, by signer."""
    return {
        signer: Finalize(
            final.view, final.height, final.block, final.state_root, final.event_root, signer,
            final.signatures[place * SIGNATURE_BYTES : (place + 1) * SIGNATURE_BYTES],
        )
        for place, signer in enumerate(signer_list(final.signers, validators))
    }  # fmt: skip
