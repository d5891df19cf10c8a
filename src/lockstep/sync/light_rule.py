"""The rule of skipping verification: when a header far above a trusted one may be trusted too.

Pure arithmetic over sets and times; signatures have been checked before. Between two heights the validators may have
changed, at most as the chain allows within the trusting period. A claim above a trusted header holds

- if the set that decides after the trusted header is the claim's own set, and a quorum of it signed: one certificate
  for any distance, which is the usual case; or
- if more than `level` of the stake of that set signed the claim, beside a quorum of its own set: then at least one
  honest validator did (Braithwaite et al., "A Tendermint Light Client", 2020).

Otherwise trust does not reach so far, and a header in between has to be trusted first.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from lockstep.wire.validators import ValidatorSet

DAY_MS: Final = 24 * 3600 * 1000


class Verdict(StrEnum):
    """What the rule says about a claim."""

    SUCCESS = "SUCCESS"
    NOT_ENOUGH_TRUST = "NOT_ENOUGH_TRUST"
    INVALID = "INVALID"


@dataclass(frozen=True, slots=True)
class Rule:
    """How long and how far trust goes."""

    period_ms: int = 14 * DAY_MS
    """A header older than this says nothing: its validators may have left, stake and all. Below the unbonding time."""
    drift_ms: int = 10_000
    """How far ahead of our clock a header may be."""
    level: tuple[int, int] = (1, 3)
    """The share of the trusted set's stake that must be exceeded; from 1/3 to 1."""

    def is_expired(self, anchor: "Anchor", now_ms: int) -> bool:
        """Whether the trusted header has become too old to say anything."""
        return anchor.time_ms is not None and anchor.time_ms + self.period_ms <= now_ms

    def is_future(self, claim: "Claim", now_ms: int) -> bool:
        """Whether a header is further ahead of our clock than clocks drift."""
        return claim.time_ms >= now_ms + self.drift_ms


@dataclass(frozen=True, slots=True)
class Anchor:
    """What is trusted already: a header's height and time, and the set that decides after it."""

    height: int
    time_ms: int | None
    """None for a trust root: whoever gave it vouches for its age."""
    next_hash: bytes
    next_validators: ValidatorSet | None
    """None while only their hash is known."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A header that is shown, with the set that it is claimed to be signed by."""

    height: int
    time_ms: int
    validators: ValidatorSet
    signers: tuple[bytes, ...]
    """Public keys whose signatures over the claim were found valid, each once."""


def judge(anchor: Anchor, claim: Claim, now_ms: int, rule: Rule) -> tuple[Verdict, str]:
    """The verdict on a claim, and why."""
    reason = _invalid(anchor, claim, now_ms, rule)
    if reason:
        return Verdict.INVALID, reason
    if claim.validators.hash == anchor.next_hash:
        return Verdict.SUCCESS, ""
    if claim.height == anchor.height + 1:
        return Verdict.INVALID, "its validators are not those that the header before it names"
    known = anchor.next_validators
    if known is None:
        return Verdict.NOT_ENOUGH_TRUST, "its validators are not those of the trust root"
    signed = known.stake_of(i for i, key in enumerate(known.keys) if key in claim.signers)
    numerator, denominator = rule.level
    if denominator * signed > numerator * known.total:
        return Verdict.SUCCESS, ""
    return Verdict.NOT_ENOUGH_TRUST, f"only {signed} of {known.total} of the trusted stake signed it"


def _invalid(anchor: Anchor, claim: Claim, now_ms: int, rule: Rule) -> str:
    """Why nothing could make the claim hold now; empty when nothing speaks against it."""
    if rule.is_expired(anchor, now_ms):
        return "the trusted header is older than the trusting period: a new trust root is needed"
    if claim.height <= anchor.height:
        return f"its height {claim.height} is not above the trusted {anchor.height}"
    if anchor.time_ms is not None and claim.time_ms < anchor.time_ms:
        return "it is older than the trusted header below it"
    if rule.is_future(claim, now_ms):
        return "it is from the future"
    places = {key: place for place, key in enumerate(claim.validators.keys)}
    if len(set(claim.signers)) != len(claim.signers) or any(key not in places for key in claim.signers):
        return "a signer is named twice, or is not one of its validators"
    if not claim.validators.is_quorum(claim.validators.stake_of(places[key] for key in claim.signers)):
        return "its signers are no quorum of its validators"
    return ""
