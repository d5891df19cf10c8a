"""The flow of a whole market: every trader's script, and who speaks when. Same seed, same flow."""

from typing import Any, Final

import numpy as np

from lockstep.market import agents
from lockstep.market.agents import Stage
from lockstep.market.cast import Role, Trader
from lockstep.market.listings import Listing
from lockstep.market.script import Rows, Script

LIVE_ORDERS_MIN: Final = 2_000
LIVE_ORDERS_MAX: Final = 16_000


def live_orders_for(rate: int) -> int:
    """Resting orders to keep at an offered rate (commands/s; 0 = unlimited): what makers can renew every second."""
    return LIVE_ORDERS_MAX if rate == 0 else min(max(rate, LIVE_ORDERS_MIN), LIVE_ORDERS_MAX)


class Flow:
    """Commands of all traders, on demand."""

    def __init__(self, seed: int, listings: tuple[Listing, ...], cast: tuple[Trader, ...], live_orders: int) -> None:
        stage = Stage(listings, tuple(t.account for t in cast if t.role is Role.GAMBLER) or (cast[0].account,))
        makers = sum(trader.role is Role.MAKER for trader in cast)
        slots = max(live_orders // max(makers, 1), 2 * len(listings))
        self._scripts = {
            trader.account: _script(trader.role, stage, np.random.Generator(np.random.PCG64([seed, number])), slots)
            for number, trader in enumerate(cast)
            if trader.weight
        }
        self._prices = np.append(stage.opening_prices(), 0)
        self.schedule: tuple[int, ...] = _schedule(cast)
        """Account numbers: one turn each, to be repeated for ever."""

    def observe(self, prices: np.ndarray[Any, Any]) -> None:
        """Take note of the present index prices, (instruments,) int64 ticks."""
        self._prices[:-1] = prices

    def commands(self, account: int, count: int) -> Rows:
        """The next `count` commands of `account`, as (count,) COMMAND rows."""
        return self._scripts[account].take(count, self._prices)


def _script(role: Role, stage: Stage, random: np.random.Generator, slots: int) -> Script:
    match role:
        case Role.MAKER:
            return agents.maker(stage, random, slots)
        case Role.TAKER:
            return agents.taker(stage, random)
        case Role.GAMBLER:
            return agents.gambler(stage, random)
        case Role.NOISE | Role.VILLAIN:
            return agents.noise(stage, random)


def _schedule(cast: tuple[Trader, ...]) -> tuple[int, ...]:
    """Each trader as often as its weight says, its turns spread evenly."""
    turns = [
        ((turn + (number * 0.618034) % 1.0) / trader.weight, trader.account)
        for number, trader in enumerate(cast)
        for turn in range(trader.weight)
    ]
    return tuple(account for _, account in sorted(turns))
