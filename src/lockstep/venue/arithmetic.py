"""Exact integer arithmetic that cannot overflow.

A notional value is at most 2^52 and a rate at most 10^6 ppm, so their product would not fit. Splitting the value at
the divisor first gives the same exact result in small steps: (a d + b) r / d = a r + b r / d, with b below d.
"""

from typing import Final

import numpy as np

from lockstep.venue.compiled import i64, kernel, u64
from lockstep.venue.event import PPM

_PPM: Final = np.uint64(PPM)
_ONE: Final = np.uint64(1)
TOTAL_MAX: Final = 1 << 62
"""Running totals that nothing is computed from (fees ever paid, volume) stop here."""


@kernel
def portion_down(value: int, ppm: int) -> int:
    """value * ppm / 10^6 rounded down, for 0 <= value < 2^62 and 0 <= ppm <= 10^6."""
    whole, rest = u64(value) // _PPM, u64(value) % _PPM  # unsigned: a division by a constant is a multiplication
    return i64(whole * u64(ppm) + rest * u64(ppm) // _PPM)


@kernel
def portion_up(value: int, ppm: int) -> int:
    """The same, rounded up."""
    whole, rest = u64(value) // _PPM, u64(value) % _PPM
    return i64(whole * u64(ppm) + (rest * u64(ppm) + (_PPM - _ONE)) // _PPM)


@kernel
def fee_on(notional: int, ppm: int) -> int:
    """Fee rounded towards the venue; negative for a rebate (a negative rate)."""
    if ppm < 0:
        return -portion_down(notional, -ppm)
    return portion_up(notional, ppm)


@kernel
def share(value: int, part: int, whole: int) -> int:
    """value * part / whole rounded down, for 0 <= value < 2^62 and 0 <= part <= whole <= 2^31."""
    return value // whole * part + value % whole * part // whole


@kernel
def running_total(total: int, change: int) -> int:
    """total + change, held within ±TOTAL_MAX."""
    return i64(max(-TOTAL_MAX, min(TOTAL_MAX, total + change)))
