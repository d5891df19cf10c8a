"""The trust root: one line that a person hands on, and from which everything else is proven.

lockstep:1:<chain id, 64 hex digits>:<height>:<hash of the validator set that decides after that height, 64 hex>
"""

from dataclasses import dataclass
from typing import Final

from lockstep.base.digest import DIGEST_BYTES
from lockstep.base.errors import ConfigurationError
from lockstep.wire.genesis import Genesis
from lockstep.wire.validators import validator_set

_PREFIX: Final = "lockstep:1"
_HEX: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """Whom to believe, from which height on. Whoever gives it vouches that it was true recently."""

    chain_id: bytes
    height: int
    validators_hash: bytes

    def line(self) -> str:
        """The one text of it; `parse_trust` reads it back."""
        return f"{_PREFIX}:{self.chain_id.hex()}:{self.height}:{self.validators_hash.hex()}"


def parse_trust(line: str) -> TrustRoot:
    """Read a trust line; raises `ConfigurationError` when it is not exactly what `TrustRoot.line` prints."""
    parts = line.strip().split(":")
    if len(parts) != 5 or ":".join(parts[:2]) != _PREFIX:
        raise ConfigurationError(f"a trust line is {_PREFIX}:CHAIN:HEIGHT:VALIDATORS, not {line.strip()!r}")
    _, _, chain, height, validators = parts
    for name, digits in (("chain id", chain), ("validator-set hash", validators)):
        if len(digits) != 2 * DIGEST_BYTES or not set(digits) <= _HEX:
            raise ConfigurationError(f"the trust line's {name} has {2 * DIGEST_BYTES} small hex digits, not {digits!r}")
    if not height.isascii() or not height.isdigit() or str(int(height)) != height or int(height) >= 1 << 63:
        raise ConfigurationError(f"the trust line's height is a number, not {height!r}")
    return TrustRoot(bytes.fromhex(chain), int(height), bytes.fromhex(validators))


def genesis_trust(genesis: Genesis) -> TrustRoot:
    """The trust root of a chain's beginning."""
    return TrustRoot(genesis.chain_id, 0, validator_set(genesis).hash)
