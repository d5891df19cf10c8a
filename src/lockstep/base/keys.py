"""Ed25519 keys, through libsodium.

Which signatures are valid is a consensus rule, so it must be the same everywhere. libsodium's rule:
cofactorless equation, canonical S, canonical A and R, no small-order A or R. `tests/base/test_keys.py`
pins it with the ed25519-speccheck and Wycheproof cases; see docs/decisions/0002-ed25519-through-libsodium.md.
"""

from functools import lru_cache
from typing import Final

from nacl.bindings import crypto_sign, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

SEED_BYTES: Final = 32
PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64


class PrivateKey:
    """A signing key. Its seed never leaves except through `seed` (to write a key file)."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"an Ed25519 seed has {SEED_BYTES} bytes, not {len(seed)}")
        self.seed = seed
        self.public: bytes
        self.public, self._pair = crypto_sign_seed_keypair(seed)

    def sign(self, message: bytes) -> bytes:
        """64-byte signature over `message`."""
        signature: bytes = crypto_sign(message, self._pair)[:SIGNATURE_BYTES]
        if _known is not None:
            _remember((self.public, message, signature), True)
        return signature

    def __repr__(self) -> str:
        return f"PrivateKey(public={self.public[:4].hex()}…)"


@lru_cache(maxsize=65_536)
def _verify_key(public: bytes) -> VerifyKey:
    return VerifyKey(public)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is valid for `message` under `public`. Wrong sizes are simply invalid."""
    if len(public) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    if _known is None:
        return _check(public, message, signature)
    case = (public, message, signature)
    known = _known.get(case)
    if known is None:
        known = _check(public, message, signature)
        _remember(case, known)
    return known


def _check(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        _verify_key(public).verify(message, signature)
    except BadSignatureError:
        return False
    return True


# -- for a process that runs many nodes ----------------------------------------------------------------

_KNOWN_MAX: Final = 200_000
_known: dict[tuple[bytes, bytes, bytes], bool] | None = None


def remember_checks() -> None:
    """From now on this process remembers which signatures are valid, and knows those that it made. In a simulated
    network every node checks the same signatures; what is valid does not depend on who checks it."""
    global _known
    if _known is None:
        _known = {}


def _remember(case: tuple[bytes, bytes, bytes], is_valid: bool) -> None:
    assert _known is not None
    if len(_known) >= _KNOWN_MAX:
        _known.clear()
    _known[case] = is_valid
