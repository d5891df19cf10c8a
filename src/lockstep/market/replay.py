"""Recorded messages become commands, in an order that the venue can't upset.

| recorded | command |
|---|---|
| new | PLACE, good till cancelled, client id = the recorded order id |
| amend | REPLACE to the recorded price and remaining size (keeps its priority when it only shrinks) |
| delete | CANCEL_CLIENT |
| execution of a visible order | PLACE, immediate or cancel, at that order's price, by a taker account |

Bids, asks and takers are three accounts, so that nobody trades with itself. Bundles of one account keep their order;
those of different accounts don't. So a command waits until everything sent before it is final if that is on the
other side at a price that it would meet, of another account; and an amendment waits to hear its order's id.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lockstep.base.limits import BUNDLE_COMMANDS_MAX
from lockstep.market.ladder import Ladder
from lockstep.market.recording import BookRow, Message, Recording, What
from lockstep.market.script import Rows
from lockstep.venue.event import EVENT, EventKind
from lockstep.wire.command import COMMAND, Kind, Side, TimeInForce

_HIGHEST: Final = 1 << 62
_ALL_LEVELS: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Accounts:
    """Who sends what."""

    bids: int
    asks: int
    taker: int


@dataclass(frozen=True, slots=True)
class _Step:
    """A command to send. It acts on bids from `price` up, on asks from `price` down, or (a taker's) on both: what it
    takes, nobody on its own side can take any more."""

    account: int
    bids: bool
    asks: bool
    price: int
    row: Any


@dataclass(slots=True)
class _Reach:
    """The prices that an account's unsettled commands act on."""

    buy_up_to: int = 0
    sell_down_to: int = _HIGHEST

    def extend(self, step: _Step) -> None:
        if step.bids:
            self.buy_up_to = max(self.buy_up_to, step.price)
        if step.asks:
            self.sell_down_to = min(self.sell_down_to, step.price)

    def meets(self, step: _Step) -> bool:
        return (step.bids and self.sell_down_to <= step.price) or (step.asks and self.buy_up_to >= step.price)


@dataclass(frozen=True, slots=True)
class Bundle:
    """Commands of one account, to be sent as one bundle."""

    number: int
    account: int
    commands: Rows


class Replay:
    """A recording on its way into a venue. Ask `take` for bundles; tell `settled` what became of each."""

    def __init__(self, recording: Recording, accounts: Accounts) -> None:
        self.recording = recording
        self._accounts = accounts
        self._messages = [*recording.seeds, *recording.messages]
        self._cursor = 0
        self._ids: dict[int, int] = {}
        """Recorded order → the venue's order id, for orders that rest."""
        self._placing: dict[int, int] = {}
        """Recorded order → number of the unsettled bundle that places it."""
        self._unsettled: dict[int, tuple[int, _Reach]] = {}
        self._numbers = 0
        self._prices: dict[int, int] = {}
        """Recorded order → the price at which it was last sent."""
        self.ladder = Ladder()
        self.waits = 0
        """How often a command had to wait for earlier ones to be final."""
        self.skipped: Counter[str] = Counter(recording.skipped())

    @property
    def is_done(self) -> bool:
        """Whether every message was sent and everything sent is settled."""
        return self._cursor == len(self._messages) and not self._unsettled

    @property
    def position(self) -> int:
        """Recorded rows that were sent, seeds not counted."""
        return max(0, self._cursor - len(self.recording.seeds))

    @property
    def mid(self) -> int:
        """The recorded mid at this point, in ticks; 0 until there is one."""
        return self.recording.mids[max(self.position - 1, 0)] if self.recording.mids else 0

    def take(self, until_us: int, bundle_commands: int = BUNDLE_COMMANDS_MAX) -> list[Bundle]:
        """Bundles that may be sent now, of messages recorded up to `until_us`."""
        ready: list[Bundle] = []
        building: dict[int, tuple[list[Any], _Reach, int]] = {}
        while self._cursor < len(self._messages) and self._messages[self._cursor].time_us <= until_us:
            message = self._messages[self._cursor]
            if message.what is What.AMEND and self._must_hear_of(message.order):
                break
            step = self._step(message)
            if step is not None:
                if self._must_wait(step):
                    self.waits += 1
                    break
                self._add(step, message, building)
                if len(building[step.account][0]) >= bundle_commands:
                    ready.append(self._finish(step.account, building))
            self._cursor += 1
        ready.extend(self._finish(account, building) for account in list(building))
        return sorted(ready, key=lambda bundle: bundle.number)

    def _must_hear_of(self, order: int) -> bool:
        if order in self._placing:
            self.waits += 1
            return True
        return False

    def _must_wait(self, step: _Step) -> bool:
        return any(account != step.account and reach.meets(step) for account, reach in self._unsettled.values())

    def _add(self, step: _Step, message: Message, building: dict[int, tuple[list[Any], _Reach, int]]) -> None:
        if step.account not in building:
            self._numbers += 1
            reach = _Reach()
            building[step.account] = ([], reach, self._numbers)
            self._unsettled[self._numbers] = (step.account, reach)
        rows, reach, number = building[step.account]
        rows.append(step.row)
        reach.extend(step)
        if message.what is What.NEW:
            self._placing[message.order] = number
        if message.what in (What.NEW, What.AMEND):
            self._prices[message.order] = message.price
        elif message.what is What.DELETE:
            self._prices.pop(message.order, None)

    def _finish(self, account: int, building: dict[int, tuple[list[Any], _Reach, int]]) -> Bundle:
        rows, _, number = building.pop(account)
        return Bundle(number, account, np.array(rows, dtype=COMMAND))

    def _step(self, message: Message) -> _Step | None:
        owner = self._accounts.bids if message.buy else self._accounts.asks
        row = np.zeros((), COMMAND)
        match message.what:
            case What.NEW:
                row["kind"], row["tif"], row["client_id"] = Kind.PLACE, TimeInForce.GTC, message.order
                row["side"] = Side.BUY if message.buy else Side.SELL
                row["price"], row["size"] = message.price, message.size
            case What.DELETE:
                row["kind"], row["client_id"] = Kind.CANCEL_CLIENT, message.order
            case What.AMEND:
                target = self._ids.get(message.order)
                if target is None:
                    self.skipped["amendment of an order that the venue had traded in full already"] += 1
                    return None
                row["kind"], row["tif"], row["target"] = Kind.REPLACE, TimeInForce.GTC, target
                row["price"], row["size"] = message.price, message.size
                furthest = (max if message.buy else min)(message.price, self._prices[message.order])
                return _Step(owner, message.buy, not message.buy, furthest, row)
            case What.EXECUTE:
                row["kind"], row["tif"] = Kind.PLACE, TimeInForce.IOC
                row["side"] = Side.SELL if message.buy else Side.BUY
                row["price"], row["size"] = message.price, message.size
                return _Step(self._accounts.taker, True, True, message.price, row)
            case What.SKIP:
                return None
        return _Step(owner, message.buy, not message.buy, message.price, row)

    def settled(self, number: int, outcomes: bytes) -> None:
        """A bundle is final, with these EVENT rows. Call it in the order of the blocks."""
        del self._unsettled[number]
        self._placing = {order: where for order, where in self._placing.items() if where != number}
        self.ladder.apply(outcomes)
        for row in np.frombuffer(outcomes, EVENT):
            order = int(row["client_id"])
            if row["kind"] == EventKind.RESTED:
                self._ids[order] = int(row["order_id"])
            elif row["kind"] in (EventKind.FILLED, EventKind.CANCELLED):
                self._ids.pop(order, None)

    def summary(self) -> dict[str, Any]:
        """What was mapped and what was skipped and why, as a JSON object."""
        executions = sum(m.what is What.EXECUTE for m in self.recording.messages)
        summary: dict[str, Any] = {
            "rows": len(self.recording.messages),
            "rows_replayed": self.position,
            "seeded_orders": len(self.recording.seeds),
            "mapped": {kind: n for kind, n in self.recording.mapped().items() if kind != What.SKIP},
            "skipped": dict(sorted(self.skipped.items())),
            "remarks": dict(self.recording.remarks),
            "waits": self.waits,
            "outcomes": dict(sorted(self.ladder.outcomes.items())),
            "fills": self.ladder.fills,
            "recorded_executions": executions,
        }
        if self.recording.books and self.position:
            summary["book"] = compare(self.ladder, self.recording.books[self.position - 1])
        return summary


def compare(ladder: Ladder, recorded: BookRow) -> dict[str, Any]:
    """How many levels of the rebuilt book equal the recorded ones, from the best price on, price and size."""
    sides = {}
    for name, buy, levels in (("bids", True, recorded.bids), ("asks", False, recorded.asks)):
        ours = ladder.levels(buy, _ALL_LEVELS)
        equal = 0
        while equal < min(len(ours), len(levels)) and ours[equal] == levels[equal]:
            equal += 1
        sides[name] = {"levels": len(levels), "equal_from_the_top": equal, "equal": len(set(ours) & set(levels))}
    return sides
