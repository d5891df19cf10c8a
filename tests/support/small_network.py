"""A small genesis with known keys, a simulated world on it, and a client that submits bundles."""

from dataclasses import dataclass, field

import numpy as np

from lockstep.base.keys import PrivateKey
from lockstep.simulator.world import START_US, World
from lockstep.wire.bundle import Bundle, seal_bundle
from lockstep.wire.client import ClientReply, Submit, Subscribe, seal_price_report
from lockstep.wire.command import COMMAND, Kind, Side
from lockstep.wire.genesis import Account, Genesis, Instrument, Parameters, Validator, check_genesis

FEED = PrivateKey(b"\x77" * 32)
TRADERS = 8
PRICE = 2_000


def validator_key(index: int) -> PrivateKey:
    return PrivateKey(bytes([index + 1]) * 32)


def trader_key(number: int) -> PrivateKey:
    return PrivateKey(bytes([100 + number]) * 32)


def small_genesis(validators: int = 4, price_ticks: int = 4096, **parameters: int) -> Genesis:
    """One instrument; accounts 0 … 7 are traders, 8 the bridge, 9 fees, 10 insurance."""
    genesis = Genesis(
        name="small",
        time_ms=START_US // 1000,
        validators=tuple(
            Validator(f"validator-{i}", validator_key(i).public, 1, b"", "", "") for i in range(validators)
        ),
        instruments=(Instrument("BTC-PERP", 1_000, price_ticks, 1_000_000, 0, 500, 100_000, 50_000, 500_000),),
        accounts=tuple(Account(trader_key(i).public, 10_000_000_000) for i in range(TRADERS + 3)),
        bridge_account=TRADERS,
        fee_account=TRADERS + 1,
        insurance_account=TRADERS + 2,
        parameters=Parameters(
            **{"delta_ms": 50, "idle_block_ms": 40, "accounts_max": 1024, "orders_max": 4096, "positions_max": 1024}
            | parameters
        ),
    )
    check_genesis(genesis)
    return genesis


def small_world(validators: int = 4, seed: int = 1, **parameters: int) -> World:
    return World(
        small_genesis(validators, **parameters), [validator_key(i) for i in range(validators)], FEED.public, seed
    )


@dataclass
class Trader:
    """Submits bundles of one account to one node of a world."""

    world: World
    account: int
    node: int = 0
    sequence: int = 0
    sent: list[Bundle] = field(default_factory=list)

    def bundle(self, commands: np.ndarray, lifetime: int = 1_000) -> Bundle:
        """The next bundle of the account, signed."""
        valid_until = self.world.nodes[self.node].replica.final.height + lifetime
        chain_id = self.world.genesis.chain_id
        made = seal_bundle(trader_key(self.account), chain_id, self.account, self.sequence, valid_until, commands)
        self.sequence += 1
        self.sent.append(made)
        return made

    def submit(self, commands: np.ndarray) -> Bundle:
        """Sign and hand in."""
        made = self.bundle(commands)
        self.world.nodes[self.node].ask(self.account, Subscribe(outcomes=True, blocks=False))
        self.world.nodes[self.node].ask(self.account, Submit(made.raw))
        return made

    def replies(self, kind: type) -> list[ClientReply]:
        """Everything of this kind that the node told this trader."""
        replies = self.world.nodes[self.node].replies
        return [message for client, message in replies if client == self.account and isinstance(message, kind)]


def orders(side: Side, price: int, sizes: list[int], client_id: int = 0) -> np.ndarray:
    """Good-till-cancelled limit orders on instrument 0."""
    commands = np.zeros(len(sizes), COMMAND)
    commands["kind"], commands["side"], commands["price"] = Kind.PLACE, side, price
    commands["size"] = sizes
    if client_id:
        commands["client_id"] = np.arange(client_id, client_id + len(sizes))
    return commands


def report_prices(world: World, price: int = PRICE) -> None:
    """Every running node's operator reports the price now."""
    report = seal_price_report(FEED, world.genesis.chain_id, world.now_us // 1000, (price,))
    for node in world.nodes:
        if node.is_up:
            node.ask(999, report)


def keep_reporting(world: World, price: int = PRICE, every_us: int = 200_000) -> None:
    """Report prices now and then, for ever."""

    def again() -> None:
        report_prices(world, price)
        world.call(every_us, again)

    again()
