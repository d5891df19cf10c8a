"""Which Ed25519 signatures are valid is a consensus rule: these cases pin it, so that no library update moves it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.base.keys import PrivateKey, verify

real_data = pytest.mark.real_data
SPECCHECK_ACCEPTED = {3}
"""Of the twelve cases of ed25519-speccheck: mixed-order A and R that satisfy the cofactorless equation."""


@real_data
def test_wycheproof(shared_data: Path) -> None:
    path = shared_data / "vectors" / "wycheproof" / "testvectors_v1" / "ed25519_test.json"
    groups = json.loads(path.read_text())["testGroups"]
    seen = 0
    for group in groups:
        public = bytes.fromhex(group["publicKey"]["pk"])
        for case in group["tests"]:
            valid = verify(public, bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]))
            assert valid == (case["result"] == "valid"), f"case {case['tcId']}: {case['comment']}"
            seen += 1
    assert seen == 151


@real_data
def test_speccheck(shared_data: Path) -> None:
    cases = json.loads((shared_data / "vectors" / "speccheck" / "cases.json").read_text())
    accepted = {
        number
        for number, case in enumerate(cases)
        if verify(*(bytes.fromhex(case[name]) for name in ("pub_key", "message", "signature")))
    }
    assert len(cases) == 12
    assert accepted == SPECCHECK_ACCEPTED


@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=200))
def test_what_is_signed_is_valid_and_nothing_near_it_is(seed: bytes, message: bytes) -> None:
    key = PrivateKey(seed)
    signature = key.sign(message)
    assert verify(key.public, message, signature)
    assert key.sign(message) == signature, "deterministic"
    assert not verify(key.public, message + b"\0", signature)
    assert not verify(PrivateKey(bytes(32)).public, message, signature) or seed == bytes(32)
    flipped = bytes([signature[0] ^ 1]) + signature[1:]
    assert not verify(key.public, message, flipped)


@pytest.mark.parametrize("public, signature", [(b"", bytes(64)), (bytes(31), bytes(64)), (bytes(32), bytes(63))])
def test_wrong_sizes_are_simply_invalid(public: bytes, signature: bytes) -> None:
    assert verify(public, b"", signature) is False


def test_a_seed_of_the_wrong_size_is_refused_and_a_key_does_not_show_itself() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        PrivateKey(bytes(31))
    assert bytes([9] * 32).hex() not in repr(PrivateKey(bytes([9] * 32)))
