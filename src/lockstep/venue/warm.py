"""Compiling, or loading from the cache, everything that a block needs: before the first block, with time to say so."""

import numpy as np

from lockstep.venue.schema import BUNDLE_SPAN
from lockstep.venue.venue import Venue
from lockstep.wire.command import COMMAND
from lockstep.wire.genesis import Account, Genesis, Instrument, Parameters, Validator
from lockstep.wire.observation import OBSERVATION


def tiny_genesis() -> Genesis:
    """The smallest genesis: one validator, one instrument, one account."""
    return Genesis(
        name="warm-up",
        time_ms=0,
        validators=(Validator("warm-up", bytes(32), 1, b"", "", ""),),
        instruments=(Instrument("WARM-UP", 1, 4096, 1, 0, 0, 1_000_000, 1_000_000, 1_000_000),),
        accounts=(Account(bytes(32), 1),),
        bridge_account=0,
        fee_account=0,
        insurance_account=0,
        parameters=Parameters(accounts_max=1024, orders_max=1024, positions_max=1024),
    )


def warm_up() -> None:
    """Run one block with one command, checkpoint, and roll it back. Takes half a minute when nothing is cached."""
    venue = Venue(tiny_genesis())
    spans = np.zeros(1, BUNDLE_SPAN)
    spans["count"] = 1
    venue.execute(1, 1, np.zeros(1, OBSERVATION), spans, np.zeros(1, COMMAND))
    venue.ledger.checkpoint()  # with an epoch open: the kernels that look beneath it are needed too
    venue.rollback()
