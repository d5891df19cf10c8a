"""The venue's rules as short scripts: one call an order, records as lines of text."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lockstep.venue import schema
from lockstep.venue.event import EventFlag, EventKind, EventReason
from lockstep.wire.command import Flag, Kind
from lockstep.wire.genesis import Genesis, Instrument
from lockstep.wire.observation import OBSERVATION
from tests.support import venue_market as market
from tests.support.venue_market import BALANCE, BUY, GTC, SELL, Market

POST_ONLY, REDUCE_ONLY, CANCEL_TAKER = int(Flag.POST_ONLY), int(Flag.REDUCE_ONLY), int(Flag.STP_CANCEL_TAKER)
_NAMES = {0: "BRIDGE", 1: "FEES", 2: "INSURANCE", 3: "ALICE", 4: "BOB", 5: "CAROL"}


class Desk(Market):
    """Two instruments, six accounts, mark 1000. Each call is a block with one command, and gives its records.

    In the first instrument a lot at the mark is worth 100,000 micro-USD, initial margin is 10%, maintenance 5%, the
    band 800 to 1200, the position limit 10,000 lots.
    """

    def buy(self, account: int, price: int, size: int, tif: int = GTC, flags: int = 0, **fields: int) -> np.ndarray:
        """PLACE a buy order."""
        return self.do(account, market.place(BUY, price, size, tif, flags, **fields))

    def sell(self, account: int, price: int, size: int, tif: int = GTC, flags: int = 0, **fields: int) -> np.ndarray:
        """PLACE a sell order."""
        return self.do(account, market.place(SELL, price, size, tif, flags, **fields))

    def cancel(self, account: int, order_id: int) -> np.ndarray:
        """CANCEL."""
        return self.do(account, market.cancel(order_id))

    def cancel_client(self, account: int, client_id: int) -> np.ndarray:
        """CANCEL_CLIENT."""
        return self.do(account, market.command(Kind.CANCEL_CLIENT, client_id=client_id))

    def cancel_all(self, account: int, *instrument: int) -> np.ndarray:
        """CANCEL_ALL, of one instrument or of all."""
        return self.do(account, market.cancel_all(*instrument))

    def replace(self, account: int, order_id: int, price: int, size: int, **options: int) -> np.ndarray:
        """REPLACE."""
        return self.do(account, market.replace(order_id, price, size, **options))

    def move(self, kind: Kind, account: int, amount: int, target: int) -> np.ndarray:
        """TRANSFER, DEPOSIT or WITHDRAW."""
        return self.do(account, market.command(kind, size=amount, target=target))

    def trade(self, buyer: int, seller: int, price: int, size: int, instrument: int = 0) -> None:
        """The buyer's order rests, the seller's meets it in full."""
        self.buy(buyer, price, size, instrument=instrument)
        taken = self.sell(seller, price, size, instrument=instrument)
        assert lines(taken)[-1] == f"{_name(seller)} FILLED {size}@{price}"

    def tick(self, *prices: int) -> np.ndarray:
        """An empty block, at new prices if any are given; its records."""
        self.prices = list(prices) or self.prices
        return self.block().events

    def hush(self, blocks: int = 4) -> None:
        """Blocks in which no validator says anything: after four, every price is too old (3000 ms)."""
        for _ in range(blocks):
            self.quietly()

    def quietly(self, *bundles: market.Bundle) -> np.ndarray:
        """A block without observations; its records."""
        return self.block(*bundles, observations=np.zeros(0, OBSERVATION)).events

    def account(self, number: int) -> Any:
        """Its row."""
        return self.venue.rows(schema.ACCOUNTS)[number]

    def queue(self, price: int, instrument: int = 0) -> list[tuple[str, int]]:
        """(account, lots) of the orders at a price, the first in line first."""
        orders, links = self.venue.rows(schema.ORDERS), self.venue.rows(schema.ORDER_LINKS)
        positions = self.venue.rows(schema.POSITIONS)
        level = self.venue.rows(schema.LEVELS)[int(self.instrument(instrument)["levels_first"]) + price]
        slot, found = int(level["first"]), []
        while slot:
            owner = int(positions[int(orders[slot]["position"])]["account"])
            found.append((_name(owner), int(orders[slot]["remaining"])))
            slot = int(links[slot]["level_next"])
        return found

    def top(self, instrument: int = 0) -> tuple[int, int]:
        """(best bid, best ask); 0 where there is none."""
        row = self.instrument(instrument)
        return int(row["best_bid"]), int(row["best_ask"])


def desk(
    balances: Sequence[int] = (BALANCE,) * 6,
    instruments: Sequence[Instrument] | None = None,
    stakes: Sequence[int] = (10, 10, 10, 10),
    prices: Sequence[int] | None = None,
    **changes: int,
) -> Desk:
    """A desk; `changes` are of the first instrument, or of the chain's parameters."""
    parameters = {
        name: changes.pop(name) for name in ("orders_max", "positions_max", "accounts_max") if name in changes
    }
    listed = instruments or (market.instrument(**changes), market.instrument(tick_value=7))
    genesis: Genesis = market.small_genesis(listed, balances, stakes, **parameters)
    return Desk(genesis, prices)


def order_id(events: np.ndarray) -> int:
    """The id of the order that the command left resting."""
    assert events[-1]["kind"] == EventKind.RESTED, lines(events)
    return int(events[-1]["order_id"])


def reasons(events: np.ndarray) -> set[EventReason]:
    """Every reason among the records."""
    return {EventReason(int(reason)) for reason in events["reason"]} - {EventReason.NONE}


def refusal(events: np.ndarray) -> str:
    """The name of the last command's reason when it was rejected, "" when it was not."""
    last = events[events["flags"] & EventFlag.OUTCOME != 0][-1]
    return EventReason(int(last["reason"])).name if last["kind"] == EventKind.REJECTED else ""


def lines(events: np.ndarray) -> list[str]:
    """Records as text: `ALICE TAKES 5@1000 FROM BOB`, `ALICE CANCELLED 5@1000 CANCEL_ALL`."""
    return [_line(event) for event in events]


def _line(event: np.void) -> str:
    who, kind = _name(int(event["account"])), EventKind(int(event["kind"]))
    if kind == EventKind.FILL:
        text = f"TAKES {event['size']}@{event['price']} FROM {_name(int(event['other_account']))}"
    elif kind == EventKind.DEFICIT:
        text = f"DEFICIT {event['size']} PAID {event['fee']} LEFT"
    elif kind == EventKind.ACCEPTED:
        text = f"ACCEPTED {event['size']}"
    elif kind == EventKind.REJECTED:
        text = "REJECTED"
    else:
        text = f"{kind.name} {event['size']}@{event['price']}"
    reason = EventReason(int(event["reason"]))
    return f"{who} {text}" if reason == EventReason.NONE else f"{who} {text} {reason.name}"


def _name(account: int) -> str:
    return _NAMES.get(account, str(account))
