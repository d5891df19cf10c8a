"""Compiling, or loading from the cache, all kernels that a running node needs of the ledger (proofs need one more)."""

import numpy as np

from lockstep.ledger.ledger import Ledger, TableLayout

_ROW = np.dtype([("value", "<i8")])


def warm_up() -> None:
    """Take a tiny ledger through everything once. Takes some seconds when nothing is cached."""
    ledger = Ledger([TableLayout("warm_up", _ROW, 1)])
    for undone in (True, False):
        ledger.begin()
        ledger.seal()
        if undone:
            ledger.rollback()
    ledger.committed_bytes(0)
    ledger.commit()
    ledger.checkpoint()
    ledger.begin()
    ledger.checkpoint()
    ledger.committed_bytes(0)
