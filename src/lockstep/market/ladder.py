"""A book rebuilt from nothing but the outcome records that a client was told."""

from collections import Counter
from typing import Any

import numpy as np

from lockstep.market.recording import Levels
from lockstep.venue.event import EVENT, EventKind, EventReason
from lockstep.wire.command import Side


class Ladder:
    """Resting orders by order id, as told by events that are given in the order of the blocks."""

    def __init__(self) -> None:
        self._orders: dict[int, tuple[bool, int, int]] = {}
        self.fills = 0
        self.filled_lots = 0
        self.outcomes: Counter[str] = Counter()
        """Outcomes by kind, rejections by reason."""

    def apply(self, outcomes: bytes) -> None:
        """Take a bundle's EVENT rows."""
        for row in np.frombuffer(outcomes, EVENT):
            self._take(row)

    def _take(self, row: Any) -> None:
        kind, order, other = int(row["kind"]), int(row["order_id"]), int(row["other_order_id"])
        if kind == EventKind.FILL:
            self.fills += 1
            self.filled_lots += int(row["size"])
            self._reduce(other, int(row["size"]))
            return
        if row["flags"] & 1:
            name = EventKind(kind).name.lower()
            reason = EventReason(int(row["reason"])).name.lower().replace("_", "-")
            self.outcomes[f"{name}: {reason}" if row["reason"] else name] += 1
        if kind in (EventKind.RESTED, EventKind.FILLED, EventKind.CANCELLED):
            self._orders.pop(other, None)
        if kind == EventKind.RESTED:
            self._orders[order] = (bool(row["side"] == Side.BUY), int(row["price"]), int(row["size"]))
        elif kind == EventKind.CANCELLED:
            self._orders.pop(order, None)

    def _reduce(self, order: int, lots: int) -> None:
        buy, price, size = self._orders.pop(order)
        if size > lots:
            self._orders[order] = (buy, price, size - lots)

    def levels(self, buy: bool, depth: int) -> Levels:
        """The best `depth` price levels of a side: ((price, lots), …), best first."""
        by_price: Counter[int] = Counter()
        for side, price, size in self._orders.values():
            if side == buy:
                by_price[price] += size
        return tuple(sorted(by_price.items(), reverse=buy)[:depth])
