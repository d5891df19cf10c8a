"""What the protocol layer needs from a committed state, read from the venue's tables at start."""

from lockstep.node.directory import Directory
from lockstep.venue.schema import ACCOUNTS, INSTRUMENTS, KEYS, OBSERVATIONS, VALIDATORS
from lockstep.venue.venue import Venue


def directory_of(venue: Venue) -> Directory:
    """Keys, opening heights and next sequences of all accounts."""
    tables = venue.ledger.tables
    count = int(tables[ACCOUNTS].count[0])
    keys = tables[KEYS].rows[:count].tobytes()
    rows = tables[ACCOUNTS].rows[:count]
    return Directory(
        [keys[i : i + 32] for i in range(0, len(keys), 32)],
        rows["opened_height"].tolist(),
        rows["next_sequence"].tolist(),
    )


def observed_of(venue: Venue) -> dict[int, int]:
    """Time of the newest observation on the chain, by validator; those that never reported are left out."""
    tables = venue.ledger.tables
    validators, instruments = int(tables[VALIDATORS].count[0]), int(tables[INSTRUMENTS].count[0])
    rows = tables[OBSERVATIONS].rows[: validators * instruments]
    newest = rows["time_ms"].reshape(validators, instruments).max(axis=1)
    return {validator: int(time_ms) for validator, time_ms in enumerate(newest) if time_ms > 0}
