"""Keys, validator sets and headers for consensus tests, with signatures that cost a hash instead of a curve."""

from collections.abc import Sequence

import pytest
from blake3 import blake3

from lockstep.base.keys import PrivateKey
from lockstep.wire import certificate, vote
from lockstep.wire.block import Header, genesis_header
from lockstep.wire.validators import ValidatorSet

CHAIN = bytes(range(32))
GENESIS = genesis_header(CHAIN, 0)


class FakeKey(PrivateKey):
    """Signs with BLAKE3 of public key and message. Anyone could forge it; nobody here does, except on purpose."""

    def __init__(self, number: int) -> None:
        self.seed = number.to_bytes(32, "little")
        self.public = blake3(self.seed).digest()

    def sign(self, message: bytes) -> bytes:
        return fake_signature(self.public, message)


def fake_signature(public: bytes, message: bytes) -> bytes:
    """What `FakeKey` signs."""
    return blake3(public + message).digest(64)


def fake_verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """The counterpart of `FakeKey.sign`."""
    return fake_signature(public, message) == signature


def use_fake_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make votes and certificates be verified by `fake_verify`."""
    monkeypatch.setattr(vote, "verify", fake_verify)
    monkeypatch.setattr(certificate, "verify", fake_verify)


def fake_keys(count: int) -> list[PrivateKey]:
    """The keys of validators 0 … count - 1."""
    return [FakeKey(number) for number in range(count)]


def real_keys(count: int) -> list[PrivateKey]:
    """As `fake_keys`, with Ed25519."""
    return [PrivateKey(bytes([7]) * 31 + bytes([number])) for number in range(count)]


def validators_of(keys: Sequence[PrivateKey], stakes: Sequence[int] | None = None) -> ValidatorSet:
    """The set of these keys' holders."""
    return ValidatorSet(CHAIN, tuple(key.public for key in keys), tuple(stakes or [1] * len(keys)))


def child(parent: Header, view: int, validators: int, salt: int = 0, commands: int = 0) -> Header:
    """A header of `view` on `parent`; different salts give different blocks."""
    return Header(
        CHAIN, parent.height + 1, view, parent.view, salt, view % validators, 0, commands, parent.digest, bytes(32)
    )


def roots_after(parent_roots: tuple[bytes, bytes], block: bytes) -> tuple[bytes, bytes]:
    """What executing a block gives in the tests' application: a hash chain."""
    return blake3(parent_roots[0] + block).digest(), blake3(parent_roots[1] + block + b"e").digest()


GENESIS_ROOTS = (bytes(32), bytes(32))
