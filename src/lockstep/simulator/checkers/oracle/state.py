"""The slow engine's state: accounts with their orders and positions, books with their queues."""

from dataclasses import dataclass, field

from lockstep.venue.event import EVENT, EventKind, EventReason
from lockstep.wire.genesis import Genesis, Instrument

BUY = 0
POST_ONLY, REDUCE_ONLY, STP_CANCEL_TAKER = 1, 2, 4
OUTCOME, LIQUIDATION = 1, 2
GTC, FOK = 0, 2


class Rejected(Exception):
    """A command changes nothing."""


@dataclass
class Command:
    kind: int
    side: int
    tif: int
    flags: int
    instrument: int
    price: int
    size: int
    client_id: int
    target: int


@dataclass(eq=False)
class Order:
    id: int
    slot: int
    client_id: int
    account: int
    number: int
    side: int
    flags: int
    price: int
    lots: int


@dataclass(eq=False)
class Position:
    number: int
    size: int = 0
    entry: int = 0


@dataclass
class Account:
    balance: int
    orders: list[Order] = field(default_factory=list)
    """Newest first."""
    positions: list[Position] = field(default_factory=list)
    """Newest first."""
    next_sequence: int = 0
    shortfall: bool = False

    def position(self, number: int) -> Position | None:
        return next((p for p in self.positions if p.number == number), None)


@dataclass
class Book:
    rules: Instrument
    queues: dict[int, list[Order]] = field(default_factory=dict)
    mark: int = 0
    stale: bool = True

    def prices(self, side: int) -> list[int]:
        """Prices with orders of this side, best first."""
        return sorted((p for p, queue in self.queues.items() if queue[0].side == side), reverse=side == BUY)

    def band(self) -> tuple[int, int]:
        width = self.mark * self.rules.price_band_ppm // 10**6
        return max(self.mark - width, 1), min(self.mark + width, self.rules.price_ticks - 1)


def ceil_ppm(value: int, ppm: int) -> int:
    return -(-value * ppm // 10**6)


class State:
    """Dictionaries, lists and exact integers. No running totals."""

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        self.stakes = [validator.stake for validator in genesis.validators]
        self.limits = genesis.parameters
        self.accounts = [Account(a.balance) for a in genesis.accounts]
        self.deposited = sum(a.balance for a in genesis.accounts)
        self.books = [Book(i) for i in genesis.instruments]
        self.seen: dict[tuple[int, int], tuple[int, int]] = {}
        self.serial = 0
        self.free: list[int] = []
        self.used = 0
        self.slot_bits = genesis.parameters.orders_max.bit_length() - 1
        self.pinned: Position | None = None
        self.cursor = self.to_check = 0
        self.events: list[tuple[int, ...]] = []
        self.cause = 0
        self.fills = 0

    def emit(self, kind: EventKind, reason: int, flags: int, account: int, **fields: int) -> None:
        values = {"command": self.cause, "kind": kind, "reason": reason, "flags": flags, "account": account}
        values |= fields
        self.events.append(tuple(int(values.get(name, 0)) for name in EVENT.names or ()))

    def tidy(self) -> None:
        """Positions with neither lots nor orders are gone."""
        for account in self.accounts:
            busy = {order.number for order in account.orders}
            account.positions = [p for p in account.positions if p.size or p.number in busy or p is self.pinned]

    def refuse_if(self, condition: bool, reason: EventReason) -> None:
        if condition:
            raise Rejected(reason)

    def owned(self, account: int, order_id: int) -> Order:
        for order in self.accounts[account].orders:
            if order.id == order_id:
                return order
        raise Rejected(EventReason.UNKNOWN_ORDER)
