"""Prices: what validators saw, and the stake-weighted median of it."""

import numpy as np

from lockstep.simulator.checkers.oracle.state import State


class Prices(State):
    """Takes observations in."""

    def observe(self, time_ms: int, observations: np.ndarray) -> None:
        for row in observations:
            validator, number, price, seen_ms = (int(v) for v in row)
            if validator >= len(self.stakes) or number >= len(self.books) or seen_ms > time_ms:
                continue
            is_backwards = seen_ms < self.seen.get((validator, number), (0, 0))[1]
            if 0 <= price < self.books[number].rules.price_ticks and not is_backwards:
                self.seen[validator, number] = (price, seen_ms)
        for number, book in enumerate(self.books):
            mark = self.median(number, time_ms)
            if (mark is None) != book.stale or (mark is not None and mark != book.mark):
                self.to_check = len(self.accounts)
            book.stale = mark is None
            book.mark = book.mark if mark is None else mark

    def median(self, number: int, time_ms: int) -> int | None:
        said = []
        for validator, stake in enumerate(self.stakes):
            price, seen_ms = self.seen.get((validator, number), (0, 0))
            if price and time_ms - seen_ms <= self.limits.price_age_ms_max:
                said.append((price, stake))
        counted = sum(stake for _, stake in said)
        if counted * 3 <= sum(self.stakes) * 2:
            return None
        below = 0
        for price, stake in sorted(said):
            below += stake
            if 2 * below >= counted:
                return price
        raise AssertionError
