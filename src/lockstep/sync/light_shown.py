"""What a node shows a light client, checked as far as it can be by itself: headers that link, a finalization of the
last of them, signatures that are valid under the keys that come with it. Whether those keys are to be trusted is the
rule's business (`light_rule`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from lockstep.base.errors import Reason, Refused
from lockstep.base.keys import SIGNATURE_BYTES, verify
from lockstep.sync.light_rule import Claim
from lockstep.sync.light_state import LightState, split_keys
from lockstep.wire.block import Header, decode_header
from lockstep.wire.certificate import Finalization, check_certificate, is_about, signer_list
from lockstep.wire.genesis import STAKE_TOTAL_MAX
from lockstep.wire.light import HEADERS_PER_REPLY_MAX, AskLight, LightReply
from lockstep.wire.validators import ValidatorSet


@dataclass(frozen=True, slots=True)
class Shown:
    """A certified header, and the headers that lead to it from the height asked for."""

    headers: tuple[Header, ...]
    finalization: Finalization
    validators: ValidatorSet
    signers: tuple[int, ...]
    next_validators: ValidatorSet | None = None
    """Of the certified header's child; None: they are not shown."""

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
        """What is remembered once it is trusted."""
        final, deciding = self.finalization, self.next_validators
        assert deciding is not None, "only a reply that shows who decides next is adopted"
        return LightState(final.height, self.header.time_ms, final.block, final.state_root, final.event_root, deciding)


def examine(reply: LightReply, chain_id: bytes, asked: int = 0) -> Shown | None:
    """The reply's content; None when it is empty; raises `Refused` when its parts do not belong together, or do not
    begin at the height that was asked for (0: whichever is the newest)."""
    if reply.finalization is None or not reply.headers:
        return None
    headers = linked(reply.headers)
    if asked not in (0, headers[0].height):
        raise Refused(Reason.MALFORMED, f"header {headers[0].height} is shown where {asked} was asked for")
    last = headers[-1]
    validators = shown_set(reply.keys, reply.stakes, chain_id, last.validators)
    following = validators
    if last.closes_epoch:
        following = shown_set(reply.next_keys, reply.next_stakes, chain_id, last.next_validators)
    signers = check_shown(last, reply.finalization, validators)
    return Shown(headers, reply.finalization, validators, signers, following)


def shown_set(joined: bytes, stakes: tuple[int, ...], chain_id: bytes, named: bytes) -> ValidatorSet:
    """A set that is shown; it must be the one that the header names."""
    keys = split_keys(joined)
    if not keys or len(set(keys)) != len(keys) or len(keys) != len(stakes) or not 0 < sum(stakes) < STAKE_TOTAL_MAX:
        raise Refused(Reason.MALFORMED, "the validators are none, or one is named twice")
    if any(stake < 0 for stake in stakes):
        raise Refused(Reason.MALFORMED, "a stake is negative")
    validators = ValidatorSet(chain_id, keys, stakes)
    if validators.hash != named:
        raise Refused(Reason.BAD_CERTIFICATE, "the validators that are shown are not those that the header names")
    return validators


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
    if not is_about(finalization, header):
        raise Refused(Reason.BAD_CERTIFICATE, "the finalization is of another block than the header")
    check_certificate(finalization)
    signers = signer_list(finalization.signers, len(validators))
    if len(finalization.signatures) != len(signers) * SIGNATURE_BYTES:
        raise Refused(Reason.BAD_CERTIFICATE, "the certificate does not have one signature for each signer")
    if any(not validators.stakes[signer] for signer in signers):
        raise Refused(Reason.BAD_CERTIFICATE, "a validator without stake is among the signers")
    message = finalization.message(validators.chain_id)
    for place, signer in enumerate(signers):
        signature = finalization.signatures[place * SIGNATURE_BYTES : (place + 1) * SIGNATURE_BYTES]
        if not verify(validators.keys[signer], message, signature):
            raise Refused(Reason.BAD_CERTIFICATE, f"validator {signer}'s signature in the certificate is not valid")
    return tuple(signers)


def show(
    request: AskLight, look: Callable[[int], tuple[bytes, Finalization | None]], final_height: int,
    known: Callable[[bytes], ValidatorSet | None], lowest: int,
) -> LightReply:  # fmt: skip
    """A node's answer: headers from the height asked for, up to the first that has a finalization of its own.

    `look` gives the header at a height (empty: it is not here) and its finalization, if it has one of its own; `known`,
    validator sets by their hash; what is below `lowest` was pruned."""
    headers: list[bytes] = []
    last = min(final_height, request.height + HEADERS_PER_REPLY_MAX - 1)
    for height in range(max(request.height, 1), last + 1):
        header, finalization = look(height)
        if not header:
            break
        headers.append(header)
        if finalization is not None:
            return light_reply(request.token, tuple(headers), finalization, known, lowest)
    return LightReply(request.token, (), None, b"", (), lowest)


def light_reply(
    token: int, headers: tuple[bytes, ...], finalization: Finalization, known: Callable[[bytes], ValidatorSet | None],
    lowest: int = 1,
) -> LightReply:  # fmt: skip
    """These headers, the last of which is certified, with the sets that it names; nothing when one of them is not known
    by its hash."""
    last = decode_header(headers[-1])
    validators, following = known(last.validators), known(last.next_validators)
    if validators is None or following is None:
        return LightReply(token, (), None, b"", (), lowest)
    reply = LightReply(token, headers, finalization, b"".join(validators.keys), validators.stakes, lowest)
    if last.closes_epoch:
        shown = b"".join(following.keys)
        return msgspec.structs.replace(reply, next_keys=shown, next_stakes=following.stakes)
    return reply
