"""The deterministic derivatives engine: books, positions, collateral and prices, as compiled kernels over tables.

A `Venue` owns a ledger and executes one block at a time. In order: observations become mark prices (`marks`),
each command of each bundle is carried out (`run` dispatches to `place`, `cancel` and `money`), and a bounded number
of accounts is checked against the maintenance rule (`liquidation`). Every command leaves exactly one outcome
record among the block's events (`event`). The tables are listed in `schema`.

What always holds between blocks, to the micro-unit: the sum of balances minus the sum of entry notionals is what
was deposited minus what was withdrawn; the positions of an instrument sum to zero; no book is crossed.
"""
