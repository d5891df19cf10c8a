"""Orders: every check of a new one, and what becomes of it."""

from lockstep.base.limits import (
    BALANCE_MAX,
    FILLS_PER_COMMAND_MAX,
    OPEN_ORDERS_PER_ACCOUNT_MAX,
    POSITIONS_PER_ACCOUNT_MAX,
)
from lockstep.simulator.checkers.oracle.matching import Matching
from lockstep.simulator.checkers.oracle.state import (
    BUY,
    FOK,
    GTC,
    OUTCOME,
    POST_ONLY,
    REDUCE_ONLY,
    Command,
    Order,
    Position,
    Rejected,
)
from lockstep.venue.event import EventKind, EventReason


class Orders(Matching):
    """Placing and replacing."""

    def check_options(self, c: Command) -> None:
        if c.tif > 2 or c.flags > 7 or (c.flags & POST_ONLY and c.tif != GTC):
            raise Rejected(EventReason.MALFORMED)

    def place(self, account: int, c: Command) -> None:
        if c.target or c.side > 1:
            raise Rejected(EventReason.MALFORMED)
        self.check_options(c)
        if c.instrument >= len(self.books):
            raise Rejected(EventReason.UNKNOWN_INSTRUMENT)
        self.submit(account, c, c.instrument, c.side, c.client_id, None)

    def replace(self, account: int, c: Command) -> None:
        if c.instrument or c.side:
            raise Rejected(EventReason.MALFORMED)
        self.check_options(c)
        old = self.owned(account, c.target)
        client_id = c.client_id or old.client_id
        same = (c.tif, c.flags, c.price, client_id) == (GTC, old.flags, old.price, old.client_id)
        if not (same and 0 < c.size <= old.lots):
            self.submit(account, c, old.number, old.side, client_id, old)
            return
        if self.books[old.number].stale:
            raise Rejected(EventReason.STALE_PRICE)
        old.lots = c.size
        self.emit(
            EventKind.RESTED, 0, OUTCOME, account, instrument=old.number, side=old.side, price=old.price,
            size=old.lots, order_id=old.id, other_order_id=old.id, client_id=old.client_id,
        )  # fmt: skip

    def admit(self, account: int, c: Command, number: int, side: int, client_id: int, old: Order | None) -> int:
        """Every check of a new order; the lots granted."""
        book, owner, r = self.books[number], self.accounts[account], EventReason
        self.refuse_if(not 1 <= c.price < book.rules.price_ticks, r.BAD_PRICE)
        self.refuse_if(not 1 <= c.size <= book.rules.position_lots_max, r.BAD_SIZE)
        self.refuse_if(book.stale, r.STALE_PRICE)
        self.refuse_if(not book.band()[0] <= c.price <= book.band()[1], r.PRICE_BAND)
        fees = self.accounts[self.genesis.fee_account].balance
        self.refuse_if(abs(owner.balance) > BALANCE_MAX or abs(fees) > BALANCE_MAX, r.BALANCE_LIMIT)
        named = [o for o in owner.orders if client_id and o.client_id == client_id and o is not old]
        self.refuse_if(bool(named), r.DUPLICATE_CLIENT_ID)
        if c.tif == GTC and old is None:
            self.refuse_if(len(owner.orders) >= OPEN_ORDERS_PER_ACCOUNT_MAX, r.TOO_MANY_ORDERS)
            self.refuse_if(not self.free and self.used + 1 >= self.limits.orders_max, r.ORDERS_FULL)
        position = owner.position(number)
        if position is None:
            self.refuse_if(len(owner.positions) >= POSITIONS_PER_ACCOUNT_MAX, r.TOO_MANY_POSITIONS)
            held = sum(len(a.positions) for a in self.accounts)
            self.refuse_if(held >= self.limits.positions_max - 1, r.POSITIONS_FULL)
        size = position.size if position else 0
        lots = c.size
        if c.flags & REDUCE_ONLY:
            lots = min(lots, max(-size if side == BUY else size, 0))
            self.refuse_if(lots == 0, r.REDUCE_ONLY)
        if c.flags & POST_ONLY:
            opposite = book.prices(1 - side)
            crossing = opposite and (c.price >= opposite[0] if side == BUY else c.price <= opposite[0])
            self.refuse_if(bool(crossing), r.POST_ONLY)
        if not c.flags & REDUCE_ONLY:
            self.check_risk(account, number, side, c.price, lots, old)
        return lots

    def submit(self, account: int, c: Command, number: int, side: int, client_id: int, old: Order | None) -> None:
        lots = self.admit(account, c, number, side, client_id, old)
        owner = self.accounts[account]
        position = owner.position(number)
        if position is None:
            position = Position(number)
            owner.positions.insert(0, position)
        self.pinned = position
        if old is not None:
            self.drop(old)
        slot = 0
        if c.tif == GTC:
            slot = self.free.pop() if self.free else self.used + 1
            self.used = max(self.used, slot)
        self.serial += 1
        order = Order(
            self.serial << self.slot_bits | slot, slot, client_id, account, number, side, c.flags, c.price, lots
        )
        stop = 0
        if c.tif == FOK and not self.could_fill(order):
            stop = int(EventReason.FILL_OR_KILL)
        else:
            stop = self.match(order, position, 0, FILLS_PER_COMMAND_MAX)[0]
        kind, size, reason = EventKind.RESTED, order.lots, 0
        if order.lots == 0:
            kind, size = EventKind.FILLED, lots
        elif stop or c.tif != GTC:
            kind, reason = EventKind.CANCELLED, stop or int(EventReason.IMMEDIATE_OR_CANCEL)
        if kind == EventKind.RESTED:
            self.books[number].queues.setdefault(c.price, []).append(order)
            owner.orders.insert(0, order)
        elif slot:
            self.free.append(slot)
        self.pinned = None
        self.emit(
            kind, reason, OUTCOME, account, instrument=number, side=side, price=c.price, size=size,
            order_id=order.id, other_order_id=old.id if old else 0, client_id=client_id,
        )  # fmt: skip
