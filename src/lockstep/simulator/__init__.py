"""The other world: the same replicas, log and venue under virtual time, with seeded faults.

A `world` is an event heap, a `network`, and nodes (`simulated_node`), each with a disk of sectors (`disk`), a clock and
perhaps a `behaviour`. A `plan` follows from a seed: the network, the load, and a schedule of faults that a `saboteur`
carries out while `traders` trade. A `run` has two phases: in the first everything may happen, in the second a quorum is
healed and must converge. It leaves a `history`, which the `checkers` judge without trusting the code that made it. A
`campaign` is many runs in several processes; `shrink` looks for fewer faults that still fail.
"""
