"""What is done to a network of real processes, and when: drawn from a seed."""

from dataclasses import dataclass
from random import Random
from typing import Final

from lockstep.simulator.chance import stream

PROFILES: Final = ("process", "network", "disk", "all")


@dataclass(frozen=True, slots=True)
class Kind:
    """How long one lasts, how often it is drawn compared with others, and in which profile."""

    profile: str
    seconds: tuple[float, float]
    weight: int = 1


KINDS: Final[dict[str, Kind]] = {
    # processes: SIGKILL of one, of several or all at once; SIGSTOP for longer than any timeout; a wrong clock
    "kill": Kind("process", (0.1, 2.0), 3),
    "kill_several": Kind("process", (0.1, 1.5), 2),
    "kill_all": Kind("process", (0.1, 0.5)),
    "pause": Kind("process", (0.5, 7.0), 3),
    "clock": Kind("process", (1.0, 4.0)),
    # the network: of one pair, or of one validator and all the others
    "late": Kind("network", (1.0, 5.0), 2),
    "trickle": Kind("network", (1.0, 4.0)),
    "cut": Kind("network", (0.2, 4.0), 2),
    "partition": Kind("network", (0.5, 4.0), 2),
    "swallow": Kind("network", (0.5, 6.0), 2),
    "one_way": Kind("network", (0.5, 6.0)),
    "flip": Kind("network", (0.5, 2.0), 2),
    "copies": Kind("network", (0.5, 1.0)),
    "strangers": Kind("network", (0.5, 4.0)),
    # the disk: no file may grow any more, so that a write fails
    "full": Kind("disk", (0.5, 2.0), 2),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: seconds since the start, what, to whom, how long, and a number for what else must be drawn."""

    at: float
    kind: str
    nodes: tuple[int, ...]
    seconds: float
    amount: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A run."""

    seed: int
    profile: str
    validators: int
    seconds: int
    faults: tuple[Fault, ...]


def draw_plan(seed: int, profile: str, validators: int, seconds: int) -> Plan:
    """The plan of a seed. Every kind of the profile comes up in turn before one comes up again, so that a short run
    has several."""
    random = stream(seed, f"chaos {profile}")
    kinds = [name for name, kind in KINDS.items() if profile in ("all", kind.profile) for _ in range(kind.weight)]
    faults: list[Fault] = []
    left: list[str] = []
    at = random.uniform(0.2, 1.0)
    while at < seconds:
        if not left:
            left = random.sample(kinds, len(kinds))
        faults.append(_draw(random, left.pop(), validators, at))
        at += random.uniform(0.3, 1.5)
    return Plan(seed, profile, validators, seconds, tuple(faults))


def _draw(random: Random, kind: str, validators: int, at: float) -> Fault:
    count = 1
    if kind == "kill_all":
        count = validators
    elif kind in ("kill_several", "partition"):
        count = random.randint(2, max(2, validators - 1))
    elif kind in ("cut", "one_way", "late", "trickle") and random.randrange(2):
        count = 2
    nodes = tuple(sorted(random.sample(range(validators), count)))
    low, high = KINDS[kind].seconds
    return Fault(round(at, 3), kind, nodes, round(random.uniform(low, high), 3), random.getrandbits(30))
