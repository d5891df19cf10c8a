"""A change of the validator set: who is added, whose stake is set, and the approval of a quorum of the present set.

The change names the epoch that it is approved in, so it can be ordered once only. Each approval is a validator's
signature over `"lockstep/set-change/1" || BLAKE3(canonical MessagePack of the change)`; they travel like those of a
certificate.
"""

from typing import Final

import msgspec

from lockstep.base.digest import digest
from lockstep.base.errors import Reason, Refused
from lockstep.base.keys import SIGNATURE_BYTES, PrivateKey, verify
from lockstep.base.limits import SET_CHANGE_BYTES_MAX, VALIDATORS_MAX
from lockstep.wire.certificate import signer_list
from lockstep.wire.codec import check_unsigned, decode_canonical, encode
from lockstep.wire.genesis import Validator
from lockstep.wire.validators import ValidatorSet

ADDED_MAX: Final = 16
"""Validators that one change may add."""
_DOMAIN: Final = b"lockstep/set-change/1"


class SetChange(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is to change. Added validators get the next free indices, in order, with the stake of their records."""

    chain_id: bytes
    epoch: int
    added: tuple[Validator, ...]
    stakes: tuple[tuple[int, int], ...]
    """(index, new stake) of validators that are there already, by ascending index; 0 ends a validator's voting."""

    def message(self) -> bytes:
        """What each approving validator signs."""
        return _DOMAIN + digest(encode(self))


class ApprovedChange(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A change and the signatures that approve it: a bitmap of signers, and their signatures in ascending order."""

    change: SetChange
    signers: bytes
    signatures: bytes

    def encode(self) -> bytes:
        """Canonical MessagePack, as it stands in a block."""
        return encode(self)


_decoder: Final = msgspec.msgpack.Decoder(ApprovedChange)


def decode_change(raw: bytes) -> ApprovedChange:
    """Decode and bound a change; raises `Refused`. Who approved it is another question (`verify_change`)."""
    if len(raw) > SET_CHANGE_BYTES_MAX:
        raise Refused(Reason.OVERSIZE, f"a change of validators has at most {SET_CHANGE_BYTES_MAX} bytes")
    approved = decode_canonical(_decoder, raw, "change of validators")
    change = approved.change
    check_unsigned(change.epoch, "epoch")
    if len(change.added) > ADDED_MAX or len(change.stakes) > VALIDATORS_MAX:
        raise Refused(Reason.OVERSIZE, f"a change adds at most {ADDED_MAX} validators")
    return approved


def sign_change(key: PrivateKey, change: SetChange) -> bytes:
    """A validator's approval."""
    return key.sign(change.message())


def approve(change: SetChange, signatures: dict[int, bytes], validators: int) -> ApprovedChange:
    """The one encoding of a change with these approvals, by index, among so many validators."""
    signers = sum(1 << signer for signer in signatures).to_bytes((validators + 7) // 8, "little")
    return ApprovedChange(change, signers, b"".join(signatures[signer] for signer in sorted(signatures)))


def verify_change(approved: ApprovedChange, validators: ValidatorSet) -> None:
    """Check that a quorum of this set approved; raises `Refused`."""
    signers = signer_list(approved.signers, len(validators))
    if len(approved.signatures) != len(signers) * SIGNATURE_BYTES:
        raise Refused(Reason.BAD_SIGNATURE, "the change does not have one signature for each of its signers")
    if not validators.is_quorum(validators.stake_of(signers)):
        stake = validators.stake_of(signers)
        raise Refused(
            Reason.BAD_SET_CHANGE,
            f"validators with {stake} of {validators.total} stake approved; more than two thirds are needed",
        )
    message = approved.change.message()
    for place, signer in enumerate(signers):
        signature = approved.signatures[place * SIGNATURE_BYTES : (place + 1) * SIGNATURE_BYTES]
        if not verify(validators.keys[signer], message, signature):
            raise Refused(Reason.BAD_SIGNATURE, f"the approval of validator {signer} has a signature that is not its")
