"""The load driver: one process that trades on all validators at once, and measures what it gets.

It connects to every validator's client port, reports index prices to each ten times a second, submits what its load
produces, follows every bundle to its fate, compares the roots that validators report, and prints its reports. It is
steered by lines on its standard input (`steering`).

Phases: connecting (until all validators are live and have fresh prices), warm-up, measuring, draining.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any, Final

import uvloop

from lockstep.base.limits import SPECULATIVE_DEPTH_MAX
from lockstep.gateway.client import Client
from lockstep.gateway.link import Link
from lockstep.market.cast import FIRST_TRADER
from lockstep.market.dispatch import Dispatcher
from lockstep.market.flow import Flow
from lockstep.market.followers import Followers
from lockstep.market.index import IndexPath
from lockstep.market.listings import choose
from lockstep.market.load import FlowLoad, Load, ReplayLoad, bundle_size
from lockstep.market.meter import Meter
from lockstep.market.observer import Observer
from lockstep.market.plan import Plan
from lockstep.market.replay import Accounts, Replay
from lockstep.market.report import Summary, encode_report
from lockstep.market.steering import Steering
from lockstep.market.villain import Villains
from lockstep.runtime.home import read_key
from lockstep.wire.client import (
    AccountReply,
    AskAccount,
    AskFate,
    AskStatus,
    BlockFinal,
    ClientReply,
    ClientRequest,
    Fate,
    StatusReply,
    SubmitReply,
    Subscribe,
    seal_price_report,
)
from lockstep.wire.genesis import load_genesis

_FEED_SECONDS: Final = 0.1
_SWEEP_SECONDS: Final = 0.05
_REPORT_SECONDS: Final = 0.25
_DRAIN_SECONDS: Final = 10.0
_SETTLE_SECONDS: Final = 3.0
_WAIT_FOR_ALL_SECONDS: Final = 20.0
"""A run begins with all validators; on a network where some are away, it begins without them after so long."""
_BUNDLES_PER_MISCHIEF: Final = 100
_SAMPLE_ONE_IN: Final = 64
_SAMPLED_MAX: Final = 1_024


class Driver:
    """One run."""

    def __init__(self, plan: Plan) -> None:
        """Reads genesis and key; raises `ConfigurationError`. Must be made inside a running event loop."""
        self._plan = plan
        self._loop = asyncio.get_running_loop()
        self._genesis = load_genesis(Path(plan.genesis))
        self._feed_key = read_key(Path(plan.feed_key))
        cast = plan.cast()
        now = time.monotonic()
        self.meter = Meter(now)
        validators = self._genesis.validators
        self._links = [
            Link(v.client_address, v.certificate, self._handler(i), self._upper(i), self._downer(i))
            for i, v in enumerate(validators)
        ]
        self._dispatcher = Dispatcher(
            self._genesis.chain_id, cast, len(validators), self._send, self.meter, self._on_final
        )
        self.observer = Observer(self._genesis, self.meter)
        self._followers = Followers(plan.observers, len(validators), self.observer.roots)
        self._accounts = [trader.account for trader in cast if trader.weight]
        self._unasked = set(self._accounts)
        self._replay: Replay | None = None
        self._load = self._make_load()
        self._villains = Villains(self._genesis, cast, plan.seed, self.meter)
        self._first_height: int | None = None
        """The final height when all validators were first seen live."""
        self._sampled: dict[bytes, None] = {}
        self._is_producing = False
        self._steering = Steering(self._begin_window)
        self._first_window = "run"

    def _make_load(self) -> Load:
        plan = self._plan
        recording = plan.recording()
        if recording is not None:
            accounts = Accounts(FIRST_TRADER, FIRST_TRADER + 1, FIRST_TRADER + 2)
            self._replay = Replay(recording, accounts)
            return ReplayLoad(self._replay, self._dispatcher, plan.speed, plan.bundle)
        listings = choose(plan.instruments)
        flow = Flow(plan.seed, listings, plan.cast(), plan.live_orders)
        index = IndexPath(plan.seed, tuple(listing.opening_price for listing in listings))
        bundle = bundle_size(plan.rate, plan.bundle)
        return FlowLoad(flow, index, self._dispatcher, self.meter, plan.rate, bundle)

    # -- the run --------------------------------------------------------------------------------------

    async def run(self) -> dict[str, Any]:
        """Until the time is over, the recording is through, or somebody says stop. Returns the result."""
        for link in self._links:
            link.start()
        self._followers.start()
        self._repeat(_FEED_SECONDS, self._report_prices)
        self._repeat(_SWEEP_SECONDS, lambda: self._dispatcher.sweep(time.monotonic()))
        self._repeat(_REPORT_SECONDS, self._look_around)
        await self._until(self._is_ready)
        await self._measure()
        self._is_producing = False
        self.meter.end(time.monotonic())
        self.observer.phase = "draining"
        await self._until(self._is_settled, _DRAIN_SECONDS)
        result = self._result()
        await asyncio.gather(*(one.close() for one in self._links), self._followers.close(), self._villains.close())
        return result

    async def _measure(self) -> None:
        plan = self._plan
        self._is_producing = True
        self.observer.phase = "warm-up"
        self._produce()
        if self._replay is None:
            await self._until(lambda: False, plan.warm_up)
        self.observer.phase = "measuring"
        self.meter.begin(self._first_window, time.monotonic())
        await self._until(lambda: self._load.is_done, plan.seconds)

    async def _until(self, condition: Any, seconds: float | None = None) -> None:
        """Wait for a condition, a stop, or the time."""
        end = None if seconds is None else time.monotonic() + seconds
        draining = self.observer.phase == "draining"
        while not condition() and (draining or not self._steering.stopped.is_set()):
            left = 0.02 if end is None else min(0.02, end - time.monotonic())
            if left <= 0:
                return
            await asyncio.sleep(left)

    def _is_ready(self) -> bool:
        """All validators live (or, after a while, a quorum), their prices fresh, and every account's sequence known."""
        return not self._unasked and self._are_enough_live() and self.observer.has_prices

    def _are_enough_live(self) -> bool:
        is_late = time.monotonic() - self.meter.total.began > _WAIT_FOR_ALL_SECONDS
        return (self.observer.all_live and self._followers.all_live) or (is_late and self.observer.quorum_live)

    def _is_settled(self) -> bool:
        """Every bundle has its fate, and all live validators report a common height beyond the last of them."""
        if self._dispatcher.pending_commands:
            return False
        newest = self._dispatcher.final_height
        common = self.observer.common()
        return common is not None and newest - common.height <= 1 and self._followers.are_at(common.height)

    def _repeat(self, seconds: float, action: Any) -> None:
        def again() -> None:
            self._loop.call_later(seconds, again)
            action()

        again()

    def _begin_window(self, name: str) -> None:
        """Asked for from outside; before the first window it is that one's name."""
        if self.observer.phase == "measuring":
            self.meter.begin(name, time.monotonic())
        else:
            self._first_window = name

    # -- sending --------------------------------------------------------------------------------------

    def _send(self, validator: int, request: ClientRequest) -> bool:
        return self._links[validator].send(request)

    def _produce(self) -> None:
        """Let the load submit, and come back when it wants."""
        if not self._is_producing:
            return
        delay = self._load.produce(time.monotonic())
        self._loop.call_later(max(delay, 0.0), self._produce)

    def _report_prices(self) -> None:
        prices = tuple(int(price) for price in self._load.prices())
        report = seal_price_report(self._feed_key, self._genesis.chain_id, time.time_ns() // 1_000_000, prices)
        for link in self._links:
            link.send(report)

    def _look_around(self) -> None:
        """Ask how everybody is; say how things stand."""
        now = time.monotonic()
        for link in self._links:
            link.send(AskStatus())
        self._followers.ask()
        if self._unasked:
            self._ask_accounts()
        progress = self.observer.progress(now, self._dispatcher.pending_commands, self._followers.rows())
        sys.stdout.buffer.write(encode_report(progress))
        sys.stdout.buffer.flush()

    def _ask_accounts(self) -> None:
        """An earlier run may have used sequences: begin where it ended, once its last blocks are final or gone."""
        if not self._are_enough_live():
            return
        newest = self.observer.final_height
        if self._first_height is None:
            self._first_height = newest
        if self._plan.resumed and newest < self._first_height + SPECULATIVE_DEPTH_MAX + 2:
            return
        for account in list(self._unasked):
            self._send(self.observer.any_live, AskAccount(account))

    # -- hearing --------------------------------------------------------------------------------------

    def _handler(self, validator: int) -> Any:
        return lambda message: self._heard(validator, message)

    def _upper(self, validator: int) -> Any:
        def up(client: Client) -> None:
            client.request(Subscribe(outcomes=self._replay is not None, blocks=True))
            client.request(AskStatus())
            self.observer.connected(validator, True)

        return up

    def _downer(self, validator: int) -> Any:
        def down(_reason: str) -> None:
            self.observer.connected(validator, False)
            self._dispatcher.usable(validator, False, time.monotonic())

        return down

    def _heard(self, validator: int, message: ClientReply) -> None:
        now = time.monotonic()
        match message:
            case SubmitReply():
                self._dispatcher.replied(message, now)
            case Fate():
                if not self._dispatcher.fate(message, now) and message.digest in self._sampled:
                    del self._sampled[message.digest]
                    self.observer.sample(message.outcomes)
            case BlockFinal():
                self._dispatcher.final_height = max(self._dispatcher.final_height, message.height)
                self.observer.block(validator, message)
                self._followers.first(message.height, now)
            case StatusReply():
                self.observer.status(validator, message)
                self._dispatcher.usable(validator, "submit" in message.allowed, now)
            case AccountReply():
                if message.account in self._unasked:
                    self._unasked.discard(message.account)
                    self._dispatcher.resume(message.account, message.next_sequence)
            case _:
                pass

    def _on_final(self, account: int, sequence: int, fate: Fate) -> None:
        self._load.settled(account, sequence, fate)
        bundles = self.meter.total.bundles
        if bundles % _BUNDLES_PER_MISCHIEF == 0:
            now = time.monotonic()
            old = self.observer.old_bundle(self._dispatcher.last_final, now)
            self._villains.attempt(self.observer.is_live, self._dispatcher.final_height, old, now)
        if self._replay is None and bundles % _SAMPLE_ONE_IN == 0 and len(self._sampled) < _SAMPLED_MAX:
            self._sampled[fate.digest] = None
            self._loop.call_later(_SETTLE_SECONDS, self._ask_sample, fate.digest)

    def _ask_sample(self, digest: bytes) -> None:
        self._send(self.observer.any_live, AskFate(digest))

    # -- the end --------------------------------------------------------------------------------------

    def _result(self) -> dict[str, Any]:
        plan, now = self._plan, time.monotonic()
        result = self.observer.result(now)
        result["offered_rate"] = plan.rate
        result["bundle_size"] = plan.bundle if self._replay is not None else bundle_size(plan.rate, plan.bundle)
        result["seed"] = plan.seed
        result["warm_up_seconds"] = plan.warm_up
        if plan.observers:
            result["observers"] = self._followers.result()
        result["unsettled_commands"] = self._dispatcher.pending_commands
        if self._replay is not None:
            result["replay"] = self._replay.summary()
        return result


def drive(plan: Plan) -> int:
    """Run the driver to its end and print its summary. Returns the exit status."""

    async def main() -> dict[str, Any]:
        return await Driver(plan).run()

    result = uvloop.run(main())
    sys.stdout.buffer.write(encode_report(Summary(result)))
    sys.stdout.buffer.flush()
    return 0
