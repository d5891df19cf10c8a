"""Every bound in one place. Nothing from outside is read, queued or retried without one of these.

Units come last in the name. A limit that both sides of a wire must agree on is part of the protocol
and is marked so; changing it is a protocol change.
"""

from typing import Final

# -- protocol: all nodes must agree ------------------------------------------------------------
COMMAND_WIDTH_BYTES: Final = 40
BUNDLE_COMMANDS_MAX: Final = 1024
BLOCK_COMMANDS_MAX: Final = 65_536
BLOCK_BUNDLES_MAX: Final = 4_096
VALIDATORS_MAX: Final = 128
SET_CHANGE_BYTES_MAX: Final = 64 * 1024
INSTRUMENTS_MAX: Final = 256
SPECULATIVE_DEPTH_MAX: Final = 8
"""Blocks that may be executed beyond the final height. A validator does not vote further ahead."""
EMPTY_DEPTH_MAX: Final = 64
"""Blocks without bundles may go this far beyond the final height. Without them the chain could stall for ever: when
messages are late for a while, eight blocks can get notarized in views that too many validators gave up on; none of
them becomes final by itself, and only a block above them can make them so."""
BUNDLE_LIFETIME_BLOCKS_MAX: Final = 10_000
"""How far ahead of the current height a bundle's valid-until height may lie."""
FILLS_PER_COMMAND_MAX: Final = 256
"""Makers that one taker may meet. A remainder beyond it is cancelled with a reason, so work is bounded."""
CANCELS_PER_COMMAND_MAX: Final = 1_024
POSITIONS_PER_ACCOUNT_MAX: Final = 64
OPEN_ORDERS_PER_ACCOUNT_MAX: Final = 1_024

# -- numbers: all fit int64 with room, so no sum or product below can overflow -------------------
PRICE_TICKS_MAX: Final = 1 << 24
ORDER_LOTS_MAX: Final = 1 << 31
POSITION_NOTIONAL_MAX: Final = 1 << 52
"""Largest |position| x price x tick value of one account in one instrument, micro-USD (about 4.5e9 USD)."""
BALANCE_MAX: Final = 1 << 60
AMOUNT_MAX: Final = 1 << 52
"""Largest amount of one transfer, deposit or withdrawal, micro-USD."""

# -- wire ----------------------------------------------------------------------------------------
FRAME_BYTES_MAX: Final = 8 * 1024 * 1024
CLIENT_FRAME_BYTES_MAX: Final = 256 * 1024

# -- a node's own ----------------------------------------------------------------------------------
POOL_BYTES_MAX: Final = 64 * 1024 * 1024
POOL_BUNDLES_PER_ACCOUNT_MAX: Final = 256
FIRST_OBSERVER: Final = 1 << 16
"""Peers from this number on don't vote; the world numbers them, each connection anew. Below are validators' indices."""
BLOCK_TIME_AHEAD_MS_MAX: Final = 1_000
"""A block stamped further than this ahead of the validator's clock is not voted for."""
