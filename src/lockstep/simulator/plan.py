"""What is to happen in a run, drawn from the seed before it begins: the network, the load, and a schedule of faults.

Each seed draws its own subset of fault kinds and its own rates (swarm testing: Groce et al., "Swarm Testing", 2012):
runs in which everything goes wrong all the time rarely get anywhere interesting.

Up to f by stake may be faulty for good: Byzantine, or with a disk that lies, or rebuilt from nothing. The other
validators crash, pause, lose power, are cut off, have slow or full disks and wrong clocks, but remember what they
made durable.
"""

from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from lockstep.simulator.byzantine import BEHAVIOURS
from lockstep.simulator.chance import chance, stream
from lockstep.simulator.fault import DISTURBING, KINDS, LYING, MEDDLING, STANDSTILL, Fault
from lockstep.simulator.machine import Machine, draw_machines, draw_retention

PROFILES: Final = ("swarm", "wan", "lan", "byzantine", "disk", "sync")
SECOND: Final = 1_000_000
_TABLES: Final = {"swarm": ("lan", "lan", "aws", "cities"), "wan": ("aws", "cities"), "lan": ("lan",),
                  "byzantine": ("lan", "lan", "aws"), "disk": ("lan",), "sync": ("lan",) * 5 + ("aws",)}  # fmt: skip
_DELTA_MS: Final = {"lan": 50, "aws": 250, "cities": 400}
TWINS: Final = "twins"
EPOCH_BLOCKS: Final = 16


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. All of it follows from (seed, profile, validators, seconds); `--shrink` leaves out faults."""

    seed: int
    profile: str
    stakes: tuple[int, ...]
    seconds: int
    table: str
    delta_ms: int
    idle_block_ms: int
    streams: bool
    bytes_per_second: int
    machines: tuple[Machine, ...]
    checkpoint_interval: int
    clock_offsets_us: tuple[int, ...]
    clock_drifts_ppm: tuple[int, ...]
    traders: int
    pause_us: tuple[int, int]
    """Between a client's bundles."""
    behaviours: dict[int, str] = field(default_factory=dict)
    """Byzantine validators → behaviour, or `twins`."""
    faulty: tuple[int, ...] = ()
    """Whose word does not count: Byzantine, lying disks, rebuilt."""
    left_out: tuple[int, ...] = ()
    """Honest validators that are not healed for the liveness phase."""
    faults: tuple[Fault, ...] = ()
    epoch_blocks: int | None = None
    """Where the validator set may change; None: as genesis has it by default, which no run reaches."""
    joining: dict[int, int] = field(default_factory=dict)
    """Validators that are not there at the beginning → microseconds after which their empty home starts."""
    light_clients: int = 0
    """Light clients that follow the chain, and check every proof that they are given."""
    price_ticks: int = 4_096
    """Of each instrument; with many, a table has more chunks than a node looks up at once."""
    plain_again_us: int = 0
    """States also come over plain connections. One that is gone may be had again after so long; 0: there are none."""

    @property
    def validators(self) -> int:
        """How many there are."""
        return len(self.stakes)

    @property
    def is_beyond_third(self) -> bool:
        """Whether more may be faulty than safety stands."""
        return 3 * sum(self.stakes[v] for v in self.faulty) >= sum(self.stakes)

    @property
    def following(self) -> tuple[int, ...]:
        """Whose word does not count, for their homes were rebuilt, but who must reach the others' height."""
        rebuilt = {fault.node for fault in self.faults if fault.kind == "rebuilt"}
        if self.profile != "sync":
            return ()
        return tuple(v for v in self.faulty if v in rebuilt and v not in self.behaviours)

    @property
    def reachable(self) -> tuple[int, ...]:
        """Who is up and connected in the liveness phase. A home that was empty is mute until it has heard the others,
        which with four validators are all of them (decision 0014): liars are there too, then."""
        return tuple(range(self.validators)) if self.profile == "sync" else (*self.healed, *self.following)

    @property
    def healed(self) -> tuple[int, ...]:
        """Who must converge in the liveness phase."""
        return tuple(v for v in range(self.validators) if v not in self.faulty and v not in self.left_out)

    def without(self, numbers: frozenset[int]) -> "Plan":
        """The same without these faults (by place in `faults`)."""
        return replace(self, faults=tuple(f for i, f in enumerate(self.faults) if i not in numbers))


def draw_plan(seed: int, profile: str, validators: int, seconds: int) -> Plan:
    """The plan of a seed."""
    if profile == "sync":
        return draw_sync_plan(seed, validators, seconds)
    random = stream(seed, f"plan {profile}")
    stakes = (1,) * validators
    if chance(random, 1, 4):
        stakes = tuple(random.choice((1, 1, 2, 3)) for _ in range(validators))
    table = random.choice(_TABLES[profile])
    beyond = profile == "byzantine" and chance(random, 1, 8)
    faulty = _draw_faulty(random, stakes, beyond)
    byzantine = _draw_byzantine(random, profile, faulty, beyond)
    delta_ms = _DELTA_MS[table]
    idle_block_ms = random.choice((delta_ms // 2, delta_ms))
    streams, bytes_per_second = chance(random, 1, 2), random.choice((0, 0, 1_000_000, 10_000_000))
    sync_us = random.choice(((100, 400), (300, 3_000), (2_000, 20_000)))
    machine = Machine(random.choice((1 << 14, 1 << 16, 1 << 20)), sync_us)
    machines = (machine,) * validators
    if profile == "swarm":
        machines = draw_machines(stream(seed, "machines"), validators, machine)
    changes = _draw_changes(seed, seconds * SECOND, beyond)
    return Plan(
        seed=seed,
        profile=profile,
        stakes=stakes,
        seconds=seconds,
        table=table,
        delta_ms=delta_ms,
        idle_block_ms=idle_block_ms,
        streams=streams,
        bytes_per_second=bytes_per_second,
        machines=draw_retention(stream(seed, "retention"), machines),
        checkpoint_interval=random.choice((8, 32, 128)),
        clock_offsets_us=tuple(random.randint(-40_000, 40_000) for _ in stakes),
        clock_drifts_ppm=tuple(random.randint(-200, 200) for _ in stakes),
        traders=random.choice((4, 8, 16)),
        pause_us=random.choice(((10_000, 200_000), (100_000, 1_000_000))),
        behaviours=byzantine,
        faulty=faulty,
        left_out=_draw_left_out(random, stakes, faulty),
        faults=(*_draw_faults(random, profile, stakes, seconds * SECOND, faulty, byzantine), *changes),
        epoch_blocks=EPOCH_BLOCKS if changes else None,
    )


def _draw_changes(seed: int, end_us: int, beyond: bool) -> tuple[Fault, ...]:
    """Changes of the validator set, in one run of three. A stream of their own: other draws stay what they were."""
    random = stream(seed, "set changes")
    if beyond or not chance(random, 1, 3):
        return ()
    times = sorted(random.randrange(end_us) for _ in range(random.randint(1, 6)))
    return tuple(Fault(at_us, "set_change", 0, 0, random.randrange(1 << 30)) for at_us in times)


def _draw_plain(seed: int, end_us: int) -> tuple[int, tuple[Fault, ...]]:
    """Plain connections, in three runs of four, and who is on the way for most of it, since few parts come. A stream of
    their own: other draws stay what they were."""
    random = stream(seed, "plain connections")
    if not chance(random, 3, 4):
        return 0, ()
    kinds = random.sample(MEDDLING, random.choice((0, 1, 1, 2)))
    faults = [
        Fault(
            random.randrange(end_us // 2), kind, 0, random.randint(end_us // 2, 2 * end_us), random.randrange(1 << 30)
        )
        for kind in kinds
    ]
    return random.choice((2 * SECOND, 60 * SECOND)), tuple(faults)


def _draw_standstills(
    seed: int, end_us: int, faults: tuple[Fault, ...], joining: dict[int, int], honest: list[int], validators: int
) -> tuple[Fault, ...]:
    """For two of three nodes that come, or come back; half of them find all old blocks pruned. Where one joins, another
    is away afterwards in half of the runs. A stream of their own: other draws stay what they were."""
    random = stream(seed, "standstills")
    drawn: list[Fault] = []
    for joiner, at_us in joining.items():
        others = [v for v in honest if v != joiner]
        if others and chance(random, 1, 2):
            length_us = random.randint(end_us // 8, end_us // 3)
            drawn.append(
                Fault(at_us + end_us // 8, "away", random.choice(others), length_us, random.randrange(1 << 30))
            )
    back = [f.at_us + f.length_us for f in (*faults, *drawn) if f.kind in ("away", "rebuilt")]
    for at_us in (at_us for at_us in (*back, *joining.values()) if at_us < end_us and chance(random, 2, 3)):
        length_us = random.randint(SECOND, 4 * SECOND)
        drawn.append(Fault(at_us - 1_000, STANDSTILL, 0, length_us, random.randrange(1 << 30)))
        if chance(random, 1, 2):
            amounts = [random.randrange(1 << 30) for _ in range(validators)]
            drawn += [Fault(at_us - 2_000, "prune", v, 0, amount) for v, amount in enumerate(amounts)]
    return tuple(drawn)


def draw_sync_plan(seed: int, validators: int, seconds: int) -> Plan:
    """Joining, falling behind, and peers that lie about it: many small blocks and checkpoints, long absences."""
    random = stream(seed, "plan sync")
    stakes, table, end_us = (1,) * validators, random.choice(_TABLES["sync"]), seconds * SECOND
    delta_ms = _DELTA_MS[table]
    is_slow = chance(random, 1, 3)
    idle_block_ms = 15 if is_slow else random.choice((3, 6, 12))
    machine = Machine(random.choice((1 << 14, 1 << 16)), random.choice(((100, 400), (300, 3_000))), 300)
    machines = list(draw_machines(random, validators, machine))
    if is_slow:  # it executes little faster than blocks are made: a state is the shorter way for it
        machines[random.randrange(validators)] = replace(machine, execute_us=9_000, state_from_blocks=32)
    faulty = _draw_faulty(random, stakes, beyond=False)
    liars = ("lie-sync",) * 5 + ("lie", "mutate")
    byzantine = {v: random.choice(liars) for v in faulty if chance(random, 3, 4)}
    honest = [v for v in range(validators) if v not in faulty]
    joiner = random.choice(honest)
    joining = {joiner: random.randint(end_us // 4, end_us * 3 // 4)} if chance(random, 1, 2) else {}
    faults = _draw_faults(random, "sync", stakes, end_us, faulty, byzantine)
    changes = _draw_changes(seed, end_us, beyond=False)
    if not joining and not any(fault.kind in ("away", "rebuilt") for fault in faults):
        away = Fault(end_us // 10, "away", joiner, random.randint(end_us // 3, end_us), random.randrange(1 << 30))
        faults = (away, *faults)
    if any(fault.kind == "rebuilt" for fault in faults):
        joining = {}  # two empty homes are two that are mute: more than a third of four
    prunes = stream(seed, "prunes")
    if joining and chance(prunes, 1, 2):  # just before it comes: a state is the only way
        at_us = joining[joiner] - 50_000
        faults = (*faults, *(Fault(at_us, "prune", v, 0, prunes.randrange(1 << 30)) for v in range(validators)))
    back = [fault.at_us + fault.length_us - 50_000 for fault in faults if fault.kind == "away" and chance(prunes, 1, 2)]
    for at_us in (at_us for at_us in back if at_us < end_us):  # likewise, for one with a past
        faults = (*faults, *(Fault(at_us, "prune", v, 0, prunes.randrange(1 << 30)) for v in range(validators)))
    faults = (*faults, *_draw_standstills(seed, end_us, faults, joining, honest, validators))
    plain_again_us, meddling = _draw_plain(seed, end_us)
    kept = draw_retention(stream(seed, "retention"), tuple(machines))
    return Plan(
        seed=seed, profile="sync", stakes=stakes, seconds=seconds, table=table, delta_ms=delta_ms,
        idle_block_ms=idle_block_ms, streams=chance(random, 1, 2),
        bytes_per_second=random.choice((0, 300_000, 1_000_000, 10_000_000)), machines=kept,
        checkpoint_interval=random.choice((8, 16, 32)),
        clock_offsets_us=tuple(random.randint(-40_000, 40_000) for _ in stakes),
        clock_drifts_ppm=tuple(random.randint(-200, 200) for _ in stakes),
        traders=random.choice((4, 8)), pause_us=(100_000, 1_000_000), behaviours=byzantine, faulty=faulty,
        faults=(*faults, *changes, *meddling), epoch_blocks=EPOCH_BLOCKS if changes else None, joining=joining,
        light_clients=random.choice((0, 1)), plain_again_us=plain_again_us,
        price_ticks=16_384 if chance(stream(seed, "price ticks"), 1, 3) else 4_096,
    )  # fmt: skip


def _draw_faulty(random: Random, stakes: tuple[int, ...], beyond: bool) -> tuple[int, ...]:
    """Less than a third of the stake; or, beyond it, at least a third and less than two."""
    order = list(range(len(stakes)))
    random.shuffle(order)
    total, most = sum(stakes), random.randrange(len(stakes))
    chosen: list[int] = []
    for validator in order:
        before = sum(stakes[v] for v in chosen)
        after = before + stakes[validator]
        wanted = 3 * before < total and 3 * after < 2 * total if beyond else 3 * after < total and len(chosen) < most
        if wanted:
            chosen.append(validator)
    return tuple(sorted(chosen))


def _draw_byzantine(random: Random, profile: str, faulty: tuple[int, ...], beyond: bool) -> dict[int, str]:
    if profile not in ("byzantine", "swarm"):
        return {}
    share = 4 if beyond or profile == "byzantine" else 2
    names = ("equivocate", TWINS) if beyond else (*BEHAVIOURS, TWINS)
    return {v: random.choice(names) for v in faulty if chance(random, share, 4)}


def _draw_left_out(random: Random, stakes: tuple[int, ...], faulty: tuple[int, ...]) -> tuple[int, ...]:
    """Honest ones that stay as broken as they are, as long as the rest is a quorum."""
    order = [v for v in range(len(stakes)) if v not in faulty]
    random.shuffle(order)
    out: list[int] = []
    for validator in order[: random.randrange(len(order))]:
        away = sum(stakes[v] for v in (*faulty, *out, validator))
        if 3 * (sum(stakes) - away) > 2 * sum(stakes):
            out.append(validator)
    return tuple(sorted(out))


def _draw_faults(
    random: Random,
    profile: str,
    stakes: tuple[int, ...],
    end_us: int,
    faulty: tuple[int, ...],
    byzantine: dict[int, str],
) -> tuple[Fault, ...]:
    """A subset of the kinds that the profile knows, each with its own rate."""
    names = [name for name, kind in KINDS.items() if profile in kind.profiles]
    share = {name: 5 if profile == "sync" and name in DISTURBING else 2 for name in names}
    chosen = [name for name in names if chance(random, 1, share[name])] or [random.choice(names)]
    liars = [v for v in faulty if v not in byzantine]
    faults: list[Fault] = []
    for name in chosen:
        kind = KINDS[name]
        count = random.randint(1, max(1, kind.per_minute * end_us // (60 * SECOND)))
        for _ in range(count):
            node = random.randrange(len(stakes))
            if name in LYING:
                if not liars:
                    break
                node = random.choice(liars)
            length_us = random.randint(*kind.length_us)
            at_us = random.randint(end_us // 20, max(end_us // 20, end_us - SECOND))
            faults.append(Fault(at_us, name, node, length_us, random.randrange(1 << 30)))
    return tuple(sorted(faults, key=lambda f: (f.at_us, f.kind, f.node, f.amount)))
