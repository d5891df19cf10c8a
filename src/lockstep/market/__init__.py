"""A market to drive a venue with: seeded, or recorded.

`index` walks the prices that validators observe; `flow` writes what traders do about them, as command columns;
`mischief` makes traffic that must be refused; `driver` signs, sends, follows every bundle to its fate and measures.
`replay` maps recorded order flow (LOBSTER, Bitstamp level 3) to the venue's commands instead.

This is a client of the venue like any other, outside the determinism boundary. The same seed still gives the same
prices and the same scripts of commands; what a run adds is timing.
"""
