"""The scripts of makers, takers, noise and gamblers. All sizes and offsets come from a seeded generator.

Client ids are chosen here, so a resting order can be cancelled without waiting to hear its order id. An account
never has two live orders with one client id: each place of an id is preceded by its cancel.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from lockstep.market.listings import Listing
from lockstep.market.script import Rows, Script
from lockstep.wire.command import ALL_INSTRUMENTS, COMMAND, Flag, Kind, Side, TimeInForce

_ROUNDS: Final = 2
"""Times that a maker's cycle goes over its slots before it repeats itself."""
_TAKER_CYCLE: Final = 4_096
_NOISE_CYCLE: Final = 1_024
_NOISE_RING: Final = 40
_BASIS_POINT: Final = 10_000
_FIELDS: Final = (COMMAND.names or ())[1:]


@dataclass(frozen=True, slots=True)
class Stage:
    """What all agents know: the listings, and the accounts that transfers go to."""

    listings: tuple[Listing, ...]
    poor_accounts: tuple[int, ...]

    def opening_prices(self) -> Rows:
        """(instruments,) int64, ticks."""
        return np.array([listing.opening_price for listing in self.listings], dtype=np.int64)

    def typical_lots(self) -> Rows:
        """(instruments,) int64."""
        return np.array([listing.typical_lots for listing in self.listings], dtype=np.int64)


def empty(count: int) -> Rows:
    """(count,) COMMAND rows, all zero."""
    return np.zeros(count, dtype=COMMAND)


def maker(stage: Stage, random: np.random.Generator, slots: int) -> Script:
    """Quotes `slots` orders around the index: both sides of every instrument, level by level; then replaces them
    one after the other, for ever."""
    n = len(stage.listings)
    slot = np.arange(slots)
    instrument = slot % n
    side = (slot // n) % 2
    level = slot // (2 * n)
    tick = np.maximum(stage.opening_prices() // (5 * _BASIS_POINT), 1)[instrument]

    def places() -> Rows:
        rows = empty(slots)
        rows["kind"] = Kind.PLACE
        rows["instrument"] = instrument
        rows["side"] = side
        distance = tick * (2 + level) + random.integers(0, 3, slots)
        rows["price"] = np.where(side == Side.BUY, -distance, distance)
        rows["size"] = random.integers(1, 2 * stage.typical_lots()[instrument], slots)
        rows["client_id"] = slot + 1
        return rows

    cancels = empty(slots)
    cancels["kind"] = Kind.CANCEL_CLIENT
    cancels["client_id"] = slot + 1
    cycle = empty(2 * slots * _ROUNDS)
    for number in range(_ROUNDS):
        part = cycle[2 * slots * number : 2 * slots * (number + 1)]
        part[0::2] = cancels
        part[1::2] = places()
    return Script(places(), cycle, n)


def taker(stage: Stage, random: np.random.Generator, lots_scale: int = 1) -> Script:
    """Takes what is offered near the index, on either side; one command in eight only reduces a position."""
    n = len(stage.listings)
    rows = empty(_TAKER_CYCLE)
    rows["kind"] = Kind.PLACE
    rows["tif"] = TimeInForce.IOC
    rows["instrument"] = random.integers(0, n, _TAKER_CYCLE)
    rows["side"] = random.integers(0, 2, _TAKER_CYCLE)
    reach = np.maximum(stage.opening_prices() * 15 // _BASIS_POINT, 4)[rows["instrument"]]
    rows["price"] = np.where(rows["side"] == Side.BUY, reach, -reach)
    rows["size"] = random.integers(1, stage.typical_lots()[rows["instrument"]] * lots_scale, _TAKER_CYCLE)
    rows["flags"][random.random(_TAKER_CYCLE) < 0.125] = Flag.REDUCE_ONLY
    return Script(empty(0), rows, n)


def gambler(stage: Stage, random: np.random.Generator) -> Script:
    """Buys and sells far more than its collateral can bear for long."""
    return taker(stage, random, lots_scale=8)


class _Noise:
    """Writes a noise trader's cycle command by command, keeping track of which client ids rest."""

    def __init__(self, stage: Stage, random: np.random.Generator) -> None:
        self.stage = stage
        self.random = random
        self.rows: list[tuple[int, ...]] = []
        self.live: dict[int, int] = {}
        self.next_id = 0

    def add(self, kind: int, **fields: int) -> None:
        self.rows.append((kind, *(fields.get(name, 0) for name in _FIELDS)))

    def place(self, basis_points: float, tif: int, flags: int = 0, client_id: int = 0) -> int:
        """An order that far from the index: on its own side if positive, through the book if negative."""
        instrument = int(self.random.integers(len(self.stage.listings)))
        listing = self.stage.listings[instrument]
        side = int(self.random.integers(2))
        distance = round(listing.opening_price * basis_points / _BASIS_POINT)
        self.add(
            Kind.PLACE,
            instrument=instrument,
            side=side,
            tif=tif,
            flags=flags,
            price=-distance if side == Side.BUY else distance,
            size=int(self.random.integers(1, listing.typical_lots)),
            client_id=client_id,
        )
        return instrument

    def rest(self, basis_points: float, flags: int = 0) -> None:
        """Cancel the next client id of the ring if it rests; otherwise place it."""
        self.next_id = self.next_id % _NOISE_RING + 1
        if self.live.pop(self.next_id, None) is not None:
            self.add(Kind.CANCEL_CLIENT, client_id=self.next_id)
        else:
            self.live[self.next_id] = self.place(basis_points, TimeInForce.GTC, flags, self.next_id)

    def cancel_all(self, instrument: int) -> None:
        self.add(Kind.CANCEL_ALL, instrument=instrument)
        self.live = {
            client_id: where for client_id, where in self.live.items() if instrument not in (where, ALL_INSTRUMENTS)
        }

    def one(self) -> None:
        """One command of any kind."""
        draw = self.random.random()
        if draw < 0.50:
            self.rest(self.random.uniform(50, 400))
        elif draw < 0.62:
            self.rest(self.random.uniform(0.2, 20), Flag.POST_ONLY)
        elif draw < 0.72:
            self.place(-self.random.uniform(0, 20), TimeInForce.FOK)
        elif draw < 0.82:
            self.place(-self.random.uniform(0, 20), TimeInForce.IOC, Flag.REDUCE_ONLY)
        elif draw < 0.88:
            self.add(
                Kind.TRANSFER,
                size=int(self.random.integers(1, 20_000_000)),
                target=int(self.random.choice(self.stage.poor_accounts)),
            )
        elif draw < 0.90:
            self.cancel_all(int(self.random.integers(len(self.stage.listings))))
        else:
            self.bad(draw)

    def bad(self, draw: float) -> None:
        """A command that the engine must reject: off the band, malformed, or naming what doesn't exist."""
        if draw < 0.92:
            self.place(3_000, TimeInForce.GTC)
        elif draw < 0.94:
            self.add(Kind.CANCEL_CLIENT, client_id=1_000_000, price=7)
        elif draw < 0.96:
            self.add(Kind.PLACE, instrument=len(self.stage.listings) + 1, price=5, size=1)
        elif draw < 0.98:
            self.add(Kind.CANCEL, target=(1 << 63) | 12_345)
        else:
            self.add(77, size=1)


def noise(stage: Stage, random: np.random.Generator) -> Script:
    """Far orders, post-only, fill-or-kill, reduce-only, transfers, mass cancels, and commands that make no sense."""
    writer = _Noise(stage, random)
    while len(writer.rows) < _NOISE_CYCLE - 1:
        writer.one()
    writer.cancel_all(ALL_INSTRUMENTS)  # the cycle ends as it began: with nothing resting
    return Script(empty(0), np.array(writer.rows, dtype=COMMAND), len(stage.listings))
