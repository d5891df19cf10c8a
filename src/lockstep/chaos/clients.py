"""Clients of a disturbed network: each trades with one account, one bundle at a time, through any node that answers,
and keeps what it was told.

They are the simulator's traders (`simulator.traders`) on real connections: a bundle goes to one node, and to the next
when no fate comes, until its fate is known. What nodes tell is compared as it comes: two that tell different things of
one height or one bundle are a violation by themselves.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

import numpy as np

from lockstep.base.keys import PrivateKey
from lockstep.gateway.client import Client
from lockstep.gateway.link import Link
from lockstep.simulator.history import Acknowledgement, Violation
from lockstep.simulator.venue_setup import INSTRUMENTS, PRICE, trader_key
from lockstep.wire.bundle import Bundle, seal_bundle
from lockstep.wire.client import (
    AskFate,
    AskStatus,
    BlockFinal,
    ClientReply,
    ClientRequest,
    Fate,
    StatusReply,
    Submit,
    SubmitReply,
    seal_price_report,
)
from lockstep.wire.command import ALL_INSTRUMENTS, COMMAND, Kind, Side, TimeInForce
from lockstep.wire.genesis import Genesis

PATIENCE_SECONDS: Final = 1.5
REPORT_SECONDS: Final = 0.5
LIFETIME_BLOCKS: Final = 5_000
COMMANDS_MAX: Final = 6
_OVER: Final = ("final", "expired", "rejected")


def _subscribe(client: Client) -> None:
    client.subscribe(outcomes=True, blocks=True)


def now_us() -> int:
    """Microseconds since the epoch, by the harness's clock."""
    return time.time_ns() // 1_000


@dataclass(slots=True)
class _Waiting:
    """A bundle without a fate yet."""

    account: int
    submitted_us: int
    fate: asyncio.Future[str]


class Clients:
    """Links to all nodes, traders, and the price source of every node."""

    def __init__(self, genesis: Genesis, feed: PrivateKey, traders: int, random: Random) -> None:
        self._genesis = genesis
        self._feed = feed
        self._random = random
        self._links = [
            Link(v.client_address, v.certificate, partial(self._told, i), _subscribe)
            for i, v in enumerate(genesis.validators)
        ]
        self._tasks: list[asyncio.Task[None]] = []
        self._traders = traders
        self._waiting: dict[bytes, _Waiting] = {}
        self._finals: dict[int, tuple[bytes, bytes]] = {}
        self.is_open = True
        """Whether new bundles are made."""
        self.heights = [0] * len(genesis.validators)
        """The highest block that each node told of."""
        self.seen_us: dict[tuple[int, int], int] = {}
        """(node, height) → when it told of that block first."""
        self.bundles: dict[bytes, bytes] = {}
        self.acknowledged: list[Acknowledgement] = []
        self.fates: dict[bytes, Fate] = {}
        """Of bundles that are final."""
        self.statuses: dict[int, StatusReply] = {}
        self.levels_max: dict[int, dict[str, int]] = {}
        """Node → queue → the most it said that it held."""
        self.violations: list[Violation] = []

    @property
    def pending(self) -> int:
        """Bundles that have no fate yet."""
        return len(self._waiting)

    def start(self) -> None:
        """Connect, report prices, trade."""
        for link in self._links:
            link.start()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._report())]
        self._tasks += [loop.create_task(self._trade(account)) for account in range(self._traders)]

    async def close(self) -> None:
        """Disconnect."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for link in self._links:
            await link.close()

    async def ask_again(self, node: int, seconds: float) -> list[str]:
        """Ask a node for the fate of everything that was ever called final. What it says now is kept like every other
        answer; returns digests that it calls otherwise, or doesn't answer for."""
        client = self._links[node].client
        if client is None:
            return ["no connection"]
        wrong = []
        for digest, first in self.fates.items():
            said = ""
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    said = (await client.fate(digest)).status
            if said != first.status:
                wrong.append(f"{digest.hex()[:16]} {said or 'no answer'}")
        return wrong

    # -- trading ----------------------------------------------------------------------------------------

    async def _report(self) -> None:
        """All operators see the same price, which walks if there is anybody to trade at it."""
        price, step = PRICE, 3 if self._traders else 0
        while True:
            price = max(PRICE // 2, min(2 * PRICE, price + self._random.randint(-step, step)))
            prices = tuple(price + 10 * number for number in range(len(INSTRUMENTS)))
            report = seal_price_report(self._feed, self._genesis.chain_id, now_us() // 1_000, prices)
            for node in range(len(self._links)):
                self._send(node, report)
                self._send(node, AskStatus())
            await asyncio.sleep(REPORT_SECONDS)

    async def _trade(self, account: int) -> None:
        random = Random(self._random.getrandbits(64))
        key, sequence, node = trader_key(account), 0, random.randrange(len(self._links))
        commands = Commands(random, self._traders)
        while True:
            await asyncio.sleep(random.uniform(0.005, 0.06))
            if not self.is_open:
                continue
            until = max(self.heights) + LIFETIME_BLOCKS
            bundle = seal_bundle(key, self._genesis.chain_id, account, sequence, until, commands.draw())
            status, node = await self._settle(account, bundle, node)
            sequence += status == "final"

    async def _settle(self, account: int, bundle: Bundle, node: int) -> tuple[str, int]:
        """Hand a bundle in until its fate is known."""
        self.bundles[bundle.digest] = bundle.raw
        waiting = _Waiting(account, now_us(), asyncio.get_running_loop().create_future())
        self._waiting[bundle.digest] = waiting
        while True:
            if self._send(node, Submit(bundle.raw)):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PATIENCE_SECONDS):
                        return await asyncio.shield(waiting.fate), node
            else:
                await asyncio.sleep(PATIENCE_SECONDS / 10)
            node = (node + 1) % len(self._links)
            self._send(node, AskFate(bundle.digest))

    def _send(self, node: int, request: ClientRequest) -> bool:
        return self._links[node].send(request)

    # -- answers ----------------------------------------------------------------------------------------

    def _told(self, node: int, message: ClientReply) -> None:
        match message:
            case Fate() if message.status in _OVER:
                self._fate(node, message)
            case SubmitReply() if message.reason in ("replayed", "expired"):
                self._send(node, AskFate(message.digest))  # it got there before
            case BlockFinal():
                self._final(node, message)
            case StatusReply():
                self.statuses[node] = message
                levels = self.levels_max.setdefault(node, {})
                for name, held in (("pool_bundles", message.pool_bundles), ("pool_bytes", message.pool_bytes)):
                    levels[name] = max(held, levels.get(name, 0))
            case _:
                pass

    def _fate(self, node: int, fate: Fate) -> None:
        waiting = self._waiting.get(fate.digest)
        first = self.fates.get(fate.digest)
        if fate.status == "final":
            if first is not None and first != fate:
                text = f"bundle {fate.digest.hex()[:16]}: validator {node} tells another fate than was told before"
                self.violations.append(Violation("told", text, now_us()))
            self.fates.setdefault(fate.digest, fate)
            if fate.digest in self.bundles:
                self._acknowledge(node, fate, waiting)
        if waiting is not None:
            del self._waiting[fate.digest]
            waiting.fate.set_result(fate.status)

    def _acknowledge(self, node: int, fate: Fate, waiting: _Waiting | None) -> None:
        """Also of bundles whose fate is known: a second answer must be as true as the first."""
        account, submitted_us = (waiting.account, waiting.submitted_us) if waiting else self._first(fate.digest)
        self.seen_us.setdefault((node, fate.height), now_us())
        self.acknowledged.append(
            Acknowledgement(
                account, fate.digest, node, submitted_us, now_us(), fate.height, fate.index, fate.outcomes
            )
        )  # fmt: skip

    def _first(self, digest: bytes) -> tuple[int, int]:
        first = next((a for a in self.acknowledged if a.bundle == digest), None)
        return (0, 0) if first is None else (first.client, first.submitted_us)

    def _final(self, node: int, block: BlockFinal) -> None:
        self.heights[node] = max(self.heights[node], block.height)
        self.seen_us.setdefault((node, block.height), now_us())
        final = block.block, block.state_root
        if self._finals.setdefault(block.height, final) != final:
            text = f"height {block.height}: validator {node} tells of another block or state than was told before"
            self.violations.append(Violation("told", text, now_us()))


class Commands:
    """What one trader orders: limit orders around the price, takers through the spread, cancels, small transfers."""

    def __init__(self, random: Random, accounts: int) -> None:
        self._random = random
        self._accounts = accounts
        self._next_client_id = 1

    def draw(self) -> "np.ndarray":
        """(n,) COMMAND rows, n at most `COMMANDS_MAX`."""
        rows = np.zeros(self._random.randint(1, COMMANDS_MAX), COMMAND)
        for row in rows:
            self._fill(row)
        return rows

    def _fill(self, row: "np.void") -> None:
        random, kind = self._random, self._random.randrange(16)
        if kind == 0:
            row["kind"], row["instrument"] = Kind.CANCEL_ALL, ALL_INSTRUMENTS
        elif kind in (1, 2) and self._next_client_id > 1:
            row["kind"] = Kind.CANCEL_CLIENT
            row["client_id"] = random.randint(max(1, self._next_client_id - 8), self._next_client_id - 1)
        elif kind == 3:
            row["kind"], row["size"] = Kind.TRANSFER, random.randint(1, 1_000)
            row["target"] = random.randrange(self._accounts)
        else:
            is_taker, side = kind > 11, random.choice((Side.BUY, Side.SELL))
            distance = random.randint(0, 6) if is_taker else -random.randint(1, 40)
            row["kind"], row["side"] = Kind.PLACE, side
            row["instrument"] = number = random.randrange(len(INSTRUMENTS))
            row["tif"] = TimeInForce.IOC if is_taker else TimeInForce.GTC
            row["price"] = PRICE + 10 * number + (distance if side is Side.BUY else -distance)
            row["size"] = random.randint(1, 20)
            row["client_id"] = 0 if is_taker else self._next_client_id
            self._next_client_id += not is_taker
