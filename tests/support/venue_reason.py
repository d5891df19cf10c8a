"""Cases of reasons to refuse or cancel: scripts that yield (reason expected, records)."""

from collections.abc import Callable, Iterator

import numpy as np

from lockstep.venue.event import EventReason
from tests.support.venue_market import (
    BOB,
    BUY,
    CAROL,
    SELL,
    place,
)
from tests.support.venue_script import (
    Desk,
    desk,
)

Script = Iterator[tuple[EventReason, np.ndarray]]
CASES: dict[EventReason, list[Callable[[], Script]]] = {}
"""Filled by importing `venue_reason_orders` and `venue_reason_limits`."""


def due(reason: EventReason) -> Callable[[Callable[[], Script]], Callable[[], Script]]:
    """Enter a script as a case of a reason."""

    def enter(script: Callable[[], Script]) -> Callable[[], Script]:
        CASES.setdefault(reason, []).append(script)
        return script

    return enter


def made_rich(who: int, start: int) -> Desk:
    """`who` had `start` and gains 1,000,000: 10,000 lots bought from BOB at 1000, sold to CAROL at 1001."""
    balances = [0, 0, 0, 10_000, 10_000, 10_000]
    balances[who] = start
    rates = {"initial_margin_ppm": 1, "maintenance_margin_ppm": 1, "maker_fee_ppm": 0, "taker_fee_ppm": 0}
    d = desk(balances=balances, **rates)
    d.trade(buyer=who, seller=BOB, price=1000, size=10_000)
    d.prices = [1001, 1000]
    d.block((who, [place(SELL, 1001, 10_000, client_id=5)]), (CAROL, [place(BUY, 1001, 10_000)]))
    assert d.balance(who) == start + 1_000_000
    return d
