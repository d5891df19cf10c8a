"""The state is files: tables of fixed-width rows, committed to by the ordinary BLAKE3 hash of their bytes.

`ledger.Ledger` owns the memory. A block is an *epoch*: `begin` hands out the `Undo` through which kernels write (by
`table.touch`, which saves each chunk before its first change), `seal` returns the state root, and then `commit`
makes the oldest epoch final or `rollback` takes the newest one back, exactly.

    table      rows, chunks, and the one way to write           undo       pre-images
    tree       the BLAKE3 trees, updated where chunks changed   manifest   what the state root is the hash of
    changes    checkpoints: the committed state's new chunks    proof      a row or a record, shown to anyone
    snapshot   the committed state as a folder for `b3sum`      warm       compiling ahead of time

    blake3, compress, vector, constants, kernel    sixteen chunks hashed side by side, and how kernels are compiled

Everything is deterministic and in memory; only `snapshot` touches the disk.
"""
