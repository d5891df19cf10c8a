"""Faults on real nodes: processes, sockets and disks as they are, disturbed by a seeded plan, judged by the simulator's
checkers.

The simulator runs the replica with everything around it made up; what it leaves out is the runtime. Here a network of
real processes runs on loopback. Validators reach each other through a `proxy` that delays, throttles, cuts, swallows
and corrupts; the `saboteur` kills and stops processes, sets their clocks wrong and fills their disks, as a `plan` drawn
from a seed says; `clients` trade through all nodes meanwhile and keep what they were told. At the end everybody is
healed, must agree and go on; then the nodes' own files are read (`autopsy`) into a `simulator.history.History` and go
through the very checkers that judge simulated runs.

A seed fixes the plan and what clients order, not what happens: processes and sockets have their own time. What a run
leaves is therefore kept when something was violated.
"""
