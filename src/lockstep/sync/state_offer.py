"""Checkpoints that peers offer: what one shows, and whether a certificate proves it."""

from dataclasses import dataclass

from lockstep.base.digest import digest
from lockstep.base.errors import Reason, Refused
from lockstep.ledger.manifest import Manifest, parse_manifest
from lockstep.sync.light_shown import shown_set
from lockstep.wire.block import Header, decode_header
from lockstep.wire.certificate import Finalization, is_about, verify_certificate
from lockstep.wire.message import CheckpointOffer
from lockstep.wire.validators import ValidatorSet


@dataclass(frozen=True, slots=True)
class Target:
    """A checkpoint that a certificate proves."""

    offer: CheckpointOffer
    header: Header
    manifest: Manifest

    @property
    def certificate(self) -> Finalization:
        """It signs the header and the state root."""
        return self.offer.certificate


def read_offer(offer: CheckpointOffer, chain_id: bytes) -> Target:
    """What is offered, if its parts belong together; raises `Refused`. Whose signatures are on it is not looked at."""
    header, certificate = decode_header(offer.header), offer.certificate
    if header.chain_id != chain_id or not is_about(certificate, header):
        raise Refused(Reason.BAD_CERTIFICATE, "the checkpoint's certificate is for another block")
    if digest(offer.manifest) != certificate.state_root:
        raise Refused(
            Reason.BAD_CERTIFICATE, "the checkpoint's manifest is not of the state that its certificate signs"
        )
    return Target(offer, header, parse_manifest(offer.manifest))


def check_offer(offer: CheckpointOffer, known: ValidatorSet) -> Target:
    """Check an offer entirely, by one set that is known; raises `Refused`, with `STRANGER` for one that is not a lie,
    but that this set cannot vouch for.

    A certificate by another set is believed when signers with more than 1/3 of the known set's stake are among its
    own, so at least one that is honest (the light client's rule for skipping). Where the sets have not that much in
    common, a node follows the changes between them (`succession`)."""
    target = read_offer(offer, known.chain_id)
    header, certificate = target.header, target.certificate
    if header.validators == known.hash:
        verify_certificate(certificate, known)
    else:
        shown = shown_set(offer.keys, offer.stakes, known.chain_id, header.validators)
        signers = [shown.keys[signer] for signer in verify_certificate(certificate, shown)]
        if 3 * known.stake_of(i for i, key in enumerate(known.keys) if key in signers) <= known.total:
            raise Refused(Reason.STRANGER, "too few of the validators known here signed the checkpoint")
    return target
