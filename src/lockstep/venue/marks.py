"""Mark prices: the stake-weighted median of what validators with fresh observations say.

An observation counts while it is no older than `price_age_ms_max` by the block's time. If those that count are
of validators with no more than 2/3 of the stake, the instrument is stale: it keeps its last mark, and nothing is
matched, placed or liquidated in it. A venue that comes back from a halt therefore waits for a quorum of fresh
prices instead of liquidating on old ones (October 2025). With less than 1/3 of the stake faulty, more than half of
the counted stake is honest, so the median lies within the range of honest prices.
"""

from lockstep.venue.arithmetic import portion_down, portion_up
from lockstep.venue.compiled import i64, kernel
from lockstep.venue.memory import (
    SEEN_COUNT,
    Row,
    State,
    get,
    read_instrument,
    read_observation,
    read_seen,
    read_validator,
    read_venue,
    write_instrument,
    write_observation,
    write_venue,
)


@kernel
def take_observations(state: State) -> None:
    """Store the block's observations. One that is older than the stored one, or from the future, is ignored."""
    venue = read_venue(state, 0)
    instruments, validators = i64(venue["instruments"]), i64(venue["validators"])
    for i in range(get(state, SEEN_COUNT)):
        seen = read_seen(state, i)
        validator, number = i64(seen["validator"]), i64(seen["instrument"])
        if validator >= validators or number >= instruments:
            continue
        price, time_ms = seen["price"], seen["time_ms"]
        if not 0 <= price < read_instrument(state, number)["price_ticks"] or time_ms > venue["time_ms"]:
            continue
        place = validator * instruments + number
        if time_ms < read_observation(state, place)["time_ms"]:
            continue
        row = write_observation(state, place)
        row["price"] = price
        row["time_ms"] = time_ms


@kernel
def set_marks(state: State) -> None:
    """Bring every instrument's mark, band and staleness up to date; a change starts a round of checks."""
    moved = False
    for number in range(i64(read_venue(state, 0)["instruments"])):
        instrument = read_instrument(state, number)
        mark = _median(state, number)
        stale = 1 if mark == 0 else 0
        if stale == instrument["stale"] and (stale or mark == instrument["mark"]):
            continue
        moved = True
        instrument = write_instrument(state, number)
        instrument["stale"] = stale
        if not stale:
            _set_mark(instrument, mark)
    if moved:
        venue = write_venue(state, 0)
        venue["scan_left"] = venue["accounts"]


@kernel
def _set_mark(instrument: Row, mark: int) -> None:
    width = portion_down(mark, instrument["price_band_ppm"])
    instrument["mark"] = mark
    instrument["lot_value"] = mark * instrument["tick_value"]
    instrument["lowest"] = max(mark - width, 1)
    instrument["highest"] = min(mark + width, instrument["price_ticks"] - 1)
    instrument["lot_margin"] = portion_up(instrument["lot_value"], instrument["initial_margin_ppm"])
    highest_value = instrument["highest"] * instrument["tick_value"]
    instrument["lot_fee"] = portion_up(highest_value, instrument["taker_fee_ppm"])


@kernel
def _fresh_price(state: State, validator: int, number: int) -> int:
    """The validator's price if it counts, else 0."""
    venue = read_venue(state, 0)
    row = read_observation(state, validator * i64(venue["instruments"]) + number)
    return row["price"] if venue["time_ms"] - row["time_ms"] <= venue["price_age_ms_max"] else i64(0)


@kernel
def _median(state: State, number: int) -> int:
    """The lowest counted price with at least half of the counted stake at or below it; 0 when too little counts."""
    venue = read_venue(state, 0)
    validators = i64(venue["validators"])
    counted = i64(0)
    for validator in range(validators):
        if _fresh_price(state, validator, number) != 0:
            counted += read_validator(state, validator)["stake"]
    if 3 * counted <= 2 * venue["stake"]:  # both below 2^62
        return i64(0)
    best = i64(0)
    for candidate in range(validators):
        price = _fresh_price(state, candidate, number)
        if price == 0 or (best != 0 and price >= best):
            continue
        below = i64(0)
        for validator in range(validators):
            if 0 < _fresh_price(state, validator, number) <= price:
                below += read_validator(state, validator)["stake"]
        if below >= counted - below:
            best = price
    return best
