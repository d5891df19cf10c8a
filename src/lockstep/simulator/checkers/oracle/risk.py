"""Risk: margins and equity, worked out from orders and positions whenever they are needed."""

from lockstep.simulator.checkers.oracle.prices import Prices
from lockstep.simulator.checkers.oracle.state import BUY, REDUCE_ONLY, Account, Order, ceil_ppm
from lockstep.venue.event import EventReason


class Risk(Prices):
    """Margin rules."""

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
