"""A histogram of delays: bounded memory however long a run lasts, quantiles within one per cent."""

import math
from bisect import bisect_left
from itertools import accumulate
from typing import Final

_LOWEST_MS: Final = 0.01
_HIGHEST_MS: Final = 600_000.0
_GROWTH: Final = 1.01
_LOG_GROWTH: Final = math.log(_GROWTH)
_BUCKETS: Final = math.ceil(math.log(_HIGHEST_MS / _LOWEST_MS) / _LOG_GROWTH) + 1


class Latencies:
    """Counts of delays in buckets that grow by one per cent from 0.01 ms to 10 minutes."""

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self._total = 0
        self.worst_ms = 0.0

    def __len__(self) -> int:
        return self._total

    def add(self, delay_ms: float) -> None:
        """Count one delay in milliseconds."""
        self.worst_ms = max(self.worst_ms, delay_ms)
        scaled = math.log(max(delay_ms, _LOWEST_MS) / _LOWEST_MS) / _LOG_GROWTH
        self._counts[min(int(scaled), _BUCKETS - 1)] += 1
        self._total += 1

    def quantile(self, share: float) -> float:
        """The delay that `share` of all delays don't exceed, in milliseconds; 0 when none was counted."""
        if self._total == 0:
            return 0.0
        rank = max(math.ceil(share * self._total), 1)
        bucket = bisect_left(list(accumulate(self._counts)), rank)
        return min(_LOWEST_MS * _GROWTH ** (bucket + 1), self.worst_ms)

    def summary(self) -> dict[str, float]:
        """p50, p95 and p99 in milliseconds."""
        return {f"p{share}": round(self.quantile(share / 100), 2) for share in (50, 95, 99)}
