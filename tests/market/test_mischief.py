"""Every kind of bad traffic is what it says: the decoder or the pool refuses it for exactly the named reason."""

import numpy as np

from lockstep.base.errors import Reason, Refused
from lockstep.market.cast import Role, Trader, derive_key
from lockstep.market.mischief import Mischief
from lockstep.pool.pool import Pool
from lockstep.wire.bundle import Bundle, seal_bundle
from lockstep.wire.client import Submit, decode_request
from lockstep.wire.command import COMMAND

CHAIN = bytes(32)
VILLAIN = Trader(3, Role.VILLAIN, derive_key(1, "villain"), 0)


def verdict(frame: bytes) -> str:
    """What a node's checks say, in their order."""
    try:
        request = decode_request(frame)
        assert isinstance(request, Submit)
        bundle = Bundle(request.raw)
        if bundle.chain_id != CHAIN:
            return Reason.WRONG_CHAIN.value
        if bundle.account != VILLAIN.account:
            return Reason.UNKNOWN_ACCOUNT.value
        Pool().admit(bundle, 1 if bundle.count == 2 else 0, 1_000)
        return "" if bundle.signed_by(VILLAIN.key.public) else Reason.BAD_SIGNATURE.value
    except Refused as refused:
        return refused.reason.value


def test_each_attempt_gets_its_reason() -> None:
    final = seal_bundle(VILLAIN.key, CHAIN, VILLAIN.account, 0, 2_000, np.zeros(2, COMMAND)).raw
    mischief = Mischief(VILLAIN, CHAIN, 5)
    names = set()
    for _ in range(36):
        attempt = mischief.next(1_000, final)
        names.add(attempt.name)
        if attempt.reasons:
            assert verdict(attempt.frame) in attempt.reasons, attempt.name
        else:
            assert verdict(attempt.frame) in (Reason.MALFORMED.value, Reason.NON_CANONICAL.value)
    assert len(names) == 12


def test_without_a_final_bundle_nothing_is_replayed() -> None:
    mischief = Mischief(VILLAIN, CHAIN, 5)
    assert "replayed bundle" not in {mischief.next(1, b"").name for _ in range(24)}
