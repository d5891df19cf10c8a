"""Cancels: one order, one by its client id, or all of an account."""

from lockstep.simulator.checkers.oracle.orders import Orders
from lockstep.simulator.checkers.oracle.state import OUTCOME, Command, Rejected
from lockstep.venue.event import EventKind, EventReason
from lockstep.wire.command import ALL_INSTRUMENTS, COMMAND


class Cancels(Orders):
    """Cancelling."""

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
