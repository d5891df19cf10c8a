"""The tables, their rows, and how many rows they have room for.

Row 0 of `orders`, `order_links` and `positions` stays empty: slot 0 means "none" in every link, and price 0 means
"none" in every best price. Slots are reused last-freed first, so that a block dirties few chunks. Money is in
micro-USD, prices in ticks, sizes in lots.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from lockstep.ledger.ledger import TableLayout
from lockstep.wire.genesis import ADDRESS_BYTES_MAX, CERTIFICATE_BYTES_MAX, NAME_BYTES_MAX, Genesis

VENUE: Final = 0
INSTRUMENTS: Final = 1
VALIDATORS: Final = 2
OBSERVATIONS: Final = 3
ACCOUNTS: Final = 4
KEYS: Final = 5
ORDERS: Final = 6
ORDER_LINKS: Final = 7
LEVELS: Final = 8
LADDER: Final = 9
CLIENT_IDS: Final = 10
POSITIONS: Final = 11
RECORDS: Final = 12
TABLES: Final = 13

VENUE_ROW: Final = np.dtype(
    [
        ("height", "<i8"),
        ("time_ms", "<i8"),
        ("serial", "<i8"),  # of the last order id given out
        ("slot_bits", "<u4"),  # an order id is serial << slot_bits | slot
        ("orders_free", "<u4"),  # head of the list of freed slots, linked through level_next of their links
        ("orders_used", "<u4"),  # slots ever used
        ("positions_free", "<u4"),  # linked through next
        ("positions_used", "<u4"),
        ("scan_cursor", "<u4"),  # next account for the maintenance check
        ("scan_left", "<u4"),  # accounts to check until the round is over
        ("bridge_account", "<u4"),
        ("fee_account", "<u4"),
        ("insurance_account", "<u4"),
        ("accounts", "<u4"),  # accounts opened
        ("accounts_max", "<u4"),
        ("orders_max", "<u4"),
        ("positions_max", "<u4"),
        ("instruments", "<u4"),
        ("validators", "<u4"),
        ("price_age_ms_max", "<i8"),
        ("stake", "<i8"),  # of all validators
        ("deposited", "<i8"),  # genesis balances and deposits, less withdrawals
        ("commands", "<i8"),
        ("fills", "<i8"),
        ("orders_open", "<i8"),
        ("liquidations", "<i8"),
        ("insurance_paid", "<i8"),
        ("shortfalls", "<i8"),  # accounts now left negative, insurance being empty
        ("epoch", "<i8"),  # changes of validators that took effect
        ("change_height", "<i8"),  # of this epoch's last block while a change is pending, else 0
        ("reserved", "<u8", (10,)),
    ]
)

INSTRUMENT_ROW: Final = np.dtype(
    [
        ("tick_value", "<i8"),
        ("price_ticks", "<i8"),
        ("position_lots_max", "<i8"),
        ("maker_fee_ppm", "<i8"),
        ("taker_fee_ppm", "<i8"),
        ("initial_margin_ppm", "<i8"),
        ("maintenance_margin_ppm", "<i8"),
        ("price_band_ppm", "<i8"),
        ("levels_first", "<i8"),  # row of price 0 in `levels`
        ("ladder_first", "<i8"),  # this instrument's first word in `ladder`
        ("mark", "<i8"),  # last known mark price; 0 before the first
        ("lot_value", "<i8"),  # of one lot at the mark
        ("lot_margin", "<i8"),  # initial margin of one lot held, at the mark, rounded up
        ("lot_fee", "<i8"),  # the largest taker fee of one lot within the band, rounded up
        ("lowest", "<i8"),  # the band around the mark
        ("highest", "<i8"),
        ("best_bid", "<i8"),
        ("best_ask", "<i8"),
        ("last_price", "<i8"),
        ("open_interest", "<i8"),  # lots held long
        ("volume", "<i8"),  # lots ever traded
        ("stale", "<u8"),  # 1 when too little stake has a fresh price
        ("reserved", "<u8", (10,)),
    ]
)

KEY_ROW: Final = np.dtype([("key_0", "<u8"), ("key_1", "<u8"), ("key_2", "<u8"), ("key_3", "<u8")])
"""The 32 bytes of a public key, as OPEN_ACCOUNT spells them."""

VALIDATOR_ROW: Final = np.dtype(
    [
        *KEY_ROW.descr,
        ("stake", "<i8"),
        ("next_stake", "<i8"),  # from the next epoch on
        ("since", "<i8"),  # the first epoch whose set lists it
        ("reserved", "<u8"),
    ]
)

RECORD_ROW: Final = np.dtype(
    [
        ("stake", "<i8"),  # that it came with
        ("name_bytes", "<u2"),
        ("peer_address_bytes", "<u2"),
        ("client_address_bytes", "<u2"),
        ("certificate_bytes", "<u2"),
        ("name", "u1", (NAME_BYTES_MAX,)),
        ("peer_address", "u1", (ADDRESS_BYTES_MAX,)),
        ("client_address", "u1", (ADDRESS_BYTES_MAX,)),
        ("certificate", "u1", (CERTIFICATE_BYTES_MAX,)),
    ]
)
"""How a validator is called and reached, by its index: what a node needs to connect to one that joined later."""

OBSERVATION_ROW: Final = np.dtype([("price", "<i8"), ("time_ms", "<i8")])
"""Row validator * instruments + instrument; price 0 is no opinion."""

ACCOUNT_ROW: Final = np.dtype(
    [
        ("balance", "<i8"),
        ("next_sequence", "<u8"),
        ("realised", "<i8"),  # profit ever realised
        ("fees_paid", "<i8"),  # ever, rebates deducted
        ("opened_height", "<i8"),
        ("first_order", "<u4"),
        ("open_orders", "<u4"),
        ("first_position", "<u4"),
        ("positions", "<u4"),
        ("shortfall", "<u4"),  # 1 while left negative with no position
        ("client_ids_second", "<u4"),  # client ids in the second of their two buckets
    ]
)

ORDER_ROW: Final = np.dtype(
    [
        ("id", "<i8"),  # 0 in a free slot
        ("client_id", "<u8"),
        ("price", "<u4"),
        ("remaining", "<u4"),
        ("position", "<u4"),  # of the account that placed it: the position's row names the account
        ("instrument", "u1"),
        ("side", "u1"),
        ("flags", "u1"),
        ("reserved", "u1"),
    ]
)

ORDER_LINK_ROW: Final = np.dtype(
    [("level_next", "<u4"), ("level_previous", "<u4"), ("account_next", "<u4"), ("account_previous", "<u4")]
)
"""The order in the same slot: its neighbours in its price level's queue and in its account's list. Apart from
`orders`, because entering and removing an order writes to neighbours, which lie anywhere."""

LEVEL_ROW: Final = np.dtype([("first", "<u4"), ("last", "<u4"), ("size", "<i8")])

LADDER_ROW: Final = np.dtype([("bits", "<u8")])

CLIENT_ID_ROW: Final = np.dtype([("entry", "<u4")])

POSITION_ROW: Final = np.dtype(
    [
        ("size", "<i8"),  # lots, negative when short
        ("entry", "<i8"),  # signed cost of `size`
        ("realised", "<i8"),  # since the position was opened
        ("open_buy_value", "<i8"),  # lots x price of resting buy orders, reduce-only ones left out
        ("open_sell_value", "<i8"),
        ("open_buy", "<u4"),  # lots of the same
        ("open_sell", "<u4"),
        ("orders", "<u4"),  # resting orders, reduce-only ones included
        ("account", "<u4"),
        ("instrument", "<u4"),
        ("next", "<u4"),  # of the account's positions
    ]
)

BUNDLE_SPAN: Final = np.dtype(
    [("account", "<u4"), ("first", "<u4"), ("count", "<u4"), ("reserved", "<u4"), ("sequence", "<u8")]
)
"""Which commands of a block are one account's bundle. Not state: an argument of `Venue.execute`."""

ROWS: Final = (
    ("venue", VENUE_ROW),
    ("instruments", INSTRUMENT_ROW),
    ("validators", VALIDATOR_ROW),
    ("observations", OBSERVATION_ROW),
    ("accounts", ACCOUNT_ROW),
    ("keys", KEY_ROW),
    ("orders", ORDER_ROW),
    ("order_links", ORDER_LINK_ROW),
    ("levels", LEVEL_ROW),
    ("ladder", LADDER_ROW),
    ("client_ids", CLIENT_ID_ROW),
    ("positions", POSITION_ROW),
    ("records", RECORD_ROW),
)
"""Name and row layout by table number."""

CLIENT_IDS_PER_ORDER: Final = 4
"""Entries of the client id index for each order that the venue can hold."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Where each instrument's rows begin, and how many rows the tables have."""

    capacities: tuple[int, ...]
    levels_first: tuple[int, ...]
    ladder_first: tuple[int, ...]


def ladder_words(price_ticks: int) -> int:
    """Words of an instrument's bitmap: one bit a tick, then one bit a word below, up to a single word."""
    total, words = 0, price_ticks
    while words > 1:
        words = -(-words // 64)
        total += words
    return total


def sizes_of(genesis: Genesis) -> Sizes:
    """Table sizes of a chain."""
    levels, ladder = [0], [0]
    for instrument in genesis.instruments:
        levels.append(levels[-1] + instrument.price_ticks)
        ladder.append(ladder[-1] + ladder_words(instrument.price_ticks))
    parameters = genesis.parameters
    capacities = (
        1,
        len(genesis.instruments),
        parameters.validators_max,
        parameters.validators_max * len(genesis.instruments),
        parameters.accounts_max,
        parameters.accounts_max,
        parameters.orders_max,
        parameters.orders_max,
        levels[-1],
        ladder[-1],
        parameters.orders_max * CLIENT_IDS_PER_ORDER,
        parameters.positions_max,
        parameters.validators_max,
    )
    return Sizes(capacities, tuple(levels[:-1]), tuple(ladder[:-1]))


def layouts(genesis: Genesis) -> list[TableLayout]:
    """The ledger's tables, by table number."""
    capacities = sizes_of(genesis).capacities
    return [TableLayout(name, dtype, rows) for (name, dtype), rows in zip(ROWS, capacities, strict=True)]
