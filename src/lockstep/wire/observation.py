"""What a validator says it sees: the index price of each instrument, signed.

Layout: validator u16 | count u16 | reserved u32 = 0 | time_ms i64 | count x price i64 (ticks; 0 = no opinion) |
signature 64 B over `b"lockstep/observation/1" + chain id + BLAKE3(the bytes before the signature)`.

Observations travel by themselves, a few a second, and the leader puts the newest of each validator into its
block. Stake-weighted medians of them are the mark prices (docs/decisions/0004-observations-beside-votes.md).
"""

import struct
from functools import lru_cache
from typing import Final

import numpy as np

from lockstep.base.digest import digest
from lockstep.base.errors import Reason, Refused
from lockstep.base.keys import SIGNATURE_BYTES, PrivateKey, verify
from lockstep.base.limits import INSTRUMENTS_MAX, PRICE_TICKS_MAX, VALIDATORS_MAX
from lockstep.wire.validators import ValidatorSet

_HEAD: Final = struct.Struct("<HHIq")
_DOMAIN: Final = b"lockstep/observation/1"
OBSERVATION_BYTES_MAX: Final = _HEAD.size + 8 * INSTRUMENTS_MAX + SIGNATURE_BYTES

OBSERVATION: Final = np.dtype([("validator", "<u4"), ("instrument", "<u4"), ("price", "<i8"), ("time_ms", "<i8")])
"""One row per (validator, instrument), as the venue takes them."""


class Observation:
    """A decoded observation. `raw` is the only state."""

    __slots__ = ("prices", "raw", "time_ms", "validator")

    def __init__(self, raw: bytes) -> None:
        """Decode `raw`; raises `Refused`."""
        if not _HEAD.size + SIGNATURE_BYTES <= len(raw) <= OBSERVATION_BYTES_MAX:
            raise Refused(Reason.BAD_OBSERVATION, f"an observation cannot have {len(raw)} bytes")
        validator, count, reserved, time_ms = _HEAD.unpack_from(raw)
        if reserved or len(raw) != _HEAD.size + 8 * count + SIGNATURE_BYTES:
            raise Refused(Reason.NON_CANONICAL, "the observation's length or reserved field is wrong")
        prices = struct.unpack_from(f"<{count}q", raw, _HEAD.size)
        lowest, highest = min(prices, default=0), max(prices, default=0)
        if validator >= VALIDATORS_MAX or time_ms < 0 or lowest < 0 or highest >= PRICE_TICKS_MAX:
            raise Refused(Reason.BAD_OBSERVATION, "a field of the observation is out of range")
        self.raw = raw
        self.validator: int = validator
        self.time_ms: int = time_ms
        self.prices: tuple[int, ...] = prices

    def signed_by(self, validators: ValidatorSet) -> bool:
        """Whether its validator signed it, on this chain."""
        if self.validator >= len(validators):
            return False
        message = _DOMAIN + validators.chain_id + digest(self.raw[:-SIGNATURE_BYTES])
        return verify(validators.keys[self.validator], message, self.raw[-SIGNATURE_BYTES:])


@lru_cache(maxsize=256)
def decode_observation(raw: bytes) -> Observation:
    """Decode an observation; raises `Refused`. The newest are remembered: one comes by itself and then in a block, and
    a simulated network decodes it once for each node."""
    return Observation(raw)


def seal_observation(
    key: PrivateKey, chain_id: bytes, validator: int, time_ms: int, prices: tuple[int, ...]
) -> Observation:
    """Make and sign an observation of `prices` (ticks, by instrument number)."""
    body = _HEAD.pack(validator, len(prices), 0, time_ms) + struct.pack(f"<{len(prices)}q", *prices)
    return Observation(body + key.sign(_DOMAIN + chain_id + digest(body)))
