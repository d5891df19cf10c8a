"""Who signed a state that came as files: the changes of validators before it, and whether they lead to its signers.

Beside the state lies, of every epoch before it, the last block's certified header, with its own set and the next one,
as a light client is shown them. The rule is the light client's (`bisection`), the trusting period included: a change
that is older than that proves nothing, unless what is trusted is above it.
"""

from typing import Final

import msgspec

from lockstep.base.errors import Reason, Refused
from lockstep.sync.bisection import Bisection, Turn
from lockstep.sync.light_rule import Anchor, Rule
from lockstep.sync.light_shown import Shown, examine
from lockstep.sync.light_trust import TrustRoot
from lockstep.wire.codec import decode_canonical, encode
from lockstep.wire.genesis import Genesis
from lockstep.wire.light import LightReply, check_light_answer
from lockstep.wire.message import CheckpointOffer
from lockstep.wire.validators import ValidatorSet, validator_set

CHANGES_MAX: Final = 4_096
CHANGES_BYTES_MAX: Final = 64 << 20


class _Changes(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    replies: tuple[LightReply, ...]


_decoder = msgspec.msgpack.Decoder(_Changes)


def encode_changes(replies: list[LightReply]) -> bytes:
    """One file's bytes; the newest changes, if there are more than one file may have."""
    return encode(_Changes(tuple(replies[-CHANGES_MAX:])))


def decode_changes(raw: bytes) -> tuple[LightReply, ...]:
    """Read and bound them; raises `Refused`."""
    if len(raw) > CHANGES_BYTES_MAX:
        raise Refused(Reason.OVERSIZE, f"the changes of validators are more than {CHANGES_BYTES_MAX >> 20} MiB")
    replies = decode_canonical(_decoder, raw, "changes of validators").replies
    if len(replies) > CHANGES_MAX:
        raise Refused(Reason.OVERSIZE, f"{len(replies)} changes of validators are more than {CHANGES_MAX}")
    for reply in replies:
        check_light_answer(reply)
    return replies


def genesis_anchor(genesis: Genesis) -> Anchor:
    """Trust in a chain's beginning, of whatever age."""
    first = validator_set(genesis)
    return Anchor(0, None, first.hash, first)


def root_anchor(root: TrustRoot) -> Anchor:
    """Trust in a line."""
    return Anchor(root.height, None, root.validators_hash, None)


def signers_of(
    offer: CheckpointOffer, anchor: Anchor, chain_id: bytes, replies: tuple[LightReply, ...], now_ms: int
) -> ValidatorSet:
    """The set that signed what is offered, if what is trusted (`anchor`) leads there; raises `Refused`.

    A state at or below a trust line's height is accepted when the line's own set signed it."""
    goal = _examined(LightReply(0, (offer.header,), offer.certificate, offer.keys, offer.stakes), chain_id)
    if goal.header.height <= anchor.height:
        if goal.header.validators != anchor.next_hash:
            raise Refused(
                Reason.NOT_READY, f"the state is of height {goal.header.height}, and trust begins at {anchor.height}, "
                "with other validators: give a trust line that is not above the state"
            )  # fmt: skip
        anchor = Anchor(goal.header.height - 1, None, anchor.next_hash, None)
    rule, trusted = Rule(), anchor
    for reply in replies:
        shown = _examined(reply, chain_id)
        if trusted.height < shown.header.height < goal.header.height:
            trusted = _further(trusted, shown, now_ms, rule)
    if _further(trusted, goal, now_ms, rule) is trusted:
        raise Refused(
            Reason.BAD_CERTIFICATE, f"no certificates lead from the validators trusted at height {trusted.height} to "
            f"those that signed height {goal.header.height}: give a later trust line"
        )  # fmt: skip
    return goal.validators


def _examined(reply: LightReply, chain_id: bytes) -> Shown:
    shown = examine(reply, chain_id)
    if shown is None:
        raise Refused(Reason.MALFORMED, "a header without a certificate is shown")
    return shown


def _further(anchor: Anchor, shown: Shown, now_ms: int, rule: Rule) -> Anchor:
    """Trust in this header, or in what was trusted before, if that does not reach so far."""
    way = Bisection(anchor, shown, rule)
    turn = way.go(now_ms)
    if turn is Turn.EXPIRED:
        raise Refused(Reason.EXPIRED, f"{way.why}: give a trust line (lockstep trust) that is above it")
    if turn not in (Turn.ARRIVED, Turn.ASK):
        raise Refused(Reason.BAD_CERTIFICATE, way.why)
    return way.anchor
