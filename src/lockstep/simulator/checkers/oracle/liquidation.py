"""Liquidation: accounts below their maintenance margin are closed, insurance covers what is left."""

from lockstep.base.limits import FILLS_PER_COMMAND_MAX
from lockstep.simulator.checkers.oracle.money import Money
from lockstep.simulator.checkers.oracle.state import LIQUIDATION, Order, Position
from lockstep.venue.event import EventKind, EventReason


class Liquidation(Money):
    """The check of accounts after each block."""

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
