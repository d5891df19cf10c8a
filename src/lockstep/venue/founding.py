"""Block 0: the rows that a genesis file asks for."""

from typing import Any

import numpy as np

from lockstep.ledger.table import CHUNK_BYTES, Table, Undo, touch
from lockstep.venue import schema
from lockstep.venue.roster_rows import record_row
from lockstep.wire.genesis import Genesis


def found(genesis: Genesis, tables: tuple[Table, ...], undo: Undo) -> None:
    """Fill the tables of a new venue. Books are empty, and every instrument is stale until prices come."""
    sizes = schema.sizes_of(genesis)
    empty = {schema.LEVELS, schema.LADDER, schema.CLIENT_IDS, schema.OBSERVATIONS}
    for number in empty:
        tables[number].count[0] = sizes.capacities[number]
    for number in (schema.ORDERS, schema.ORDER_LINKS, schema.POSITIONS):
        tables[number].count[0] = 1
    filled = {
        schema.VENUE: _venue(genesis),
        schema.INSTRUMENTS: _instruments(genesis, sizes),
        schema.VALIDATORS: _validators(genesis),
        schema.ACCOUNTS: _accounts(genesis),
        schema.KEYS: _keys([account.public_key for account in genesis.accounts]),
        schema.RECORDS: np.concatenate([record_row(validator) for validator in genesis.validators]),
    }
    for number, rows in filled.items():
        _fill(tables[number], undo, rows)


def _fill(table: Table, undo: Undo, rows: "np.ndarray[Any, Any]") -> None:
    for row in range(0, len(rows), CHUNK_BYTES // rows.itemsize):
        touch(table, undo, row)
    table.rows[: len(rows)] = rows
    table.count[0] = len(rows)


def _venue(genesis: Genesis) -> "np.ndarray[Any, Any]":
    rows = np.zeros(1, schema.VENUE_ROW)
    parameters = genesis.parameters
    values = {
        "time_ms": genesis.time_ms,
        "slot_bits": parameters.orders_max.bit_length() - 1,
        "bridge_account": genesis.bridge_account,
        "fee_account": genesis.fee_account,
        "insurance_account": genesis.insurance_account,
        "accounts": len(genesis.accounts),
        "accounts_max": parameters.accounts_max,
        "orders_max": parameters.orders_max,
        "positions_max": parameters.positions_max,
        "instruments": len(genesis.instruments),
        "validators": len(genesis.validators),
        "price_age_ms_max": parameters.price_age_ms_max,
        "stake": sum(validator.stake for validator in genesis.validators),
        "deposited": sum(account.balance for account in genesis.accounts),
    }
    for name, value in values.items():
        rows[name] = value
    return rows


def _instruments(genesis: Genesis, sizes: schema.Sizes) -> "np.ndarray[Any, Any]":
    rows = np.zeros(len(genesis.instruments), schema.INSTRUMENT_ROW)
    for name in (
        "tick_value",
        "price_ticks",
        "position_lots_max",
        "maker_fee_ppm",
        "taker_fee_ppm",
        "initial_margin_ppm",
        "maintenance_margin_ppm",
        "price_band_ppm",
    ):
        rows[name] = [getattr(instrument, name) for instrument in genesis.instruments]
    rows["levels_first"] = sizes.levels_first
    rows["ladder_first"] = sizes.ladder_first
    rows["stale"] = 1
    return rows


def _validators(genesis: Genesis) -> "np.ndarray[Any, Any]":
    rows = np.zeros(len(genesis.validators), schema.VALIDATOR_ROW)
    keys = _keys([validator.public_key for validator in genesis.validators])
    for name in schema.KEY_ROW.names or ():
        rows[name] = keys[name]
    rows["stake"] = rows["next_stake"] = [validator.stake for validator in genesis.validators]
    return rows


def _accounts(genesis: Genesis) -> "np.ndarray[Any, Any]":
    rows = np.zeros(len(genesis.accounts), schema.ACCOUNT_ROW)
    rows["balance"] = [account.balance for account in genesis.accounts]
    return rows


def _keys(keys: list[bytes]) -> "np.ndarray[Any, Any]":
    return np.frombuffer(b"".join(keys), schema.KEY_ROW)
