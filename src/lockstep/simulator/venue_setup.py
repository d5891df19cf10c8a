"""The small venue that simulated networks run: keys, accounts and listings, all from fixed numbers.

Tables are as small as genesis allows, so that a dozen nodes fit into one process and start in milliseconds.
"""

from functools import lru_cache
from typing import Final

from lockstep.base.digest import digest
from lockstep.base.keys import PrivateKey
from lockstep.wire.genesis import Account, Genesis, Instrument, Parameters, Validator, check_genesis

PRICE: Final = 2_000
"""Where every mark begins, in ticks."""
INSTRUMENTS: Final = ("BTC-PERP", "ETH-PERP")
_BALANCE: Final = 10_000_000_000


@lru_cache(maxsize=1024)
def key_of(name: str) -> PrivateKey:
    """A key that everybody can know."""
    return PrivateKey(digest(f"lockstep/simulator/key/{name}".encode()))


def validator_keys(count: int) -> list[PrivateKey]:
    """Those of all validators."""
    return [key_of(f"validator {index}") for index in range(count)]


def trader_key(number: int) -> PrivateKey:
    """The key of account `number`."""
    return key_of(f"trader {number}")


FEED: Final = key_of("feed")


def small_genesis(
    stakes: tuple[int, ...], traders: int, time_ms: int, price_ticks: int = 4096, **parameters: int
) -> Genesis:
    """Accounts 0 … traders - 1 trade; then the bridge, the fees and the insurance."""
    keys = validator_keys(len(stakes))
    genesis = Genesis(
        name="simulated",
        time_ms=time_ms,
        validators=tuple(
            Validator(f"validator-{i}", key.public, stake, b"", "", "")
            for i, (key, stake) in enumerate(zip(keys, stakes, strict=True))
        ),
        instruments=tuple(
            Instrument(symbol, 1_000, price_ticks, 1_000_000, 0, 500, 100_000, 50_000, 500_000)
            for symbol in INSTRUMENTS
        ),
        accounts=tuple(Account(trader_key(i).public, _BALANCE) for i in range(traders + 3)),
        bridge_account=traders,
        fee_account=traders + 1,
        insurance_account=traders + 2,
        parameters=Parameters(
            **{"accounts_max": 1024, "orders_max": 1024, "positions_max": 1024, "block_commands_max": 4_096}
            | parameters
        ),
    )
    check_genesis(genesis)
    return genesis
