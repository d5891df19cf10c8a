"""Randomness of a run: one stream for each subsystem, derived from the seed by name.

A subsystem that draws once more, or once less, changes its own stream only. Probabilities are ratios of integers.
"""

from random import Random

from lockstep.base.digest import digest


def stream(seed: int, label: str) -> Random:
    """The stream of this name. The same in every process: nothing depends on `hash()`."""
    return Random(int.from_bytes(digest(f"lockstep/simulator/{label}/{seed}".encode()), "little"))


def chance(random: Random, numerator: int, denominator: int) -> bool:
    """True with this probability. An impossible thing draws nothing."""
    return numerator > 0 and random.randrange(denominator) < numerator
