"""Money in and out, and between accounts."""

from lockstep.base.limits import AMOUNT_MAX, BALANCE_MAX
from lockstep.simulator.checkers.oracle.cancels import Cancels
from lockstep.simulator.checkers.oracle.state import OUTCOME, REDUCE_ONLY, Account, Command
from lockstep.venue.event import EventKind, EventReason


class Money(Cancels):
    """Transfers, deposits, withdrawals, new accounts."""

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
