"""What clients do in the contract test, step by step, with the answer that each step must get."""

from dataclasses import dataclass

import numpy as np

from lockstep.base.digest import ZERO_DIGEST
from lockstep.simulator.venue_setup import PRICE, trader_key
from lockstep.wire.bundle import Bundle, seal_bundle
from lockstep.wire.client import Fate
from lockstep.wire.command import ALL_INSTRUMENTS, COMMAND, Kind, Side, TimeInForce
from lockstep.wire.genesis import Genesis

PRICES = (PRICE, PRICE + 10)
UNTIL = 8_000


@dataclass(frozen=True)
class Answer:
    """A refusal's reason, or a fate without its height."""

    reason: str
    status: str
    outcomes: bytes

    @staticmethod
    def of(reason: str, fate: Fate | None) -> "Answer":
        if fate is None or reason:
            return Answer(reason, "", b"")
        return Answer("", fate.status, fate.outcomes)


@dataclass(frozen=True)
class Step:
    """Something that a client, or fate, does to a node."""

    name: str
    action: str
    """submit, ask, lose (the node's process) or return."""
    node: int
    raw: bytes = b""
    digest: bytes = ZERO_DIGEST
    reason: str = ""
    status: str = ""

    @property
    def is_new(self) -> bool:
        """Whether it puts a bundle into the chain."""
        return self.action == "submit" and self.status == "final"


def rows(*orders: tuple[Side, int, int, TimeInForce, int]) -> "np.ndarray":
    """(n,) COMMAND rows: side, price, lots, time in force, client id."""
    commands = np.zeros(len(orders), COMMAND)
    for row, (side, price, size, tif, client_id) in zip(commands, orders, strict=True):
        row["kind"], row["side"], row["price"], row["size"] = Kind.PLACE, side, price, size
        row["tif"], row["client_id"] = tif, client_id
    return commands


def script(genesis: Genesis) -> list[Step]:
    """The same bytes each time that it is made."""
    chain = genesis.chain_id

    def made(account: int, sequence: int, commands: "np.ndarray", until: int = UNTIL, key: int = -1) -> Bundle:
        return seal_bundle(trader_key(account if key < 0 else key), chain, account, sequence, until, commands)

    def submit(name: str, node: int, bundle: Bundle, reason: str = "") -> Step:
        return Step(name, "submit", node, bundle.raw, bundle.digest, reason, "" if reason else "final")

    def ask(name: str, node: int, bundle: Bundle, status: str) -> Step:
        return Step(name, "ask", node, b"", bundle.digest, "", status)

    everything = np.zeros(1, COMMAND)
    everything["kind"], everything["instrument"] = Kind.CANCEL_ALL, ALL_INSTRUMENTS
    transfer = np.zeros(2, COMMAND)
    transfer["kind"], transfer["size"], transfer["target"] = Kind.TRANSFER, (500, 1 << 50), 2
    quotes = made(
        0, 0, rows((Side.BUY, PRICE - 2, 10, TimeInForce.GTC, 1), (Side.SELL, PRICE + 2, 10, TimeInForce.GTC, 2))
    )
    taken = made(
        1, 0, rows((Side.BUY, PRICE + 5, 4, TimeInForce.IOC, 0), (Side.SELL, PRICE - 2, 30, TimeInForce.FOK, 0))
    )
    moved = made(1, 1, transfer)
    wild = made(0, 1, rows((Side.BUY, 4_000, 1, TimeInForce.GTC, 3), (Side.BUY, PRICE, 0, TimeInForce.GTC, 4)))
    cleared = made(0, 2, everything)
    late = made(2, 0, rows((Side.BUY, PRICE - 9, 1, TimeInForce.GTC, 1)))
    old = made(0, 0, rows((Side.BUY, PRICE, 1, TimeInForce.GTC, 9)))
    forged = made(2, 1, everything, key=1)
    other = seal_bundle(trader_key(0), bytes(32), 0, 3, UNTIL, everything)
    return [
        submit("quotes rest", 0, quotes),
        submit("a taker trades, another cannot in full", 1, taken),
        submit("the same bundle again", 2, quotes, "replayed"),
        submit("another with an old sequence", 3, old, "replayed"),
        submit("a transfer is made, a larger one is not", 3, moved),
        submit("a price far outside, and no size", 2, wild),
        submit("signed by somebody else", 0, forged, "bad-signature"),
        submit("for another chain", 0, other, "wrong-chain"),
        submit("no such account", 1, made(900, 0, everything, key=0), "unknown-account"),
        submit("a sequence far ahead", 1, made(0, 5_000, everything), "sequence-too-far"),
        submit("over already", 1, made(0, 3, everything, until=1), "expired"),
        submit("valid for too long", 1, made(0, 3, everything, until=1_000_000), "lifetime-too-long"),
        Step("a validator dies", "lose", 3),
        submit("orders are cancelled with three", 0, cleared),
        submit("somebody else trades with three", 1, late),
        Step("it comes back", "return", 3),
        ask("what became of the quotes", 3, quotes, "final"),
        ask("what happened while it was gone", 3, late, "final"),
        ask("a bundle that nobody knows", 2, made(2, 7, everything), "unknown"),
    ]
