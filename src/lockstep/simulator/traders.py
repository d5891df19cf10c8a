"""Simulated clients: each trades with one account, one bundle at a time, and keeps what it was told.

A trader hands its bundle to a node, and again to the next node when no fate comes, until it knows the fate: nodes
crash, and a client can't know what became of its message. A bundle that expired is made anew with the same sequence.
Orders are limit orders around the price, takers through the spread, cancels by own id and of everything, and small
transfers.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Final

import numpy as np

from lockstep.simulator.chance import chance, draw, stream
from lockstep.simulator.history import Acknowledgement
from lockstep.simulator.simulated_node import SimulatedNode
from lockstep.simulator.venue_setup import FEED, INSTRUMENTS, PRICE, trader_key
from lockstep.simulator.world import World
from lockstep.wire.bundle import Bundle, seal_bundle
from lockstep.wire.client import (
    AccountReply,
    AskAccount,
    AskFate,
    ClientReply,
    Fate,
    Submit,
    SubmitReply,
    Subscribe,
    seal_price_report,
)
from lockstep.wire.command import ALL_INSTRUMENTS, COMMAND, Kind, Side, TimeInForce

_LAG_US: Final = 200
"""Between a client and its node, at least."""
_PATIENCE_US: Final = 1_500_000
_LIFETIME_BLOCKS: Final = 400
_COMMANDS_MAX: Final = 6
REPORT_US: Final = 500_000


@dataclass(slots=True)
class _Trader:
    account: int
    node: int
    sequence: int = 0
    next_client_id: int = 1
    bundle: Bundle | None = None
    submitted_us: int = 0
    attempt: int = 0
    subscribed: tuple[int, int] = (-1, -1)
    """(node, incarnation) that knows this client."""
    replayed: set[int] = field(default_factory=set)
    """Nodes that said that the bundle got there before,"""
    pruned: set[int] = field(default_factory=set)
    """and that what became of it is kept there no more."""


class Traders:
    """All clients of a world, and the price source of every node."""

    def __init__(self, world: World, count: int, pause_us: tuple[int, int]) -> None:
        self._world = world
        self._chain_id = world.genesis.chain_id
        self._random: Random = stream(world.seed, "traders")
        self._pause_us = pause_us
        self._traders = [_Trader(account, account % len(world.nodes)) for account in range(count)]
        self._price = PRICE
        self._nodes = tuple(range(len(world.nodes)))
        """Those that are asked, in turn."""
        self.is_open = True
        """New bundles are made."""
        world.on_reply = self._replied

    def begin(self) -> None:
        """Start to trade and to report prices."""
        self._report()
        for trader in self._traders:
            self._world.call(draw(self._random, *self._pause_us), self._trade, trader)

    @property
    def pending(self) -> int:
        """Bundles whose fate is not known yet."""
        return sum(1 for trader in self._traders if trader.bundle is not None)

    def reachable(self, nodes: tuple[int, ...]) -> None:
        """From now on only these nodes are asked: the others are known to be down."""
        for trader in self._traders:
            if trader.node not in nodes:
                trader.node = nodes[trader.account % len(nodes)]
        self._nodes = nodes

    # -- prices ---------------------------------------------------------------------------------------

    def _report(self) -> None:
        """Every node's own price source reports, by the world's clock; a step up or down each time."""
        self._price += draw(self._random, -3, 3)
        prices = tuple(self._price + 10 * i for i in range(len(INSTRUMENTS)))
        report = seal_price_report(FEED, self._chain_id, self._world.now_us // 1000, prices)
        for node in self._world.everyone:
            node.ask(0xFFFF, report)
        self._world.call(REPORT_US, self._report)

    # -- trading --------------------------------------------------------------------------------------

    def _trade(self, trader: _Trader) -> None:
        """Make a bundle, and hand it in."""
        if trader.bundle is not None or not self.is_open:
            return
        node = self._world.nodes[trader.node]
        height = max((n.replica.final.height for n in self._world.nodes if n.is_up), default=0)
        world = self._world
        trader.bundle = seal_bundle(
            trader_key(trader.account), self._chain_id, trader.account, trader.sequence,
            height + _LIFETIME_BLOCKS, self._commands(trader),
        )  # fmt: skip
        world.history.bundles[trader.bundle.digest] = trader.bundle.raw
        trader.submitted_us = world.now_us
        trader.attempt += 1
        self._submit(trader, node, trader.attempt)

    def _submit(self, trader: _Trader, node: SimulatedNode, attempt: int) -> None:
        bundle = trader.bundle
        if bundle is None or trader.attempt != attempt:
            return
        if node.is_up:
            delay_us = _LAG_US + draw(self._random, 0, 999)
            if trader.subscribed != (node.index, node.incarnation):
                trader.subscribed = (node.index, node.incarnation)
                self._world.call(delay_us, node.ask, trader.account, Subscribe(outcomes=True, blocks=False))
            self._world.call(delay_us, node.ask, trader.account, Submit(bundle.raw))
        self._world.call(_PATIENCE_US, self._again, trader, attempt)

    def _again(self, trader: _Trader, attempt: int) -> None:
        """No fate yet: ask, and hand it in at the next node."""
        if trader.bundle is None or trader.attempt != attempt:
            return
        trader.node = self._next_node(trader.node)
        node = self._world.nodes[trader.node]
        if node.is_up:
            node.ask(trader.account, AskFate(trader.bundle.digest))
        if trader.bundle is not None and trader.attempt == attempt:
            self._submit(trader, node, attempt)

    def _next_node(self, node: int) -> int:
        return next((other for other in self._nodes if other > node), self._nodes[0])

    # -- answers --------------------------------------------------------------------------------------

    def _replied(self, node: SimulatedNode, client: int, message: ClientReply) -> None:
        if client < len(self._traders):
            delay_us = _LAG_US + draw(self._random, 0, 999)
            self._world.call(delay_us, self._hear, self._traders[client], node.index, message)

    def _hear(self, trader: _Trader, node: int, message: ClientReply) -> None:
        bundle = trader.bundle
        match message:
            case Fate() if bundle is not None and message.digest == bundle.digest:
                self._fate(trader, node, message)
            case SubmitReply() if bundle is not None and message.digest == bundle.digest and message.reason:
                self._refused(trader, node, message.reason)
            case AccountReply() if bundle is None and message.next_sequence > trader.sequence:
                trader.sequence = message.next_sequence
            case _:
                pass

    def _fate(self, trader: _Trader, node: int, fate: Fate) -> None:
        bundle = trader.bundle
        assert bundle is not None
        if fate.status == "final":
            if not self._world.nodes[node].history.is_faulty:  # from others it is hearsay
                self._world.history.acknowledged.append(
                    Acknowledgement(
                        trader.account, bundle.digest, node, trader.submitted_us, self._world.now_us,
                        fate.height, fate.index, fate.outcomes,
                    )
                )  # fmt: skip
            trader.sequence += 1
        elif fate.status not in ("expired", "rejected") and not self._is_kept_nowhere(trader, node, fate.reason):
            return
        self._next(trader)

    def _is_kept_nowhere(self, trader: _Trader, node: int, reason: str) -> bool:
        """Whether the bundle got there, and all honest nodes have pruned what became of it."""
        if reason and node in trader.replayed:
            trader.pruned.add(node)
        return all(n in trader.pruned or self._world.nodes[n].history.is_faulty for n in self._nodes)

    def _refused(self, trader: _Trader, node: int, reason: str) -> None:
        """`duplicate` and `replayed` mean that it got there before: its fate will come, or can be asked for."""
        if reason == "replayed":
            trader.replayed.add(node)
            target, bundle = self._world.nodes[node], trader.bundle
            if target.is_up and bundle is not None:
                target.ask(trader.account, AskFate(bundle.digest))
        elif reason == "expired":
            self._next(trader)

    def _next(self, trader: _Trader) -> None:
        trader.bundle = None
        trader.replayed.clear()
        trader.pruned.clear()
        trader.attempt += 1
        node = self._world.nodes[trader.node]
        if node.is_up:
            node.ask(trader.account, AskAccount(trader.account))
        self._world.call(draw(self._random, *self._pause_us), self._trade, trader)

    # -- commands -------------------------------------------------------------------------------------

    def _commands(self, trader: _Trader) -> np.ndarray:
        return np.array([self._command(trader) for _ in range(draw(self._random, 1, _COMMANDS_MAX))], COMMAND)

    def _command(self, trader: _Trader) -> tuple[int, ...]:
        """One row: kind, side, time in force, flags, instrument, price, size, client id, target."""
        random = self._random
        kind = draw(random, 0, 15)
        if kind == 0:
            return Kind.CANCEL_ALL, 0, 0, 0, ALL_INSTRUMENTS, 0, 0, 0, 0
        if kind in (1, 2) and trader.next_client_id > 1:
            oldest = max(1, trader.next_client_id - 8)
            return Kind.CANCEL_CLIENT, 0, 0, 0, 0, 0, 0, draw(random, oldest, trader.next_client_id - 1), 0
        if kind == 3:
            target = draw(random, 0, len(self._traders) - 1)
            return Kind.TRANSFER, 0, 0, 0, 0, 0, draw(random, 1, 1_000), 0, target
        side = Side.BUY if chance(random, 1, 2) else Side.SELL
        through = kind > 11
        distance = draw(random, 0, 6) if through else -draw(random, 1, 40)
        instrument = draw(random, 0, len(INSTRUMENTS) - 1)
        price = self._price + 10 * instrument + (distance if side is Side.BUY else -distance)
        size = draw(random, 1, 20)
        if through:
            return Kind.PLACE, side, TimeInForce.IOC, 0, instrument, price, size, 0, 0
        trader.next_client_id += 1
        return Kind.PLACE, side, TimeInForce.GTC, 0, instrument, price, size, trader.next_client_id - 1, 0
