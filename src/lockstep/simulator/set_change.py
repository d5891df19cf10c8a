"""A change of the validator set, drawn for a run: stakes of honest validators rise, fall, go to nothing and come back;
now and then somebody joins whose node never starts.

Whatever is drawn, those who are to be healed keep a quorum, and the faulty ones stay below a third.
"""

from random import Random
from typing import Final

from lockstep.base.keys import PrivateKey
from lockstep.simulator.chance import chance
from lockstep.simulator.plan import Plan
from lockstep.simulator.venue_setup import key_of
from lockstep.wire.genesis import Validator
from lockstep.wire.roster import Roster
from lockstep.wire.set_change import SetChange, approve, sign_change

_TRIES: Final = 20
_STAKES: Final = (0, 0, 1, 1, 2, 3)


def draw_change(plan: Plan, keys: list[PrivateKey], roster: Roster, random: Random) -> bytes | None:
    """An approved change of this roster, encoded; None when none that may be was drawn."""
    if roster.pending is not None:
        return None
    honest = [v for v in range(plan.validators) if v not in plan.faulty]
    for _ in range(_TRIES):
        stakes = list(roster.validators.stakes)
        for validator in random.sample(honest, random.randint(0, len(honest))):
            stakes[validator] = random.choice(_STAKES)
        added: tuple[Validator, ...] = ()
        if chance(random, 1, 3) and len(roster.members) < roster.validators_max:
            name = f"absent {len(roster.members)}"
            added = (Validator(name, key_of(name).public, 1, b"", "", ""),)
        if not _may_be(plan, [*stakes, *(1 for _ in added)]):
            continue
        changed = tuple((v, stake) for v, stake in enumerate(stakes) if stake != roster.validators.stakes[v])
        if changed or added:
            change = SetChange(roster.validators.chain_id, roster.epoch, added, changed)
            approvals = {v: sign_change(keys[v], change) for v in honest if roster.validators.votes(v)}
            return approve(change, approvals, len(roster.validators)).encode()
    return None


def _may_be(plan: Plan, stakes: list[int]) -> bool:
    total = sum(stakes)
    # Who begins from nothing while the chain goes on is mute until a quorum of the others is heard (decision 0014).
    speaking = [v for v in plan.healed if v not in plan.joining]
    healed, faulty = (sum(stakes[v] for v in who) for who in (speaking, plan.faulty))
    return 3 * healed > 2 * total and 3 * faulty < total
