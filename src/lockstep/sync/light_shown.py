"""What a node shows a light client, checked as far as it can be by itself: headers that link, a finalization of the
last of them, signatures that are valid under the keys that come with it. Whether those keys are to be trusted is the
rule's business (`light_rule`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lockstep.base.errors import Reason, Refused
from lockstep.base.keys import SIGNATURE_BYTES, verify
from lockstep.sync.light_rule import Claim
from lockstep.sync.light_state import LightState, split_keys
from lockstep.wire.block import Header, decode_header
from lockstep.wire.certificate import Finalization, check_certificate, signer_list
from lockstep.wire.light import LightReply
from lockstep.wire.validators import ValidatorSet


@dataclass(frozen=True, slots=True)
class Shown:
    """A certified header, and the headers that lead to it from the height asked for."""

    headers: tuple[Header, ...]
    finalization: Finalization
    validators: ValidatorSet
    signers: tuple[int, ...]

    @property
    def header(self) -> Header:
        """The certified one."""
        return self.headers[-1]

    @property
    def claim(self) -> Claim:
        """What the rule judges."""
        keys = tuple(self.validators.keys[signer] for signer in self.signers)
        return Claim(self.header.height, self.header.time_ms, self.validators, keys)

    @property
    def state(self) -> LightState:
        """What is remembered once it is trusted. The set that decides next is the same: sets do not change yet."""
        final = self.finalization
        return LightState(
            final.height, self.header.time_ms, final.block, final.state_root, final.event_root, self.validators
        )


def examine(reply: LightReply, chain_id: bytes) -> Shown | None:
    """The reply's content; None when it is empty; raises `Refused` when its parts do not belong together."""
    if reply.finalization is None or not reply.headers:
        return None
    keys = split_keys(reply.keys)
    if not keys or len(set(keys)) != len(keys) or len(keys) != len(reply.stakes):
        raise Refused(Reason.MALFORMED, "the validators are none, or one is named twice")
    headers = linked(reply.headers)
    validators = ValidatorSet(chain_id, keys, reply.stakes)
    return Shown(headers, reply.finalization, validators, check_shown(headers[-1], reply.finalization, validators))


def linked(raws: Sequence[bytes]) -> tuple[Header, ...]:
    """Decode headers, each of which must be the child of the one before; raises `Refused`."""
    headers = tuple(decode_header(raw) for raw in raws)
    for below, above in pairwise(headers):
        if above.parent != below.digest or above.height != below.height + 1:
            raise Refused(Reason.WRONG_PARENT, f"header {above.height} does not follow {below.height}")
    return headers


def check_shown(header: Header, finalization: Finalization, validators: ValidatorSet) -> tuple[int, ...]:
    """The signers of a header's finalization, every signature checked; raises `Refused`. Says nothing about quorums."""
    if header.chain_id != validators.chain_id:
        raise Refused(Reason.WRONG_CHAIN, "the header is of another chain")
    if (finalization.block, finalization.height, finalization.view) != (header.digest, header.height, header.view):
        raise Refused(Reason.BAD_CERTIFICATE, "the finalization is of another block than the header")
    check_certificate(finalization)
    signers = signer_list(finalization.signers, len(validators))
    if len(finalization.signatures) != len(signers) * SIGNATURE_BYTES:
        raise Refused(Reason.BAD_CERTIFICATE, "the certificate does not have one signature for each signer")
    message = finalization.message(validators.chain_id)
    for place, signer in enumerate(signers):
        signature = finalization.signatures[place * SIGNATURE_BYTES : (place + 1) * SIGNATURE_BYTES]
        if not verify(validators.keys[signer], message, signature):
            raise Refused(Reason.BAD_CERTIFICATE, f"validator {signer}'s signature in the certificate is not valid")
    return tuple(signers)
