"""Lockstep: a derivatives venue whose whole state is kept identical on independent nodes.

The packages, from the ground up (imports point down only; `tests/test_layers.py` enforces it):

- `base`       ids, digests, keys, limits, errors
- `wire`       canonical encoding: commands, bundles, blocks, votes, certificates, messages, genesis
- `ledger`     tables, chunks, commitment, undo, proofs, snapshots
- `venue`      the deterministic derivatives engine: compiled kernels over tables
- `pool`       holding and spreading bundles; every bundle's one fate
- `consensus`  agreeing on order: Simplex
- `sync`       catching up from peers' certified blocks
- `node`       one replica: composes everything above into a single `step()`
- `runtime`    the real world: asyncio, TLS, disk, processes
- `simulator`  the other world: virtual time and seeded faults
- `gateway`    what a client program speaks
- `market`     a seeded market and recorded order flow, to drive a venue
- `dashboard`  the live terminal view
- `cli`        the `lockstep` command
"""

__version__ = "0.1.0"
