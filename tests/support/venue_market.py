"""A small venue to test with: short ways to say a command, a bundle, a block and a price."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lockstep.venue.event import EventFlag
from lockstep.venue.schema import ACCOUNTS, BUNDLE_SPAN, INSTRUMENTS, POSITIONS, VENUE
from lockstep.venue.venue import Execution, Venue
from lockstep.wire.command import ALL_INSTRUMENTS, COMMAND, Kind, Side, TimeInForce
from lockstep.wire.genesis import Account, Genesis, Instrument, Parameters, Validator, check_genesis
from lockstep.wire.observation import OBSERVATION

BRIDGE, FEES, INSURANCE = 0, 1, 2
ALICE, BOB, CAROL = 3, 4, 5
BUY, SELL = int(Side.BUY), int(Side.SELL)
GTC, IOC, FOK = (int(tif) for tif in TimeInForce)
PRICE = 1000
BALANCE = 1_000_000_000

Command = tuple[int, ...]
"""The fields of a COMMAND row, in order."""
Bundle = tuple[int, list[Command]]
"""(account, commands)."""


def command(kind: int, **fields: int) -> Command:
    """Any command: fields that are not given are zero."""
    assert set(fields) < set(COMMAND.names or ())
    return tuple(int(kind) if name == "kind" else fields.get(name, 0) for name in COMMAND.names or ())


def place(side: int, price: int, size: int, tif: int = GTC, flags: int = 0, **fields: int) -> Command:
    """A PLACE."""
    return command(Kind.PLACE, side=side, price=price, size=size, tif=tif, flags=int(flags), **fields)


def replace(order_id: int, price: int, size: int, tif: int = GTC, flags: int = 0, client_id: int = 0) -> Command:
    """A REPLACE."""
    return command(
        Kind.REPLACE, target=order_id, price=price, size=size, tif=tif, flags=int(flags), client_id=client_id
    )


def cancel(order_id: int) -> Command:
    """A CANCEL."""
    return command(Kind.CANCEL, target=order_id)


def cancel_all(instrument: int = ALL_INSTRUMENTS) -> Command:
    """A CANCEL_ALL."""
    return command(Kind.CANCEL_ALL, instrument=instrument)


def instrument(**changes: int) -> Instrument:
    """A perpetual with round numbers."""
    fields: dict[str, int] = {
        "tick_value": 100,
        "price_ticks": 4096,
        "position_lots_max": 10_000,
        "maker_fee_ppm": -50,
        "taker_fee_ppm": 300,
        "initial_margin_ppm": 100_000,
        "maintenance_margin_ppm": 50_000,
        "price_band_ppm": 200_000,
    }
    return Instrument(symbol="TEST-PERP", **{**fields, **changes})


def small_genesis(
    instruments: Sequence[Instrument] = (instrument(), instrument(tick_value=7)),
    balances: Sequence[int] = (BALANCE,) * 6,
    stakes: Sequence[int] = (10, 10, 10, 10),
    **parameters: int,
) -> Genesis:
    """A genesis with the smallest tables."""
    sizes = {"accounts_max": 1024, "orders_max": 1024, "positions_max": 1024, **parameters}
    return Genesis(
        name="test",
        time_ms=0,
        validators=tuple(Validator(f"v{i}", bytes([i]) * 32, stake, b"", "", "") for i, stake in enumerate(stakes)),
        instruments=tuple(instruments),
        accounts=tuple(Account(i.to_bytes(32, "little"), balance) for i, balance in enumerate(balances)),
        bridge_account=BRIDGE,
        fee_account=FEES,
        insurance_account=INSURANCE,
        parameters=Parameters(**sizes),
    )


def rows_of(commands: Iterable[Command]) -> np.ndarray:
    """COMMAND rows."""
    return np.array(list(commands), COMMAND)


def spans_of(bundles: Sequence[Bundle], sequence: int) -> np.ndarray:
    """BUNDLE_SPAN rows, all with the same sequence number."""
    spans = np.zeros(len(bundles), BUNDLE_SPAN)
    spans["account"] = [account for account, _ in bundles]
    spans["count"] = [len(commands) for _, commands in bundles]
    spans["first"] = np.cumsum(spans["count"]) - spans["count"]
    spans["sequence"] = sequence
    return spans


class Market:
    """A venue, one block after the other, a second apart; prices are as `prices` says in every block."""

    def __init__(self, genesis: Genesis | None = None, prices: Sequence[int] | None = None) -> None:
        self.genesis = genesis or small_genesis()
        check_genesis(self.genesis)
        self.venue = Venue(self.genesis)
        self.height = 0
        self.prices = list(prices if prices is not None else [PRICE] * len(self.genesis.instruments))

    @property
    def time_ms(self) -> int:
        """Time of the newest block."""
        return 1000 * self.height

    def observations(self) -> np.ndarray:
        """Every validator says the same: `prices`, now."""
        rows = [
            (validator, number, price, self.time_ms)
            for validator in range(len(self.genesis.validators))
            for number, price in enumerate(self.prices)
        ]
        return np.array(rows, OBSERVATION)

    def block(self, *bundles: Bundle, observations: np.ndarray | None = None, commit: bool = True) -> Execution:
        """Execute a block, and make it final."""
        self.height += 1
        seen = self.observations() if observations is None else observations
        commands = rows_of(command for _, commands in bundles for command in commands)
        execution = self.venue.execute(self.height, self.time_ms, seen, spans_of(bundles, self.height), commands)
        if commit:
            self.venue.commit()
        return execution

    def do(self, account: int, *commands: Command) -> np.ndarray:
        """Execute a block with one bundle; its event records."""
        return self.block((account, list(commands))).events

    def outcome(self, account: int, one: Command) -> Any:
        """Execute a block with one command; its outcome record."""
        return outcomes(self.do(account, one))[0]

    def balance(self, account: int) -> int:
        """Micro-USD."""
        return int(self.venue.rows(ACCOUNTS)[account]["balance"])

    def position(self, account: int, number: int = 0) -> Any:
        """The account's row in `positions`, or None."""
        slot = int(self.venue.rows(ACCOUNTS)[account]["first_position"])
        positions = self.venue.rows(POSITIONS)
        while slot and positions[slot]["instrument"] != number:
            slot = int(positions[slot]["next"])
        return positions[slot] if slot else None

    def lots(self, account: int, number: int = 0) -> int:
        """Signed lots held."""
        position = self.position(account, number)
        return 0 if position is None else int(position["size"])

    def instrument(self, number: int = 0) -> Any:
        """Its row."""
        return self.venue.rows(INSTRUMENTS)[number]

    @property
    def row(self) -> Any:
        """The one row of `venue`."""
        return self.venue.rows(VENUE)[0]


def outcomes(events: np.ndarray) -> np.ndarray:
    """The records with the OUTCOME bit."""
    return events[(events["flags"] & EventFlag.OUTCOME) != 0]
