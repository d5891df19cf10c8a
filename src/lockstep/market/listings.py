"""What the simulated venue lists: four perpetual contracts with realistic ticks, lots, fees and margins."""

from dataclasses import dataclass
from typing import Final

from lockstep.base.errors import ConfigurationError
from lockstep.wire.genesis import Instrument


@dataclass(frozen=True, slots=True)
class Listing:
    """An instrument, the price (ticks) at which its index starts, and the size of a typical order in lots."""

    instrument: Instrument
    opening_price: int
    typical_lots: int


def _perpetual(symbol: str, tick_value: int, price_ticks: int, opening_price: int, typical_lots: int) -> Listing:
    instrument = Instrument(
        symbol=symbol,
        tick_value=tick_value,
        price_ticks=price_ticks,
        position_lots_max=1_000_000,
        maker_fee_ppm=-20,
        taker_fee_ppm=50,
        initial_margin_ppm=50_000,
        maintenance_margin_ppm=25_000,
        price_band_ppm=100_000,
    )
    return Listing(instrument, opening_price, typical_lots)


LISTINGS: Final = (
    # one lot: 0.001 BTC, a tick of 1 USD; 0.01 ETH, 0.1 USD; 0.1 SOL, 0.01 USD; 10 XRP, 0.0001 USD
    _perpetual("BTC-PERP", 1_000, 1 << 18, 64_000, 20),
    _perpetual("ETH-PERP", 1_000, 1 << 17, 31_000, 30),
    _perpetual("SOL-PERP", 1_000, 1 << 16, 15_500, 40),
    _perpetual("XRP-PERP", 1_000, 1 << 16, 21_000, 50),
)
"""In the order of their instrument numbers on a devnet."""


def choose(symbols: str) -> tuple[Listing, ...]:
    """The listings named in a comma-separated list; empty means all. Raises `ConfigurationError`."""
    if not symbols:
        return LISTINGS
    by_symbol = {listing.instrument.symbol: listing for listing in LISTINGS}
    names = [name.strip().upper() for name in symbols.split(",")]
    unknown = [name for name in names if name not in by_symbol]
    if unknown or len(set(names)) != len(names):
        raise ConfigurationError(
            f"--instruments takes distinct names out of {', '.join(by_symbol)}; this is {symbols!r}"
        )
    return tuple(by_symbol[name] for name in names)
