"""Reads LOBSTER samples: a message file, and the aligned book file beside it if it is there.

Message columns: seconds after midnight, type, order id, size, price in 1e-4 USD, direction (1 = buy). Types: 1 new,
2 partial cancel, 3 delete, 4 execution of a visible order, 5 of a hidden one, 7 trading halt. Row i of the book file is
the book after message i: (ask price, ask size, bid price, bid size) by level. Source: LOBSTER's data description,
https://lobsterdata.com/info/DataStructure.php

The sample starts with a book that is there already: the first book row, with the first message taken back, is seeded
as one order a level. Rows that name an order from before the start act on the seed of their level.
"""

import csv
import re
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Final

from lockstep.base.errors import ConfigurationError
from lockstep.market.files import read_text
from lockstep.market.recording import BookRow, Levels, Message, RecordedBook, Recording, Resting, What
from lockstep.wire.genesis import Instrument

_UNITS_PER_TICK: Final = 100
"""A tick is one cent; prices are given in 1e-4 USD."""
_SEED_BASE: Final = 1 << 48
_NO_PRICE: Final = 9_999_999_999
"""LOBSTER's dummy price for an empty level."""
_HIDDEN: Final = "execution of a hidden order: it was never in the visible book"
_BEYOND: Final = "names an order from before the recording, at a level that the first book row doesn't show"

INSTRUMENT: Final = Instrument(
    symbol="LOBSTER", tick_value=10_000, price_ticks=1 << 17, position_lots_max=3_000_000, maker_fee_ppm=0,
    taker_fee_ppm=0, initial_margin_ppm=50_000, maintenance_margin_ppm=25_000, price_band_ppm=1_000_000,
)  # fmt: skip
"""One lot is one share."""


def read(path: Path) -> Recording:
    """Read a message file; raises `ConfigurationError` when it can't be read or understood."""
    books = _books(path)
    rows = [row for row in csv.reader(read_text(path).splitlines()) if row]
    if books and len(books) != len(rows):
        raise ConfigurationError(f"{path} has {len(rows)} messages, but its book file {len(books)} rows")
    reader = _Reader(rows, books)
    messages: list[Message] = []
    mids: list[int] = []
    for number, row in enumerate(rows, 1):
        try:
            messages.append(reader.message(row))
        except (ValueError, IndexError, ArithmeticError) as error:
            raise ConfigurationError(f"{path}, row {number}: not a LOBSTER message: {error}") from error
        mids.append(_mid(books[number - 1]) if books else reader.book.mid)
    return Recording(INSTRUMENT, reader.seeds, messages, mids, books, reader.remarks)


class _Reader:
    """Turns rows into messages, following which orders are live."""

    def __init__(self, rows: list[list[str]], books: list[BookRow]) -> None:
        self.book = RecordedBook()
        self.remarks: Counter[str] = Counter()
        self._seed_at: dict[tuple[bool, int], int] = {}
        self.seeds = self._seed(rows[0], books[0]) if books else ()

    def _seed(self, first: list[str], book: BookRow) -> tuple[Message, ...]:
        placed = (int(first[5]) == 1, int(first[4]) // _UNITS_PER_TICK, int(first[3]))
        if int(first[1]) != 1:
            raise ConfigurationError("a LOBSTER sample whose first message isn't a new order can't be seeded")
        seeds: list[Message] = []
        time_us = _time_us(first[0])
        for buy, levels in ((True, book.bids), (False, book.asks)):
            for price, shown in levels:
                size = shown - (placed[2] if (buy, price) == placed[:2] else 0)
                if size <= 0:
                    continue
                order = _SEED_BASE + len(seeds) + 1
                seeds.append(Message(time_us, What.NEW, order, buy, price, size))
                self.book.add(order, Resting(buy, price, size))
                self._seed_at[buy, price] = order
        return tuple(seeds)

    def message(self, row: list[str]) -> Message:
        time_us, kind, number, size, units, side = (
            _time_us(row[0]), int(row[1]), int(row[2]), int(row[3]), int(row[4]), int(row[5]),
        )  # fmt: skip
        buy = side == 1
        if kind == 5:
            return Message(time_us, What.SKIP, note=_HIDDEN)
        if kind not in (1, 2, 3, 4):
            return Message(time_us, What.SKIP, note=f"message type {kind} (a halt or a cross)")
        price, rest = divmod(units, _UNITS_PER_TICK)
        if rest:
            return Message(time_us, What.SKIP, note="a price that is not a whole number of cents")
        if kind == 1:
            self.book.add(number, Resting(buy, price, size))
            return Message(time_us, What.NEW, number, buy, price, size)
        order = number if number in self.book.orders else self._seed_at.get((buy, price), 0)
        if order != number and order:
            self.remarks["rows that name an order from before the recording, applied to the seed of its level"] += 1
        if order not in self.book.orders:
            return Message(time_us, What.SKIP, note=_BEYOND)
        return self._shrink(time_us, kind, order, size)

    def _shrink(self, time_us: int, kind: int, order: int, size: int) -> Message:
        resting = self.book.orders[order]
        resting.size -= size
        remaining = max(resting.size, 0)
        if remaining == 0:
            self.book.remove(order)
        what = What.EXECUTE if kind == 4 else What.DELETE if remaining == 0 else What.AMEND
        return Message(time_us, what, order, resting.buy, resting.price, remaining if what is What.AMEND else size)


def _time_us(text: str) -> int:
    return int(Decimal(text) * 1_000_000)


def _mid(book: BookRow) -> int:
    return (book.bids[0][0] + book.asks[0][0]) // 2 if book.bids and book.asks else 0


def _books(path: Path) -> list[BookRow]:
    """The rows of the aligned book file, if there is one: `…messages….csv` has `…orderbook<levels>.csv` beside it."""
    pattern = re.escape(re.sub(r"(_\d+)?\.csv(\.xz)?$", "", path.name)).replace("messages", r"orderbook(_?\d+)?")
    pattern = pattern.replace("message", r"orderbook(_?\d+)?") + r"(_\d+)?\.csv(\.xz)?"
    beside = sorted(other for other in path.parent.glob("*orderbook*") if re.fullmatch(pattern, other.name))
    if not beside or "message" not in path.name:
        return []
    return [_book_row([int(field) for field in row]) for row in csv.reader(read_text(beside[0]).splitlines()) if row]


def _book_row(fields: list[int]) -> BookRow:
    def side(first: int) -> Levels:
        pairs = zip(fields[first::4], fields[first + 1 :: 4], strict=True)
        return tuple((price // _UNITS_PER_TICK, size) for price, size in pairs if 0 < price < _NO_PRICE)

    return BookRow(bids=side(2), asks=side(0))
