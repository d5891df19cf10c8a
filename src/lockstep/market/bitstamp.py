"""Reads Bitstamp's order-level feed as ob-analytics records it (https://github.com/phil8192/ob-analytics).

Columns: id, timestamp (ms), exchange timestamp (ms), price (USD), volume (1e-8 BTC), action (created, changed,
deleted), direction (bid, ask). A trade has no row of its own: both orders are `changed` to what remains, or `deleted`
with volume 0. Created orders are placed, and the venue's own matching trades those that cross; a `changed` row then
amends its order to the recorded remainder, which does nothing where the venue traded the same.
"""

import csv
from collections import Counter
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from pathlib import Path
from typing import Final

from lockstep.base.errors import ConfigurationError
from lockstep.market.files import read_text
from lockstep.market.recording import Message, RecordedBook, Recording, Resting, What
from lockstep.wire.genesis import Instrument

_COLUMNS: Final = ["id", "timestamp", "exchange.timestamp", "price", "volume", "action", "direction"]
_CENT: Final = Decimal("0.01")
_UNITS_PER_LOT: Final = 10_000
"""A lot is 1e-4 BTC, so that a lot at a tick is worth exactly one micro-USD."""
_BEFORE: Final = "{} of an order placed before the recording began"
_AFTER: Final = "{} of an order that was deleted already"

INSTRUMENT: Final = Instrument(
    symbol="BTC-USD", tick_value=1, price_ticks=1 << 17, position_lots_max=1 << 30, maker_fee_ppm=0,
    taker_fee_ppm=0, initial_margin_ppm=50_000, maintenance_margin_ppm=25_000, price_band_ppm=1_000_000,
)  # fmt: skip


def read(path: Path) -> Recording:
    """Read a level-3 file (.csv or .csv.xz); raises `ConfigurationError` when it can't be read or understood."""
    lines = csv.DictReader(read_text(path).splitlines())
    if lines.fieldnames != _COLUMNS:
        raise ConfigurationError(f"{path} is not a Bitstamp level-3 file: its columns should be {','.join(_COLUMNS)}")
    rows = list(lines)
    reader = _Reader({row["id"] for row in rows if row["action"] == "created"})
    messages: list[Message] = []
    mids: list[int] = []
    for number, row in enumerate(rows, 2):
        try:
            messages.append(reader.message(row))
        except (ValueError, TypeError, InvalidOperation) as error:
            raise ConfigurationError(f"{path}, row {number}: not a Bitstamp event: {error}") from error
        mids.append(reader.book.mid)
        reader.remarks["rows after which the recorded book is crossed"] += reader.book.is_crossed
    reader.remarks["the recorded book ends crossed"] += reader.book.is_crossed
    return Recording(INSTRUMENT, (), messages, mids, remarks=+reader.remarks)


class _Reader:
    """Turns rows into messages, following which orders are live."""

    def __init__(self, created: set[str]) -> None:
        """`created` are the ids of all orders whose creation is somewhere in the file."""
        self.book = RecordedBook()
        self.remarks: Counter[str] = Counter()
        self._created = created
        self._gone: set[int] = set()

    def message(self, row: dict[str, str]) -> Message:
        order, time_us, action = int(row["id"]), int(row["timestamp"]) * 1000, row["action"]
        buy, price, size = self._buy(row["direction"]), self._ticks(row["price"]), self._lots(int(row["volume"]))
        known = self.book.orders.get(order)
        if action == "created":
            if known is not None or order in self._gone:
                return Message(time_us, What.SKIP, note="creation of an order that was deleted already, or is there")
            self.book.add(order, Resting(buy, price, max(size, 1)))
            return Message(time_us, What.NEW, order, buy, price, max(size, 1))
        if action not in ("changed", "deleted"):
            raise ValueError(f"action {action!r}")
        if known is None:
            return Message(time_us, What.SKIP, note=self._unknown(row["id"], action))
        if action == "deleted":
            self._gone.add(order)
            self.book.remove(order)
            self.remarks["deletes with volume 0: traded in full"] += size == 0
            return Message(time_us, What.DELETE, order, known.buy, known.price, known.size)
        return self._changed(time_us, order, known, Resting(known.buy, price, max(size, 1)))

    def _unknown(self, order: str, action: str) -> str:
        """Why a row that names no live order can't be replayed."""
        noun = "change" if action == "changed" else "delete"
        if int(order) in self._gone:
            return f"{noun} of an order that was deleted already"
        if order not in self._created:
            return f"{noun} of an order from before the recording"
        if action == "deleted":
            self._gone.add(int(order))
        return f"{noun} of an order whose creation is recorded later: rows out of order"

    def _changed(self, time_us: int, order: int, known: Resting, changed: Resting) -> Message:
        if changed == known:
            return Message(time_us, What.SKIP, note="a change that changes nothing (at this tick and lot)")
        self.remarks["changes of price"] += changed.price != known.price
        self.book.remove(order)
        self.book.add(order, changed)
        return Message(time_us, What.AMEND, order, changed.buy, changed.price, changed.size)

    def _buy(self, direction: str) -> bool:
        if direction not in ("bid", "ask"):
            raise ValueError(f"direction {direction!r}")
        return direction == "bid"

    def _ticks(self, text: str) -> int:
        ticks = Decimal(text) / _CENT
        self.remarks["prices rounded to a cent"] += ticks != ticks.to_integral_value()
        return int(ticks.to_integral_value(ROUND_HALF_EVEN))

    def _lots(self, volume: int) -> int:
        lots, rest = divmod(volume, _UNITS_PER_LOT)
        self.remarks["volumes rounded to 0.0001 BTC"] += bool(rest)
        return lots + (2 * rest >= _UNITS_PER_LOT)
