"""A slow engine in plain Python: the rules once more, with dictionaries, lists and exact integers.

It shares no code with the kernels, only the names of kinds and reasons. It keeps no running totals: open lots, margins
and best prices are worked out from the orders and positions whenever they are needed.
"""

import numpy as np

from lockstep.simulator.checkers.oracle.liquidation import Liquidation
from lockstep.simulator.checkers.oracle.state import OUTCOME, Command, Rejected
from lockstep.venue.event import EVENT, SYSTEM, EventKind, EventReason
from lockstep.wire.command import COMMAND, Kind


class Oracle(Liquidation):
    """The venue's rules. `block` returns EVENT rows."""

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
