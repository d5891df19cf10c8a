"""Genesis: everything that a chain starts from, as one JSON file. The chain id is its BLAKE3 digest.

The file is canonical JSON (msgspec, field order as declared, no spaces), so that its digest is well defined.
"""

import base64
from pathlib import Path
from typing import Final

import msgspec

from lockstep.base.digest import digest
from lockstep.base.errors import ConfigurationError
from lockstep.base.keys import PUBLIC_KEY_BYTES
from lockstep.base.limits import (
    BALANCE_MAX,
    INSTRUMENTS_MAX,
    ORDER_LOTS_MAX,
    POSITION_NOTIONAL_MAX,
    PRICE_TICKS_MAX,
    VALIDATORS_MAX,
)

STAKE_TOTAL_MAX: Final = 1 << 60
NAME_BYTES_MAX: Final = 64
ADDRESS_BYTES_MAX: Final = 96
CERTIFICATE_BYTES_MAX: Final = 752
"""A validator's record fits a row of 1024 bytes."""


class Validator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A validator: its name, Ed25519 public key (base64 in JSON), stake, TLS certificate (DER) and addresses."""

    name: str
    public_key: bytes
    stake: int
    certificate: bytes
    peer_address: str
    client_address: str


class Instrument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A perpetual contract. One lot at one tick of price is worth `tick_value` micro-USD."""

    symbol: str
    tick_value: int
    price_ticks: int
    """Prices are 1 … price_ticks - 1; a power of two of at least 4096."""
    position_lots_max: int
    maker_fee_ppm: int
    taker_fee_ppm: int
    """Of notional, parts per million; a negative maker fee is a rebate and may not exceed the taker fee."""
    initial_margin_ppm: int
    maintenance_margin_ppm: int
    price_band_ppm: int
    """Orders further than this from the mark are rejected; liquidations trade within it."""


class Account(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An account open from the start. Its number is its place in the list."""

    public_key: bytes
    balance: int


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sizes and times that are part of the protocol of this chain."""

    delta_ms: int = 250
    """Simplex's Δ: an upper bound on a message's delay when the network is well."""
    idle_block_ms: int = 200
    """With nothing to order, a leader waits this long before it proposes an empty block. Below 2Δ."""
    block_commands_max: int = 20_480
    checkpoint_interval_blocks: int = 512
    price_age_ms_max: int = 3_000
    """An observation older than this (by block time) does not count towards the mark price."""
    accounts_max: int = 65_536
    orders_max: int = 262_144
    positions_max: int = 262_144
    epoch_blocks: int = 1_024
    """A change of validators takes effect after a block whose height is a multiple of this."""
    validators_max: int = 64
    """Validators that the chain can ever have; those that left are counted."""


class Genesis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The start of a chain."""

    name: str
    time_ms: int
    validators: tuple[Validator, ...]
    instruments: tuple[Instrument, ...]
    accounts: tuple[Account, ...]
    bridge_account: int
    fee_account: int
    insurance_account: int
    parameters: Parameters = Parameters()

    def encode(self) -> bytes:
        """Canonical JSON."""
        return msgspec.json.encode(self)

    @property
    def chain_id(self) -> bytes:
        """BLAKE3 of the canonical JSON, 32 bytes."""
        return digest(self.encode())


def decode_genesis(data: bytes) -> Genesis:
    """Parse and check a genesis file; `ConfigurationError` says what is wrong with it."""
    try:
        genesis = msgspec.json.decode(data, type=Genesis)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"genesis is not valid: {error}") from error
    check_genesis(genesis)
    return genesis


def load_genesis(path: Path) -> Genesis:
    """Read `path` as a genesis file."""
    try:
        return decode_genesis(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"cannot read the genesis file {path}: {error.strerror}") from error


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigurationError(f"genesis is not valid: {message}")


def check_genesis(genesis: Genesis) -> None:
    """Check every bound that the engine later relies on."""
    most = genesis.parameters.validators_max
    _require(1 <= most <= VALIDATORS_MAX, f"validators_max must be 1 to {VALIDATORS_MAX}")
    _require(1 <= len(genesis.validators) <= most, f"1 to {most} validators are needed (validators_max)")
    _require(1 <= len(genesis.instruments) <= INSTRUMENTS_MAX, f"1 to {INSTRUMENTS_MAX} instruments are needed")
    _require(len(genesis.accounts) <= genesis.parameters.accounts_max, "more accounts than accounts_max")
    keys = [validator.public_key for validator in genesis.validators]
    _require(len(set(keys)) == len(keys), "two validators have the same key")
    total = sum(v.stake for v in genesis.validators)
    _require(0 < total < STAKE_TOTAL_MAX, "the total stake is zero, or too large")
    for validator in genesis.validators:
        _require(len(validator.public_key) == PUBLIC_KEY_BYTES, f"validator {validator.name}: bad key size")
        fault = fault_of_record(validator)
        _require(not fault, f"validator {validator.name}: {fault}")
    for name in ("bridge_account", "fee_account", "insurance_account"):
        _require(0 <= getattr(genesis, name) < len(genesis.accounts), f"{name} is not an account")
    for number, account in enumerate(genesis.accounts):
        _require(len(account.public_key) == PUBLIC_KEY_BYTES, f"account {number}: bad key size")
        _require(account.balance >= 0, f"account {number}: negative balance")
    _require(sum(a.balance for a in genesis.accounts) <= BALANCE_MAX, "the total balance is too large")
    for instrument in genesis.instruments:
        _check_instrument(instrument)
    _check_parameters(genesis.parameters)


def fault_of_record(validator: Validator) -> str:
    """What is wrong with a validator's record, its key apart; empty when nothing is."""
    if not 0 <= validator.stake < STAKE_TOTAL_MAX:
        return "stake must not be negative, nor too large"
    if not 1 <= len(validator.name.encode()) <= NAME_BYTES_MAX:
        return f"a name has 1 to {NAME_BYTES_MAX} bytes"
    if max(len(validator.peer_address.encode()), len(validator.client_address.encode())) > ADDRESS_BYTES_MAX:
        return f"an address has at most {ADDRESS_BYTES_MAX} bytes"
    if len(validator.certificate) > CERTIFICATE_BYTES_MAX:
        return f"a TLS certificate has at most {CERTIFICATE_BYTES_MAX} bytes"
    return ""


def _check_instrument(i: Instrument) -> None:
    ticks = i.price_ticks
    _require(
        4096 <= ticks <= PRICE_TICKS_MAX and ticks & (ticks - 1) == 0,
        f"{i.symbol}: price_ticks must be a power of two from 4096 to {PRICE_TICKS_MAX}",
    )
    _require(0 < i.position_lots_max <= ORDER_LOTS_MAX, f"{i.symbol}: bad position_lots_max")
    _require(
        i.tick_value > 0 and i.position_lots_max * ticks * i.tick_value <= POSITION_NOTIONAL_MAX,
        f"{i.symbol}: position_lots_max x price_ticks x tick_value exceeds {POSITION_NOTIONAL_MAX}",
    )
    _require(
        0 <= i.taker_fee_ppm <= 100_000 and -i.taker_fee_ppm <= i.maker_fee_ppm <= 100_000, f"{i.symbol}: bad fees"
    )
    _require(0 < i.maintenance_margin_ppm <= i.initial_margin_ppm <= 1_000_000, f"{i.symbol}: bad margins")
    _require(0 < i.price_band_ppm <= 1_000_000, f"{i.symbol}: bad price band")


def _check_parameters(p: Parameters) -> None:
    _require(1 <= p.delta_ms <= 60_000, "delta_ms must be 1 to 60000")
    _require(0 <= p.idle_block_ms < 2 * p.delta_ms, "idle_block_ms must be below 2 x delta_ms")
    _require(1 <= p.block_commands_max <= 65_536, "block_commands_max must be 1 to 65536")
    _require(1 <= p.checkpoint_interval_blocks <= 1 << 20, "bad checkpoint_interval_blocks")
    _require(1 <= p.price_age_ms_max <= 600_000, "bad price_age_ms_max")
    _require(1 <= p.epoch_blocks <= 1 << 20, "epoch_blocks must be 1 to 2^20")
    for name in ("accounts_max", "orders_max", "positions_max"):
        value = getattr(p, name)
        _require(
            1024 <= value <= 1 << 26 and value & (value - 1) == 0,
            f"{name} must be a power of two from 1024 to 2^26",
        )


def base64_text(data: bytes) -> str:
    """Standard base64, as in the genesis JSON."""
    return base64.b64encode(data).decode()
