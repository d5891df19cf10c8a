"""Which prices have orders: per instrument one bit a tick, then one bit for each word below that is not zero, and so
on up to a single word. The next price with orders is found in at most four steps each way.

One bitmap serves both sides: a book is never crossed, so what lies above the best ask are asks.
"""

from typing import Final

from lockstep.venue.bits import highest_bit, lowest_bit
from lockstep.venue.compiled import i64, kernel
from lockstep.venue.memory import Row, State, read_ladder, write_ladder

_ONE: Final = i64(1)
_ALL: Final = i64(-1)
_ALL_BUT_LOWEST: Final = i64(-2)


@kernel
def ladder_set(state: State, instrument: Row, price: int) -> None:
    """Mark `price` as having orders."""
    base = instrument["ladder_first"]
    words = instrument["price_ticks"]
    at = price
    while words > 1:
        words = (words + 63) >> 6
        row = write_ladder(state, base + (at >> 6))
        was = row["bits"]
        row["bits"] = was | (_ONE << (at & 63))
        if was != 0:
            return
        base += words
        at >>= 6


@kernel
def ladder_clear(state: State, instrument: Row, price: int) -> None:
    """Mark `price` as having none."""
    base = instrument["ladder_first"]
    words = instrument["price_ticks"]
    at = price
    while words > 1:
        words = (words + 63) >> 6
        row = write_ladder(state, base + (at >> 6))
        row["bits"] = row["bits"] & ~(_ONE << (at & 63))
        if row["bits"] != 0:
            return
        base += words
        at >>= 6


@kernel
def ladder_above(state: State, instrument: Row, price: int) -> int:
    """The next price above `price` that has orders, or 0."""
    base = instrument["ladder_first"]
    words = instrument["price_ticks"]
    at = price
    while words > 1:
        words = (words + 63) >> 6
        found = read_ladder(state, base + (at >> 6))["bits"] & (_ALL_BUT_LOWEST << (at & 63))
        if found != 0:
            at = (at & ~63) | lowest_bit(found)
            return _descend(state, instrument, base, words, at, True)
        base += words
        at >>= 6
    return 0


@kernel
def ladder_below(state: State, instrument: Row, price: int) -> int:
    """The next price below `price` that has orders, or 0."""
    base = instrument["ladder_first"]
    words = instrument["price_ticks"]
    at = price
    while words > 1:
        words = (words + 63) >> 6
        found = read_ladder(state, base + (at >> 6))["bits"] & ~(_ALL << (at & 63))
        if found != 0:
            at = (at & ~63) | highest_bit(found)
            return _descend(state, instrument, base, words, at, False)
        base += words
        at >>= 6
    return 0


@kernel
def _descend(state: State, instrument: Row, base: int, words: int, at: int, lowest: bool) -> int:
    """From bit `at` of the level that begins at word `base`, down to a price: the lowest or highest below the bit."""
    first = instrument["ladder_first"]
    while base > first:
        words = _words_below(instrument, base - first)
        base -= words
        bits = read_ladder(state, base + at)["bits"]
        at = (at << 6) | (lowest_bit(bits) if lowest else highest_bit(bits))
    return at


@kernel
def _words_below(instrument: Row, offset: int) -> int:
    """Words of the level that ends at `offset`."""
    words = (instrument["price_ticks"] + 63) >> 6
    while offset > words:
        offset -= words
        words = (words + 63) >> 6
    return words
