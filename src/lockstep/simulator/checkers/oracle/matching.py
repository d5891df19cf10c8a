"""Matching: price, then time; fills, fees, self-trade and reduce-only."""

from lockstep.base.limits import FILLS_PER_COMMAND_MAX
from lockstep.simulator.checkers.oracle.risk import Risk
from lockstep.simulator.checkers.oracle.state import BUY, REDUCE_ONLY, STP_CANCEL_TAKER, Order, Position, ceil_ppm
from lockstep.venue.event import EventKind, EventReason


class Matching(Risk):
    """Trades."""

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
