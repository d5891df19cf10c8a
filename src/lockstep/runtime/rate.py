"""A token bucket. What is over the rate is not refused: its sender is read from more slowly."""


class Rate:
    """Lets `per_second` units pass in the long run, and `burst` at once."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = burst
        self._filled_at = 0.0

    def take(self, amount: float, now: float) -> float:
        """Account for `amount` units that came at `now` (seconds); returns how long to wait before the next."""
        if now > self._filled_at:
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._per_second)
            self._filled_at = now
        self._tokens -= amount
        return 0.0 if self._tokens >= 0 else -self._tokens / self._per_second
