"""Votes: notarize, nullify, finalize. One validator's signature over one statement.

The signed bytes are a domain string, the chain id, the view as u64, and what the vote is about. A finalize vote
covers the block *and* the state that executing it gave, so a quorum of them is agreement on bytes.
"""

from typing import Final

import msgspec

from lockstep.base.digest import DIGEST_BYTES
from lockstep.base.errors import Reason, Refused
from lockstep.base.keys import SIGNATURE_BYTES, PrivateKey, verify
from lockstep.wire.codec import check_length, check_unsigned
from lockstep.wire.validators import ValidatorSet

_NOTARIZE: Final = b"lockstep/notarize/1"
_NULLIFY: Final = b"lockstep/nullify/1"
_FINALIZE: Final = b"lockstep/finalize/1"


def notarize_bytes(chain_id: bytes, view: int, block: bytes) -> bytes:
    """What a notarize vote signs."""
    return _NOTARIZE + chain_id + view.to_bytes(8, "little") + block


def nullify_bytes(chain_id: bytes, view: int) -> bytes:
    """What a nullify vote signs."""
    return _NULLIFY + chain_id + view.to_bytes(8, "little")


def finalize_bytes(
    chain_id: bytes, view: int, height: int, block: bytes, state_root: bytes, event_root: bytes
) -> bytes:
    """What a finalize vote signs."""
    numbers = view.to_bytes(8, "little") + height.to_bytes(8, "little")
    return _FINALIZE + chain_id + numbers + block + state_root + event_root


class Notarize(msgspec.Struct, frozen=True, array_like=True, tag=1, forbid_unknown_fields=True):
    """This block is valid and is the one I vote for in this view."""

    view: int
    block: bytes
    signer: int
    signature: bytes

    def message(self, chain_id: bytes) -> bytes:
        """The signed bytes."""
        return notarize_bytes(chain_id, self.view, self.block)

    def check(self) -> None:
        """Bound every field; raises `Refused`."""
        _check_common(self.view, self.signer, self.signature)
        check_length(self.block, DIGEST_BYTES, "block digest")


class Nullify(msgspec.Struct, frozen=True, array_like=True, tag=2, forbid_unknown_fields=True):
    """I give up on this view."""

    view: int
    signer: int
    signature: bytes

    def message(self, chain_id: bytes) -> bytes:
        """The signed bytes."""
        return nullify_bytes(chain_id, self.view)

    def check(self) -> None:
        """Bound every field; raises `Refused`."""
        _check_common(self.view, self.signer, self.signature)


class Finalize(msgspec.Struct, frozen=True, array_like=True, tag=3, forbid_unknown_fields=True):
    """I saw this block notarized, never gave up on its view, and executing it gave these roots."""

    view: int
    height: int
    block: bytes
    state_root: bytes
    event_root: bytes
    signer: int
    signature: bytes

    def message(self, chain_id: bytes) -> bytes:
        """The signed bytes."""
        return finalize_bytes(chain_id, self.view, self.height, self.block, self.state_root, self.event_root)

    def check(self) -> None:
        """Bound every field; raises `Refused`."""
        _check_common(self.view, self.signer, self.signature)
        check_unsigned(self.height, "height")
        for value, what in ((self.block, "block digest"), (self.state_root, "state root"),
                            (self.event_root, "event root")):  # fmt: skip
            check_length(value, DIGEST_BYTES, what)


Vote = Notarize | Nullify | Finalize


def _check_common(view: int, signer: int, signature: bytes) -> None:
    check_unsigned(view, "view")
    check_unsigned(signer, "signer")
    check_length(signature, SIGNATURE_BYTES, "signature")


def verify_vote(vote: Vote, validators: ValidatorSet) -> None:
    """Check membership and signature of a vote whose fields were checked (`Vote.check`, which decoding a message does);
    raises `Refused` with `STRANGER` or `BAD_SIGNATURE`."""
    if not 0 <= vote.signer < len(validators.keys):
        raise Refused(Reason.STRANGER, f"there is no validator {vote.signer}")
    if not verify(validators.keys[vote.signer], vote.message(validators.chain_id), vote.signature):
        raise Refused(Reason.BAD_SIGNATURE, f"the vote's signature is not validator {vote.signer}'s")


def sign_notarize(key: PrivateKey, chain_id: bytes, signer: int, view: int, block: bytes) -> Notarize:
    """A signed notarize vote."""
    return Notarize(view, block, signer, key.sign(notarize_bytes(chain_id, view, block)))


def sign_nullify(key: PrivateKey, chain_id: bytes, signer: int, view: int) -> Nullify:
    """A signed nullify vote."""
    return Nullify(view, signer, key.sign(nullify_bytes(chain_id, view)))


def sign_finalize(
    key: PrivateKey, chain_id: bytes, signer: int, view: int, height: int,
    block: bytes, state_root: bytes, event_root: bytes,
) -> Finalize:  # fmt: skip
    """A signed finalize vote."""
    message = finalize_bytes(chain_id, view, height, block, state_root, event_root)
    return Finalize(view, height, block, state_root, event_root, signer, key.sign(message))
