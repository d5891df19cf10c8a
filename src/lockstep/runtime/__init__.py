"""The real world: it drives a `Replica` with sockets, disks, threads and the clock.

One event loop thread owns the replica. Whatever an effect asks for is carried out in the order given, by the part
that it belongs to:

- `transport`  connections to the other validators, over `tls`, in frames (`frame`), accepted by a `listener`
- `server`     connections of clients
- `storage`    one thread: the log (`log`, in segment files: `segment`), with group commit
- `archive`    one thread: event `history`, the index, and checkpoints in the `store`
- `serving`    one thread: reads of old blocks and fates, for peers and clients that ask
- `execution`  one thread: the executor, whose kernels release the interpreter lock
- `node`       wires them together and runs the loop (`driver`); `home` is the folder that a node lives in

Parts never wait for each other: work goes out through bounded queues and comes back as events. When one of the
threads fails, the node stops (`failure`): a write that may not have happened is never taken for one that has.
"""
