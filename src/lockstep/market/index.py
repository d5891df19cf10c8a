"""The index: what the outside world's prices do. A seeded walk with volatility clusters and jumps.

Log returns follow GARCH(1,1) (Bollerslev 1986) with one common factor, so that calm and stormy times alternate and
instruments move together; now and then everything jumps. Same seed, same path, step by step.
"""

import math
from typing import Any, Final

import numpy as np

STEP_SECONDS: Final = 0.1
"""Simulated time between two steps."""

_SIGMA: Final = 3.0e-5
"""Long-run standard deviation of one step's log return: about 55 % a year."""
_ALPHA: Final = 0.09
_BETA: Final = 0.90
_OMEGA: Final = _SIGMA**2 * (1 - _ALPHA - _BETA)
_VARIANCE_MAX: Final = (20 * _SIGMA) ** 2
_COMMON: Final = 0.8
"""Correlation of an instrument's shocks with the common factor."""
_JUMP_PROBABILITY: Final = 0.004
"""Per step: one jump in 25 s on average."""
_JUMP_MEDIAN: Final = 1.5e-3
_RANGE: Final = math.log(1.8)
"""A path stays within a factor of 1.8 of where it started: it is reflected at the borders."""


class IndexPath:
    """Index prices of several instruments, in ticks."""

    def __init__(self, seed: int, opening_prices: tuple[int, ...]) -> None:
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._opening = np.array(opening_prices, dtype=np.float64)
        self._log = np.zeros(len(opening_prices))
        self._variance = np.full(len(opening_prices), _SIGMA**2)
        self.prices: np.ndarray[Any, Any] = np.array(opening_prices, dtype=np.int64)
        """(instruments,) int64, ticks, at the present step."""

    def step(self) -> np.ndarray[Any, Any]:
        """Walk one step; returns the new prices (a fresh array)."""
        n = len(self._log)
        common = self._random.standard_normal()
        own = self._random.standard_normal(n)
        returns = np.sqrt(self._variance) * (_COMMON * common + math.sqrt(1 - _COMMON**2) * own)
        self._variance = np.minimum(_OMEGA + _ALPHA * returns**2 + _BETA * self._variance, _VARIANCE_MAX)
        self._log = self._log + returns + self._jump(n)
        self._reflect()
        self.prices = np.maximum(np.rint(self._opening * np.exp(self._log)), 1).astype(np.int64)
        return self.prices

    def _jump(self, n: int) -> Any:
        # The draws are made whether or not they are used, so that a path's randomness doesn't shift.
        happens, direction = self._random.random(2)
        sizes = _JUMP_MEDIAN * np.exp(0.6 * self._random.standard_normal(n))
        if happens >= _JUMP_PROBABILITY:
            return 0.0
        return sizes if direction < 0.5 else -sizes

    def _reflect(self) -> None:
        over = np.abs(self._log) > _RANGE
        self._log[over] = np.sign(self._log[over]) * 2 * _RANGE - self._log[over]
