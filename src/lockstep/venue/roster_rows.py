"""The validators in the state: ordering a change of the set, letting it take effect, and reading the roster back.

`venue.change_height` is the height of the last block of this epoch while a change is pending, else 0. A validator's
`next_stake` counts from the next epoch on; one that a pending change adds has `since` above `venue.epoch`, and is not
in the present set.
"""

from typing import Any

import numpy as np

from lockstep.ledger.table import Table, Undo, touch
from lockstep.venue import schema
from lockstep.wire.genesis import Genesis, Validator
from lockstep.wire.roster import Pending, Roster
from lockstep.wire.set_change import ADDED_MAX, SetChange
from lockstep.wire.validators import ValidatorSet

CHUNKS_MAX = 1 + ADDED_MAX + 8
"""Chunks that a change, or its taking effect, may dirty."""
_TEXTS = ("name", "peer_address", "client_address", "certificate")
Array = np.ndarray[Any, Any]


def key_row(key: bytes) -> Any:
    """A public key as a KEY_ROW."""
    return np.frombuffer(key, schema.KEY_ROW)[0]


def record_row(validator: Validator) -> Array:
    """A validator's record as (1,) RECORD_ROW."""
    row = np.zeros(1, schema.RECORD_ROW)
    values = (validator.name.encode(), validator.peer_address.encode(), validator.client_address.encode(),
              validator.certificate)  # fmt: skip
    row["stake"] = validator.stake
    for field, value in zip(_TEXTS, values, strict=True):
        row[f"{field}_bytes"] = len(value)
        row[field][0, : len(value)] = np.frombuffer(value, np.uint8)
    return row


def write_roster(tables: tuple[Table, ...], undo: Undo, height: int, epoch_blocks: int, change: SetChange) -> None:
    """A block orders this change, which was checked. `undo` has room for `CHUNKS_MAX` chunks."""
    venue, rows, records = (tables[number] for number in (schema.VENUE, schema.VALIDATORS, schema.RECORDS))
    touch(venue, undo, 0)
    members = int(rows.count[0])
    for index, validator in enumerate(change.added, members):
        touch(rows, undo, index)
        touch(records, undo, index)
        row = rows.rows[index]
        for name in schema.KEY_ROW.names or ():
            row[name] = key_row(validator.public_key)[name]
        row["stake"], row["next_stake"] = 0, validator.stake
        row["since"] = int(venue.rows[0]["epoch"]) + 1
        records.rows[index] = record_row(validator)[0]
    for index, stake in change.stakes:
        touch(rows, undo, index)
        rows.rows[index]["next_stake"] = stake
    rows.count[0] = records.count[0] = members + len(change.added)
    venue.rows[0]["validators"] = members + len(change.added)
    venue.rows[0]["change_height"] = height - height % epoch_blocks + epoch_blocks


def turn_epoch(tables: tuple[Table, ...], undo: Undo) -> None:
    """The last block of an epoch is done: the next stakes are the stakes."""
    venue, rows = tables[schema.VENUE], tables[schema.VALIDATORS]
    touch(venue, undo, 0)
    count = int(rows.count[0])
    for index in range(count):
        touch(rows, undo, index)
    rows.rows["stake"][:count] = rows.rows["next_stake"][:count]
    row = venue.rows[0]
    row["epoch"] += 1
    row["change_height"] = 0
    row["stake"] = int(rows.rows["stake"][:count].sum())


def read_roster(tables: tuple[Table, ...], genesis: Genesis) -> Roster:
    """The roster that a state tells."""
    venue = tables[schema.VENUE].rows[0]
    count, epoch, height = int(tables[schema.VALIDATORS].count[0]), int(venue["epoch"]), int(venue["change_height"])
    rows, records = tables[schema.VALIDATORS].rows[:count], tables[schema.RECORDS].rows[:count]
    members = tuple(_member(row, record) for row, record in zip(rows, records, strict=True))
    present = [index for index in range(count) if int(rows[index]["since"]) <= epoch]
    validators = ValidatorSet(
        genesis.chain_id,
        tuple(members[index].public_key for index in present),
        tuple(int(rows[index]["stake"]) for index in present),
    )
    stakes = tuple(rows["next_stake"].tolist())
    pending = Pending(stakes, height) if height else None
    parameters = genesis.parameters
    return Roster(epoch, validators, members, pending, parameters.epoch_blocks, parameters.validators_max)


def set_in_force(venue: Array, validators: Array) -> tuple[bytes, tuple[int, ...]]:
    """(public keys, stakes) of the set that decides after a state, out of its rows."""
    present = validators[validators["since"] <= int(venue[0]["epoch"])]
    keys = np.stack([present[name] for name in schema.KEY_ROW.names or ()], axis=1)
    return keys.tobytes(), tuple(present["stake"].tolist())


def _member(row: Any, record: Any) -> Validator:
    key = b"".join(int(row[name]).to_bytes(8, "little") for name in schema.KEY_ROW.names or ())
    name, peer, client, certificate = (bytes(record[field][: int(record[f"{field}_bytes"])]) for field in _TEXTS)
    return Validator(name.decode(), key, int(record["stake"]), certificate, peer.decode(), client.decode())
