"""Certificates: the votes of a quorum on one statement.

`signers` is a bitmap (bit i of byte i // 8 is validator i; exactly ceil(n / 8) bytes, no bit beyond n), and
`signatures` are the signers' 64-byte signatures in ascending order of validator. A certificate proves itself:
nothing about who sent it matters.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from lockstep.base.digest import DIGEST_BYTES
from lockstep.base.errors import Reason, Refused
from lockstep.base.keys import SIGNATURE_BYTES, verify
from lockstep.base.limits import VALIDATORS_MAX
from lockstep.wire.block import Header
from lockstep.wire.codec import check_length, check_unsigned
from lockstep.wire.validators import ValidatorSet, epoch_of
from lockstep.wire.vote import Finalize, Notarize, Nullify, finalize_bytes, notarize_bytes, nullify_bytes


class Notarization(msgspec.Struct, frozen=True, array_like=True, tag=11, forbid_unknown_fields=True):
    """A quorum voted to notarize this block in this view."""

    view: int
    block: bytes
    signers: bytes
    signatures: bytes

    def message(self, chain_id: bytes) -> bytes:
        """What each signer signed."""
        return notarize_bytes(chain_id, self.view, self.block)


class Nullification(msgspec.Struct, frozen=True, array_like=True, tag=12, forbid_unknown_fields=True):
    """A quorum gave up on this view."""

    view: int
    signers: bytes
    signatures: bytes

    def message(self, chain_id: bytes) -> bytes:
        """What each signer signed."""
        return nullify_bytes(chain_id, self.view)


class Finalization(msgspec.Struct, frozen=True, array_like=True, tag=13, forbid_unknown_fields=True):
    """A quorum executed this block and got these roots: it is final."""

    view: int
    height: int
    block: bytes
    state_root: bytes
    event_root: bytes
    signers: bytes
    signatures: bytes

    def message(self, chain_id: bytes) -> bytes:
        """What each signer signed."""
        return finalize_bytes(chain_id, self.view, self.height, self.block, self.state_root, self.event_root)


Certificate = Notarization | Nullification | Finalization
V = TypeVar("V", Notarize, Nullify, Finalize)


def signer_list(bitmap: bytes, validators: int) -> list[int]:
    """The validators in a bitmap; raises `Refused` when it is not canonical for a set of this size."""
    if len(bitmap) != (validators + 7) // 8:
        raise Refused(Reason.BAD_CERTIFICATE, f"the signer bitmap has {len(bitmap)} bytes for {validators} validators")
    number = int.from_bytes(bitmap, "little")
    if number >> validators:
        raise Refused(Reason.BAD_CERTIFICATE, "the signer bitmap names a validator that does not exist")
    return [i for i in range(validators) if number >> i & 1]


def _pack(votes: Iterable[V], validators: int) -> tuple[bytes, bytes]:
    ordered = sorted(votes, key=lambda vote: vote.signer)
    bitmap = sum([1 << vote.signer for vote in ordered])
    return bitmap.to_bytes((validators + 7) // 8, "little"), b"".join([vote.signature for vote in ordered])


def notarization(votes: list[Notarize], validators: int) -> Notarization:
    """Assemble a certificate from votes on one statement by distinct signers."""
    return Notarization(votes[0].view, votes[0].block, *_pack(votes, validators))


def nullification(votes: list[Nullify], validators: int) -> Nullification:
    """Assemble a certificate from votes on one view by distinct signers."""
    return Nullification(votes[0].view, *_pack(votes, validators))


def finalization(votes: list[Finalize], validators: int) -> Finalization:
    """Assemble a certificate from votes on one statement by distinct signers."""
    v = votes[0]
    return Finalization(v.view, v.height, v.block, v.state_root, v.event_root, *_pack(votes, validators))


def is_about(final: Finalization, header: Header) -> bool:
    """Whether a finalization is of this block. The last block of an epoch may become final in a later view of it."""
    if (final.block, final.height) != (header.digest, header.height):
        return False
    is_again = header.closes_epoch and final.view > header.view and epoch_of(final.view) == epoch_of(header.view)
    return final.view == header.view or is_again


def check_certificate(certificate: Certificate) -> None:
    """Bound every field, before any work is spent; raises `Refused`."""
    check_unsigned(certificate.view, "view")
    if len(certificate.signers) > VALIDATORS_MAX // 8 or len(certificate.signatures) > VALIDATORS_MAX * SIGNATURE_BYTES:
        raise Refused(Reason.OVERSIZE, "the certificate has more signers than a validator set can have")
    if not isinstance(certificate, Nullification):
        check_length(certificate.block, DIGEST_BYTES, "block digest")
    if isinstance(certificate, Finalization):
        check_unsigned(certificate.height, "height")
        check_length(certificate.state_root, DIGEST_BYTES, "state root")
        check_length(certificate.event_root, DIGEST_BYTES, "event root")


def verify_certificate(
    certificate: Certificate, validators: ValidatorSet, known: Mapping[int, bytes] | None = None
) -> list[int]:
    """Check everything: bitmap, quorum, then each signature. Returns the signers; raises `Refused`.

    `known` has signatures on this same statement that were verified before, by signer: they are only compared.
    """
    check_certificate(certificate)
    signers = signer_list(certificate.signers, len(validators))
    if len(certificate.signatures) != len(signers) * SIGNATURE_BYTES:
        raise Refused(Reason.BAD_CERTIFICATE, "the certificate does not have one signature for each signer")
    for signer in signers:
        if not validators.stakes[signer]:
            raise Refused(Reason.BAD_CERTIFICATE, f"validator {signer} signed, but has no stake")
    if not validators.is_quorum(validators.stake_of(signers)):
        raise Refused(Reason.BAD_CERTIFICATE, "the certificate's signers are not a quorum")
    message = certificate.message(validators.chain_id)
    for place, signer in enumerate(signers):
        signature = certificate.signatures[place * SIGNATURE_BYTES : (place + 1) * SIGNATURE_BYTES]
        if known is not None and known.get(signer) == signature:
            continue
        if not verify(validators.keys[signer], message, signature):
            raise Refused(Reason.BAD_CERTIFICATE, f"validator {signer}'s signature in the certificate is not valid")
    return signers
