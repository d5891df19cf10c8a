"""Who trades on a simulated venue: accounts with roles, each with a key derived from the seed.

Accounts 0, 1 and 2 are the bridge, the fee account and the insurance fund; traders follow.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from lockstep.base.digest import digest
from lockstep.base.errors import ConfigurationError
from lockstep.base.keys import PrivateKey
from lockstep.wire.genesis import Account

BRIDGE: Final = 0
FEES: Final = 1
INSURANCE: Final = 2
FIRST_TRADER: Final = 3
TRADERS_DEFAULT: Final = 96

_RICH: Final = 20_000_000 * 1_000_000
_POOR: Final = 3_000 * 1_000_000
_INSURED: Final = 1_000_000 * 1_000_000


class Role(StrEnum):
    """What an account does for a living."""

    MAKER = "maker"
    TAKER = "taker"
    NOISE = "noise"
    GAMBLER = "gambler"
    VILLAIN = "villain"


@dataclass(frozen=True, slots=True)
class Trader:
    """An account that trades. `weight` is its share of the bundles, relative to the others'."""

    account: int
    role: Role
    key: PrivateKey
    weight: int


# Of 32 traders: makers 22, takers 6, noise 2, gambler 1, villain 1 (a villain's bundles are all meant to be refused).
_PATTERN: Final = (Role.MAKER,) * 11 + (Role.TAKER,) * 3 + (Role.NOISE,) + (Role.GAMBLER,)
_PATTERN_2: Final = (*_PATTERN[:-1], Role.VILLAIN)
_WEIGHT: Final = {Role.MAKER: 8, Role.TAKER: 4, Role.NOISE: 5, Role.GAMBLER: 1, Role.VILLAIN: 0}


def derive_key(seed: int, name: str) -> PrivateKey:
    """A key of the simulated world. Never use one for anything of value: whoever knows the seed has it."""
    return PrivateKey(digest(f"lockstep/simulated-key/{seed}/{name}".encode()))


def traders(seed: int, count: int = TRADERS_DEFAULT) -> tuple[Trader, ...]:
    """`count` traders, in account order; every role is present from 32 traders on."""
    if not 32 <= count <= 4_096:
        raise ConfigurationError(f"a simulated market has 32 to 4096 traders, not {count}")
    roles = [(_PATTERN + _PATTERN_2)[number % 32] for number in range(count)]
    return tuple(
        Trader(FIRST_TRADER + number, role, derive_key(seed, f"trader-{number}"), _WEIGHT[role])
        for number, role in enumerate(roles)
    )


def replay_traders(seed: int) -> tuple[Trader, ...]:
    """Those who replay a recording: one for its bids, one for its asks, one for its takers; and a villain."""
    roles = (Role.MAKER, Role.MAKER, Role.TAKER, Role.VILLAIN)
    return tuple(
        Trader(FIRST_TRADER + number, role, derive_key(seed, f"replay-{number}"), int(role is not Role.VILLAIN))
        for number, role in enumerate(roles)
    )


def genesis_accounts(seed: int, cast: tuple[Trader, ...]) -> tuple[Account, ...]:
    """The accounts of the genesis: bridge, fees, insurance and the traders, gamblers with little to lose."""
    service = (
        Account(derive_key(seed, "bridge").public, 0),
        Account(derive_key(seed, "fees").public, 0),
        Account(derive_key(seed, "insurance").public, _INSURED),
    )
    return service + tuple(Account(t.key.public, _POOR if t.role is Role.GAMBLER else _RICH) for t in cast)
