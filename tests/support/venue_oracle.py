"""A slow engine in plain Python: the rules once more, with dictionaries, lists and exact integers.

It shares no code with the kernels, only the names of kinds and reasons. It keeps no running totals: open lots, margins
and best prices are worked out from the orders and positions whenever they are needed.
"""

from dataclasses import dataclass, field

import numpy as np

from lockstep.base.limits import (
    AMOUNT_MAX,
    BALANCE_MAX,
    FILLS_PER_COMMAND_MAX,
    OPEN_ORDERS_PER_ACCOUNT_MAX,
    POSITIONS_PER_ACCOUNT_MAX,
)
from lockstep.venue.event import EVENT, SYSTEM, EventKind, EventReason
from lockstep.wire.command import ALL_INSTRUMENTS, COMMAND, Kind
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


class Oracle:
    """The venue's rules. `block` returns EVENT rows."""

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
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

    # -- a block -------------------------------------------------------------------------------------

    def block(self, time_ms: int, observations: np.ndarray, spans: np.ndarray, commands: np.ndarray) -> np.ndarray:
        self.events, self.fills = [], 0
        self.observe(time_ms, observations)
        for span in spans:
            account, first, count = int(span["account"]), int(span["first"]), int(span["count"])
            if account < len(self.accounts):
                self.accounts[account].next_sequence = int(span["sequence"]) + 1
            for i in range(first, first + count):
                self.cause = i
                self.run(account, Command(*(int(commands[i][name]) for name in COMMAND.names or ())))
                self.tidy()
        self.cause = SYSTEM
        self.check_accounts()
        return np.array(self.events, EVENT)

    def run(self, account: int, c: Command) -> None:
        try:
            if account >= len(self.accounts):
                raise Rejected(EventReason.UNKNOWN_ACCOUNT)
            actions = {
                Kind.PLACE: self.place, Kind.CANCEL: self.cancel, Kind.CANCEL_CLIENT: self.cancel_client,
                Kind.CANCEL_ALL: self.cancel_all, Kind.REPLACE: self.replace, Kind.TRANSFER: self.transfer,
                Kind.DEPOSIT: self.deposit, Kind.WITHDRAW: self.withdraw, Kind.OPEN_ACCOUNT: self.open_account,
            }  # fmt: skip
            if c.kind not in actions:
                raise Rejected(EventReason.MALFORMED)
            actions[Kind(c.kind)](account, c)
        except Rejected as refusal:
            price = c.price if 0 <= c.price < 1 << 32 else 0
            self.emit(
                EventKind.REJECTED, refusal.args[0], OUTCOME, account, instrument=c.instrument, side=c.side,
                price=price, size=c.size, order_id=c.target, client_id=c.client_id,
            )  # fmt: skip

    def emit(self, kind: EventKind, reason: int, flags: int, account: int, **fields: int) -> None:
        values = {"command": self.cause, "kind": kind, "reason": reason, "flags": flags, "account": account}
        values |= fields
        self.events.append(tuple(int(values.get(name, 0)) for name in EVENT.names or ()))

    def tidy(self) -> None:
        """Positions with neither lots nor orders are gone."""
        for account in self.accounts:
            busy = {order.number for order in account.orders}
            account.positions = [p for p in account.positions if p.size or p.number in busy or p is self.pinned]

    # -- prices --------------------------------------------------------------------------------------

    def observe(self, time_ms: int, observations: np.ndarray) -> None:
        for row in observations:
            validator, number, price, seen_ms = (int(v) for v in row)
            if validator >= len(self.genesis.validators) or number >= len(self.books) or seen_ms > time_ms:
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
        for validator, row in enumerate(self.genesis.validators):
            price, seen_ms = self.seen.get((validator, number), (0, 0))
            if price and time_ms - seen_ms <= self.limits.price_age_ms_max:
                said.append((price, row.stake))
        counted = sum(stake for _, stake in said)
        if counted * 3 <= sum(v.stake for v in self.genesis.validators) * 2:
            return None
        below = 0
        for price, stake in sorted(said):
            below += stake
            if 2 * below >= counted:
                return price
        raise AssertionError

    # -- orders --------------------------------------------------------------------------------------

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

    def owned(self, account: int, order_id: int) -> Order:
        for order in self.accounts[account].orders:
            if order.id == order_id:
                return order
        raise Rejected(EventReason.UNKNOWN_ORDER)

    def refuse_if(self, condition: bool, reason: EventReason) -> None:
        if condition:
            raise Rejected(reason)

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

    def check_risk(self, account: int, number: int, side: int, price: int, lots: int, old: Order | None) -> None:
        owner, rules = self.accounts[account], self.books[number].rules
        present = [(o.number, o.side, o.price, o.lots) for o in owner.orders if not o.flags & REDUCE_ONLY]
        kept = [(o.number, o.side, o.price, o.lots) for o in owner.orders if not o.flags & REDUCE_ONLY and o is not old]
        wanted = [*kept, (number, side, price, lots)]
        position = owner.position(number)
        held = (position.size if position else 0) * (1 if side == BUY else -1)
        resting = sum(o[3] for o in wanted if o[:2] == (number, side))
        self.refuse_if(max(resting, held + resting) > rules.position_lots_max, EventReason.POSITION_LIMIT)
        before = self.initial_margin(owner, number, present)
        after = self.initial_margin(owner, number, wanted)
        if after <= before:
            return
        others = sum(self.initial_margin(owner, n, wanted) for n in range(len(self.books)) if n != number)
        fee = ceil_ppm(lots * price * rules.tick_value, rules.taker_fee_ppm)
        short = self.equity(owner) - fee < others + after
        self.refuse_if(short, EventReason.INSUFFICIENT_MARGIN)

    def initial_margin(self, owner: Account, number: int, orders: list[tuple[int, int, int, int]]) -> int:
        """Of one instrument: the worse of "all buys trade" and "all sells trade"."""
        book, rules = self.books[number], self.books[number].rules
        position = owner.position(number)
        needs = []
        for side, sign in ((0, 1), (1, -1)):
            mine = [(price, lots) for n, s, price, lots in orders if (n, s) == (number, side)]
            then = (position.size if position else 0) + sign * sum(lots for _, lots in mine)
            loss = sum(sign * (price - book.mark) * lots for price, lots in mine)
            margin = ceil_ppm(abs(then) * book.mark * rules.tick_value, rules.initial_margin_ppm)
            needs.append(margin + max(loss, 0) * rules.tick_value)
        return max(needs)

    def equity(self, owner: Account) -> int:
        return owner.balance + sum(
            p.size * self.books[p.number].mark * self.books[p.number].rules.tick_value - p.entry
            for p in owner.positions
        )

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

    def opposite(self, order: Order) -> list[int]:
        """Prices that the order could trade at, best first."""
        prices = self.books[order.number].prices(1 - order.side)
        return [p for p in prices if (p <= order.price if order.side == BUY else p >= order.price)]

    def could_fill(self, order: Order) -> bool:
        needed, met = order.lots, 0
        for price in self.opposite(order):
            for maker in self.books[order.number].queues[price]:
                met += 1
                if met > FILLS_PER_COMMAND_MAX:
                    return False
                if maker.account == order.account:
                    if order.flags & STP_CANCEL_TAKER:
                        return False
                elif not maker.flags & REDUCE_ONLY:
                    needed -= maker.lots
                    if needed <= 0:
                        return True
        return False

    def match(self, order: Order, position: Position, flags: int, makers_max: int) -> tuple[int, int]:
        """(why it stopped short or 0, makers met)."""
        met = 0
        while order.lots and self.opposite(order):
            if met == makers_max:
                return int(EventReason.FILL_LIMIT), met
            met += 1
            maker = self.books[order.number].queues[self.opposite(order)[0]][0]
            if maker.account == order.account:
                if order.flags & STP_CANCEL_TAKER:
                    return int(EventReason.SELF_TRADE), met
                self.cancel_resting(maker, EventReason.SELF_TRADE, flags)
                continue
            held = self.accounts[maker.account].position(order.number)
            assert held is not None
            most = maker.lots
            if maker.flags & REDUCE_ONLY:
                most = min(most, max(-held.size if maker.side == BUY else held.size, 0))
            if most:
                lots = min(order.lots, most)
                self.trade(order, position, maker, held, lots, flags)
                order.lots -= lots
                maker.lots -= lots
                if maker.lots == 0:
                    self.drop(maker)
                    continue
                if lots < most or not maker.flags & REDUCE_ONLY:
                    continue
            self.cancel_resting(maker, EventReason.REDUCE_ONLY, flags)
        return 0, met

    def trade(self, order: Order, mine: Position, maker: Order, its: Position, lots: int, flags: int) -> None:
        rules = self.books[order.number].rules
        notional = lots * maker.price * rules.tick_value
        taker_fee, maker_fee = ceil_ppm(notional, rules.taker_fee_ppm), ceil_ppm(notional, rules.maker_fee_ppm)
        self.emit(
            EventKind.FILL, 0, flags, order.account, other_account=maker.account, instrument=order.number,
            side=order.side, price=maker.price, size=lots, order_id=order.id, other_order_id=maker.id,
            client_id=maker.client_id, fee=taker_fee,
        )  # fmt: skip
        signed = lots if order.side == BUY else -lots
        self.fill(order.account, mine, signed, maker.price * rules.tick_value)
        self.fill(maker.account, its, -signed, maker.price * rules.tick_value)
        self.accounts[order.account].balance -= taker_fee
        self.accounts[maker.account].balance -= maker_fee
        self.accounts[self.genesis.fee_account].balance += taker_fee + maker_fee
        self.fills += 1

    def fill(self, account: int, position: Position, lots: int, per_lot: int) -> None:
        """Close what is opposite first, at the closed share of the entry; open the rest."""
        sign = 1 if position.size > 0 else -1
        closing = min(abs(lots), abs(position.size)) if lots * position.size < 0 else 0
        if closing:
            share = sign * (abs(position.entry) * closing // abs(position.size))
            self.accounts[account].balance += sign * closing * per_lot - share
            position.entry -= share
            position.size -= sign * closing
        rest = lots + sign * closing
        position.entry += rest * per_lot
        position.size += rest

    def drop(self, order: Order) -> None:
        queue = self.books[order.number].queues[order.price]
        queue.remove(order)
        if not queue:
            del self.books[order.number].queues[order.price]
        self.accounts[order.account].orders.remove(order)
        self.free.append(order.slot)

    def cancel_resting(self, order: Order, reason: int, flags: int) -> None:
        self.emit(
            EventKind.CANCELLED, reason, flags, order.account, instrument=order.number, side=order.side,
            price=order.price, size=order.lots, order_id=order.id, client_id=order.client_id,
        )  # fmt: skip
        self.drop(order)

    # -- cancels and money ---------------------------------------------------------------------------

    def only(self, c: Command, *used: str) -> None:
        for name in COMMAND.names or ():
            if name != "kind" and name not in used and getattr(c, name):
                raise Rejected(EventReason.MALFORMED)

    def cancel(self, account: int, c: Command) -> None:
        self.only(c, "target")
        self.cancel_resting(self.owned(account, c.target), 0, OUTCOME)

    def cancel_client(self, account: int, c: Command) -> None:
        self.only(c, "client_id")
        self.refuse_if(c.client_id == 0, EventReason.MALFORMED)
        for order in self.accounts[account].orders:
            if order.client_id == c.client_id:
                self.cancel_resting(order, 0, OUTCOME)
                return
        raise Rejected(EventReason.UNKNOWN_ORDER)

    def cancel_all(self, account: int, c: Command) -> None:
        self.only(c, "instrument")
        known = c.instrument == ALL_INSTRUMENTS or c.instrument < len(self.books)
        self.refuse_if(not known, EventReason.UNKNOWN_INSTRUMENT)
        mine = [o for o in self.accounts[account].orders if c.instrument in (ALL_INSTRUMENTS, o.number)]
        for order in mine:
            self.cancel_resting(order, EventReason.CANCEL_ALL, 0)
        self.emit(EventKind.ACCEPTED, 0, OUTCOME, account, instrument=c.instrument, size=len(mine))

    def check_amount(self, account: int, c: Command, bridge_only: bool) -> None:
        self.only(c, "size", "target")
        wrong = bridge_only and account != self.genesis.bridge_account
        self.refuse_if(wrong, EventReason.NOT_PERMITTED)
        self.refuse_if(c.target >= len(self.accounts), EventReason.UNKNOWN_ACCOUNT)
        self.refuse_if(not 1 <= c.size <= AMOUNT_MAX, EventReason.BAD_AMOUNT)

    def check_free(self, account: int, amount: int) -> None:
        owner = self.accounts[account]
        self.refuse_if(any(p.size and self.books[p.number].stale for p in owner.positions), EventReason.STALE_PRICE)
        resting = [(o.number, o.side, o.price, o.lots) for o in owner.orders if not o.flags & REDUCE_ONLY]
        needed = sum(self.initial_margin(owner, n, resting) for n in range(len(self.books)))
        free = max(min(self.equity(owner) - needed, owner.balance), 0)
        self.refuse_if(free < amount, EventReason.INSUFFICIENT_COLLATERAL)

    def accept(self, account: int, c: Command) -> None:
        self.emit(EventKind.ACCEPTED, 0, OUTCOME, account, other_account=c.target, size=c.size)

    def transfer(self, account: int, c: Command) -> None:
        self.check_amount(account, c, False)
        receiver = self.accounts[c.target]
        self.refuse_if(receiver.balance + c.size > BALANCE_MAX, EventReason.BALANCE_LIMIT)
        self.check_free(account, c.size)
        self.accounts[account].balance -= c.size
        receiver.balance += c.size
        self.accept(account, c)

    def deposit(self, account: int, c: Command) -> None:
        self.check_amount(account, c, True)
        receiver = self.accounts[c.target]
        over = max(receiver.balance, self.deposited) + c.size > BALANCE_MAX
        self.refuse_if(over, EventReason.BALANCE_LIMIT)
        receiver.balance += c.size
        self.deposited += c.size
        self.accept(account, c)

    def withdraw(self, account: int, c: Command) -> None:
        self.check_amount(account, c, True)
        self.check_free(c.target, c.size)
        self.accounts[c.target].balance -= c.size
        self.deposited -= c.size
        self.accept(account, c)

    def open_account(self, account: int, c: Command) -> None:
        self.only(c, "price", "size", "client_id", "target")
        self.refuse_if(account != self.genesis.bridge_account, EventReason.NOT_PERMITTED)
        self.refuse_if(len(self.accounts) >= self.limits.accounts_max, EventReason.ACCOUNTS_FULL)
        self.accounts.append(Account(0))
        self.emit(EventKind.ACCEPTED, 0, OUTCOME, account, other_account=len(self.accounts) - 1)

    # -- liquidation ---------------------------------------------------------------------------------

    def maintenance(self, owner: Account) -> int:
        return sum(
            ceil_ppm(
                abs(p.size) * self.books[p.number].mark * self.books[p.number].rules.tick_value,
                self.books[p.number].rules.maintenance_margin_ppm,
            )
            for p in owner.positions
        )

    def unhealthy(self, owner: Account) -> bool:
        if not owner.positions:
            return owner.balance < 0 or owner.shortfall
        if any(p.size and self.books[p.number].stale for p in owner.positions):
            return False
        return self.equity(owner) < self.maintenance(owner)

    def check_accounts(self) -> None:
        checked = liquidated = 0
        while self.to_check and checked < 1024:
            account = self.cursor if self.cursor < len(self.accounts) else 0
            unhealthy = self.unhealthy(self.accounts[account])
            if unhealthy and liquidated == 16:
                return
            self.cursor, self.to_check, checked = account + 1, self.to_check - 1, checked + 1
            if unhealthy:
                liquidated += 1
                self.liquidate(account)
                self.tidy()

    def liquidate(self, account: int) -> None:
        owner, makers = self.accounts[account], FILLS_PER_COMMAND_MAX
        for order in list(owner.orders):
            self.cancel_resting(order, EventReason.LIQUIDATION, LIQUIDATION)
        self.tidy()
        while makers and self.equity(owner) < self.maintenance(owner):
            closable = [p for p in owner.positions if self.opposite(self.closing(account, p))]
            if not closable:
                break
            order = self.closing(account, closable[0])
            makers -= self.match(order, closable[0], LIQUIDATION, makers)[1]
            self.tidy()
        if not owner.positions:
            self.cover(account)
        if not owner.shortfall and self.unhealthy(owner):
            self.to_check = len(self.accounts)

    def closing(self, account: int, position: Position) -> Order:
        lowest, highest = self.books[position.number].band()
        side, price = (1, lowest) if position.size > 0 else (0, highest)
        return Order(0, 0, 0, account, position.number, side, 0, price, abs(position.size))

    def cover(self, account: int) -> None:
        owner, insurance = self.accounts[account], self.genesis.insurance_account
        paid = 0
        if account != insurance:
            paid = max(min(-owner.balance, self.accounts[insurance].balance), 0)
        owner.balance += paid
        self.accounts[insurance].balance -= paid
        short = owner.balance < 0
        if paid or (short and not owner.shortfall):
            self.emit(
                EventKind.DEFICIT, 0, LIQUIDATION, account, other_account=insurance, size=paid,
                fee=max(-owner.balance, 0),
            )  # fmt: skip
        owner.shortfall = short
