"""Randomness of a run: one stream for each subsystem, derived from the seed by name.

A subsystem that draws once more, or once less, changes its own stream only. Probabilities are ratios of integers.
"""

from random import Random

from lockstep.base.digest import digest


def stream(seed: int, label: str) -> Random:
    """The stream of this name. The same in every process: nothing depends on `hash()`."""
    return Random(int.from_bytes(digest(f"lockstep/simulator/{label}/{seed}".encode()), "little"))


def draw(random: Random, low: int, high: int) -> int:
    """One of `low … high`, both included. One call of `Random` where `randint` is five; the bias is below 2^-28 for
    fewer than a million values, which is what it is for."""
    return low + (random.getrandbits(48) * (high - low + 1) >> 48)


def chance(random: Random, numerator: int, denominator: int) -> bool:
    """True with this probability. An impossible thing draws nothing."""
    return numerator > 0 and random.randrange(denominator) < numerator
