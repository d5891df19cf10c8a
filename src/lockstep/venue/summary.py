"""One small row an instrument: what a screen shows of a venue."""

from typing import Any, Final

import numpy as np

SUMMARY: Final = np.dtype(
    [
        ("best_bid", "<i8"),
        ("best_ask", "<i8"),
        ("mark", "<i8"),
        ("last_price", "<i8"),
        ("open_interest", "<i8"),
        ("volume", "<i8"),
        ("stale", "u1"),
    ]
)
"""Prices in ticks (0: none), open interest and volume in lots."""


def summarise(instruments: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """(instruments,) SUMMARY rows, copied from the rows of the `instruments` table."""
    summary = np.zeros(len(instruments), SUMMARY)
    names = SUMMARY.names
    assert names is not None
    for name in names:
        summary[name] = instruments[name]
    return summary
