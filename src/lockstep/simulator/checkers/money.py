"""Money is conserved to the micro-unit, and positions net to zero: by the tables at the end, and by the events.

A second book-keeping runs beside the venue's: from the genesis balances and the event records alone (fills, fees,
transfers, deposits, withdrawals, insurance) it works out each account's cash and lots, where cash is the balance less
the cost of open positions. At the end it is compared with the tables, account by account.
"""

from collections import Counter

import numpy as np

from lockstep.simulator.checkers.chain import bodies, canonical, events_of
from lockstep.simulator.checkers.reading import COMMAND, Body
from lockstep.simulator.history import Final, History, NodeHistory, Violation
from lockstep.venue import schema
from lockstep.venue.event import SYSTEM, EventFlag, EventKind, fee_of
from lockstep.wire.command import Kind, Side
from lockstep.wire.genesis import Genesis

NAME = "money"


def check(history: History) -> list[Violation]:
    """Every honest node that is up at the end."""
    found: list[Violation] = []
    books = _Books(history.genesis)
    checked = {node.final_height_at_end: node for node in history.honest if node.is_up_at_end and node.tables_at_end}
    found += [violation for node in history.honest if node.tables_at_end for violation in _check_tables(node)]
    if 0 in checked:
        found += books.compare(checked[0])
    for final, block in bodies(history, canonical(history)):
        books.take(final, block)
        if final.height in checked:
            found += books.compare(checked[final.height])
    return found


def _rows(node: NodeHistory, table: int) -> "np.ndarray":
    return np.frombuffer(node.tables_at_end[table], schema.ROWS[table][1])


def _check_tables(node: NodeHistory) -> list[Violation]:
    """Sums over the tables alone."""
    problems = []
    balances = sum(int(balance) for balance in _rows(node, schema.ACCOUNTS)["balance"])
    positions = _rows(node, schema.POSITIONS)
    entries = sum(int(entry) for entry in positions["entry"])
    deposited = int(_rows(node, schema.VENUE)[0]["deposited"])
    if balances - entries != deposited:
        problems.append(f"balances {balances} less entries {entries} are not the {deposited} deposited")
    for number, row in enumerate(_rows(node, schema.INSTRUMENTS)):
        sizes = [int(p["size"]) for p in positions if p["instrument"] == number]
        if sum(sizes) or sum(size for size in sizes if size > 0) != int(row["open_interest"]):
            problems.append(
                f"instrument {number}: longs and shorts differ by {sum(sizes)} lots, open interest is "
                f"{row['open_interest']}"
            )
    return [Violation(NAME, f"validator {node.index}: {problem}") for problem in problems]


class _Books:
    """Cash by account and lots by (account, instrument), from events alone."""

    def __init__(self, genesis: Genesis) -> None:
        self._genesis = genesis
        self._cash = Counter({number: account.balance for number, account in enumerate(genesis.accounts)})
        self._lots: Counter[tuple[int, int]] = Counter()

    def take(self, final: Final, block: Body) -> None:
        """Book one block."""
        raw = b"".join(bundle.commands for bundle in block.bundles)
        commands = np.frombuffer(raw, COMMAND)
        for event in events_of(final):
            kind = int(event["kind"])
            if kind == EventKind.FILL:
                self._fill(event)
            elif kind == EventKind.DEFICIT:
                self._move(int(event["other_account"]), int(event["account"]), int(event["size"]))
            elif kind == EventKind.ACCEPTED and event["flags"] & EventFlag.OUTCOME and event["command"] != SYSTEM:
                self._accepted(int(commands[int(event["command"])]["kind"]), event)

    def _fill(self, event: "np.void") -> None:
        taker, maker, number = int(event["account"]), int(event["other_account"]), int(event["instrument"])
        rules = self._genesis.instruments[number]
        lots = int(event["size"]) if event["side"] == Side.BUY else -int(event["size"])
        notional = int(event["price"]) * int(event["size"]) * rules.tick_value
        signed = notional if lots > 0 else -notional
        self._lots[taker, number] += lots
        self._lots[maker, number] -= lots
        self._move(taker, maker, signed)
        self._move(taker, self._genesis.fee_account, int(event["fee"]))
        self._move(maker, self._genesis.fee_account, fee_of(notional, rules.maker_fee_ppm))

    def _accepted(self, kind: int, event: "np.void") -> None:
        sender, other, amount = int(event["account"]), int(event["other_account"]), int(event["size"])
        if kind == Kind.TRANSFER:
            self._move(sender, other, amount)
        elif kind == Kind.DEPOSIT:
            self._cash[other] += amount
        elif kind == Kind.WITHDRAW:
            self._cash[other] -= amount

    def _move(self, source: int, target: int, amount: int) -> None:
        self._cash[source] -= amount
        self._cash[target] += amount

    def compare(self, node: NodeHistory) -> list[Violation]:
        """What differs from a node's tables at the end."""
        cash = Counter({n: int(balance) for n, balance in enumerate(_rows(node, schema.ACCOUNTS)["balance"])})
        lots: Counter[tuple[int, int]] = Counter()
        for row in _rows(node, schema.POSITIONS):
            cash[int(row["account"])] -= int(row["entry"])
            lots[int(row["account"]), int(row["instrument"])] += int(row["size"])
        found = []
        for account in sorted(cash | self._cash):
            if cash[account] != self._cash[account]:
                text = f"account {account} has cash {cash[account]} by the tables, {self._cash[account]} by the events"
                found.append(Violation(NAME, f"validator {node.index}: {text}"))
        for place in sorted({**lots, **self._lots}):
            if lots[place] != self._lots[place]:
                text = f"account, instrument {place}: {lots[place]} lots by the tables, {self._lots[place]} by events"
                found.append(Violation(NAME, f"validator {node.index}: {text}"))
        return found
