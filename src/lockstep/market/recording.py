"""Recorded order flow in one shape, whatever the format it came in.

A recording is an instrument, the orders that rest at its start, and messages in time order. Prices are in ticks and
sizes in lots of the instrument. What a reader can't express as one of these is kept as a message too, with the reason,
so that a replay can account for every recorded row.
"""

from bisect import bisect_left, insort
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from lockstep.wire.genesis import Instrument


class What(StrEnum):
    """What happened to an order."""

    NEW = "new"
    AMEND = "amend"
    """Its remaining size became smaller, or its price changed, without a trade against it by this row."""
    DELETE = "delete"
    EXECUTE = "execute"
    """A visible order was traded against."""
    SKIP = "skip"
    """Nothing a venue could be told; `note` says why."""


@dataclass(frozen=True, slots=True)
class Message:
    """One recorded row. `size` is what is placed, executed, or (AMEND) what remains."""

    time_us: int
    what: What
    order: int = 0
    buy: bool = False
    price: int = 0
    size: int = 0
    note: str = ""


Levels = tuple[tuple[int, int], ...]
"""((price in ticks, lots), …), best first."""


@dataclass(frozen=True, slots=True)
class BookRow:
    """A recorded book: what the exchange showed after some message."""

    bids: Levels
    asks: Levels


@dataclass(slots=True)
class Recording:
    """Everything read from a file."""

    instrument: Instrument
    seeds: tuple[Message, ...]
    """Orders (NEW) that rest before the first message."""
    messages: list[Message]
    mids: list[int]
    """The recorded mid price in ticks after each message, 0 where a side is empty."""
    books: list[BookRow] = field(default_factory=list)
    """The recorded book after each message; empty if the format has none."""
    remarks: Counter[str] = field(default_factory=Counter)
    """Oddities of the recording that a reader should know, with how often they occur."""

    def mapped(self) -> dict[str, int]:
        """How many rows became which kind of message."""
        return dict(sorted(Counter(m.what.value for m in self.messages).items()))

    def skipped(self) -> dict[str, int]:
        """How many rows were skipped, by reason."""
        return dict(sorted(Counter(m.note for m in self.messages if m.what is What.SKIP).items()))


@dataclass(slots=True)
class Resting:
    """An order that the recording holds live."""

    buy: bool
    price: int
    size: int


class RecordedBook:
    """The live orders of a recording, as its own rows tell them. It may be crossed, when rows are missing."""

    def __init__(self) -> None:
        self.orders: dict[int, Resting] = {}
        self._bids: list[int] = []
        self._asks: list[int] = []

    def add(self, number: int, order: Resting) -> None:
        """A new order rests."""
        self.orders[number] = order
        insort(self._prices(order.buy), order.price)

    def remove(self, number: int) -> Resting:
        """An order is gone."""
        order = self.orders.pop(number)
        prices = self._prices(order.buy)
        del prices[bisect_left(prices, order.price)]
        return order

    def _prices(self, buy: bool) -> list[int]:
        return self._bids if buy else self._asks

    @property
    def best_bid(self) -> int:
        """The highest bid, 0 if there is none."""
        return self._bids[-1] if self._bids else 0

    @property
    def best_ask(self) -> int:
        """The lowest ask, 0 if there is none."""
        return self._asks[0] if self._asks else 0

    @property
    def mid(self) -> int:
        """Between the best prices, 0 if a side is empty."""
        return (self.best_bid + self.best_ask) // 2 if self._bids and self._asks else 0

    @property
    def is_crossed(self) -> bool:
        """Whether the best bid is above the best ask: a book that no exchange can have had."""
        return bool(self._bids and self._asks and self.best_bid > self.best_ask)
