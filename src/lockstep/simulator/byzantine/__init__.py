"""Validators that break the rules, as configuration: an ordinary replica, and something between it and the network.

Each behaviour alters what its node sends (or sends more), with the node's own key. With less than a third of the stake
faulty, safety and liveness are promised whatever they do; beyond that, that the guilty can be named. Twins, two
replicas with one identity and their peers split between them, are made by the world.
"""

from collections.abc import Callable

from lockstep.simulator.behaviour import Behaviour
from lockstep.simulator.byzantine.equivocate import Equivocate
from lockstep.simulator.byzantine.impersonate import Impersonate
from lockstep.simulator.byzantine.lie import Lie
from lockstep.simulator.byzantine.lie_sync import LieSync
from lockstep.simulator.byzantine.mutate import Mutate
from lockstep.simulator.byzantine.noise import Garbage, Replay, Spam
from lockstep.simulator.byzantine.propose import InvalidBlocks, LateBlocks
from lockstep.simulator.byzantine.withhold import WithholdBodies, WithholdVotes

BEHAVIOURS: dict[str, Callable[[], Behaviour]] = {
    behaviour.name: behaviour
    for behaviour in (
        Equivocate, WithholdVotes, WithholdBodies, InvalidBlocks, LateBlocks, Lie, Impersonate, Garbage, Replay, Spam,
        Mutate, LieSync,
    )
}  # fmt: skip
"""By name."""
