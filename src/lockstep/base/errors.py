"""Errors say who is at fault.

`Refused` is somebody else's fault: input from outside that was checked and turned away, with a typed
reason and a sentence that says what was wrong. `InvariantBroken` and `StorageFailed` are ours: the node
stops, because going on could finalise something false.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why something from outside was refused. The value is what a client sees."""

    MALFORMED = "malformed"
    NON_CANONICAL = "non-canonical"
    OVERSIZE = "oversize"
    TRUNCATED = "truncated"
    WRONG_CHAIN = "wrong-chain"
    BAD_SIGNATURE = "bad-signature"
    UNKNOWN_ACCOUNT = "unknown-account"
    REPLAYED = "replayed"
    SEQUENCE_TOO_FAR = "sequence-too-far"
    EXPIRED = "expired"
    LIFETIME_TOO_LONG = "lifetime-too-long"
    DUPLICATE = "duplicate"
    BUSY = "busy"
    HALTED = "halted"
    NOT_READY = "not-ready"
    BEHIND = "behind"
    UNKNOWN_PEER = "unknown-peer"
    NOT_LEADER = "not-leader"
    WRONG_PARENT = "wrong-parent"
    WRONG_HEIGHT = "wrong-height"
    FUTURE_TIMESTAMP = "future-timestamp"
    STALE_TIMESTAMP = "stale-timestamp"
    MISSING_BUNDLE = "missing-bundle"
    INVALID_BUNDLE = "invalid-bundle"
    STRANGER = "stranger"
    EQUIVOCATION = "equivocation"
    BAD_CERTIFICATE = "bad-certificate"
    BAD_PROOF = "bad-proof"
    BAD_OBSERVATION = "bad-observation"
    BAD_SET_CHANGE = "bad-set-change"
    RATE_LIMITED = "rate-limited"


class LockstepError(Exception):
    """Base of every error this project raises on purpose."""


class Refused(LockstepError):
    """Input from outside was checked and turned away. Carries the reason; the message is for a person."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


class InvariantBroken(LockstepError):
    """Something this node believed about itself is false. The node must stop."""


class StorageFailed(LockstepError):
    """A write or fsync failed, or what was read back is not what was written. The node must stop."""


class ConfigurationError(LockstepError):
    """A home, genesis or option is wrong. The message says which, and what to do."""
