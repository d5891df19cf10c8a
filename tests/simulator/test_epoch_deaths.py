"""A validator loses its power before and after each kind of effect at the end of an epoch: from the first vote on the
epoch's last block to the first votes of the next epoch. The network goes on with the new set, and nobody signs twice.

One run shows which effects there are, in order; the same run is then broken off before one of them, again and again.
"""

from collections.abc import Callable
from typing import Any

import pytest

from lockstep.base import keys
from lockstep.node.effects import Commit, Effect, Execute, Persist, RosterChanged
from lockstep.node.record import StoredBlock
from lockstep.simulator.checkers import CHECKERS
from lockstep.simulator.disk import Survival
from lockstep.simulator.world import World
from lockstep.wire.block import Header
from lockstep.wire.client import SubmitSetChange
from lockstep.wire.set_change import SetChange, approve, sign_change
from lockstep.wire.validators import epoch_of
from tests.support.small_network import keep_reporting, small_world, validator_key

SECOND = 1_000_000
AWAY_US = 20_000
Change = tuple[tuple[int, int], ...]
STAKE: Change = ((3, 2),)


def begun(change: Change) -> World:
    """A change of validators is handed in; the epoch ends eight blocks later at most."""
    keys.remember_checks()
    world = small_world(seed=5, epoch_blocks=8, checkpoint_interval_blocks=4, idle_block_ms=20)
    world.start()
    keep_reporting(world)
    world.run(SECOND // 4)
    document = SetChange(world.genesis.chain_id, 0, (), change)
    approved = approve(document, {i: sign_change(validator_key(i), document) for i in range(4)}, 4)
    world.nodes[1].ask(77, SubmitSetChange(approved.encode()))
    return world


def told(change: Change, victim: int) -> list[Effect]:
    """Let it happen, and write down the victim's effects in their order."""
    world = begun(change)
    effects: list[Effect] = []

    def written(carry: Callable[[Any], None]) -> Callable[[Any], None]:
        def also(effect: Effect) -> None:
            effects.append(effect)
            carry(effect)

        return also

    by_type = world.nodes[victim]._carrier.by_type
    by_type.update({kind: written(carry) for kind, carry in by_type.items()})
    assert world.run_until(lambda: all(node.replica.roster.epoch == 1 for node in world.nodes), 20 * SECOND)
    world.run(SECOND // 10)
    return effects


def name_of(effect: Effect, last: bytes) -> str:
    """What kind of effect this is, if it is about the epoch's last block or the next epoch; else nothing."""
    match effect:
        case Persist(records=records):
            digests = [r.block.digest if isinstance(r, StoredBlock) else getattr(r, "block", b"") for r in records]
            epoch = max(epoch_of(r.block.header.view if isinstance(r, StoredBlock) else r.view) for r in records)
            words = "+".join(type(record).__name__ for record in records)
            return f"epoch {epoch}: {words}" if epoch or last in digests else ""
        case Commit() if effect.block == last:
            return "Commit"
        case Execute() if effect.stored.block.digest == last:
            return "Execute"
        case RosterChanged() if effect.roster.epoch == 1:
            return "RosterChanged"
        case _:
            return ""


def around(effects: list[Effect]) -> tuple[Header, Header]:
    """The headers of the epoch's last block, and of the one after it."""
    headers = [effect.stored.block.header for effect in effects if isinstance(effect, Execute)]
    last = next(header for header in headers if header.closes_epoch)
    return last, next(header for header in headers if header.parent == last.digest)


def moments(effects: list[Effect]) -> list[int]:
    """Before and after the first effect of each kind at the end of the epoch."""
    names = [name_of(effect, around(effects)[0].digest) for effect in effects]
    kinds = list(dict.fromkeys(name for name in names if name))
    assert {"Commit", "Execute", "RosterChanged", "epoch 0: StoredBlock+Notarize", "epoch 0: Finalize"} <= set(kinds)
    assert "epoch 0: Finalization" in kinds and any(kind.startswith("epoch 1: StoredBlock") for kind in kinds)
    first = [names.index(kind) for kind in kinds]
    return sorted({*first, *(at + 1 for at in first)})


def broken_off(change: Change, victim: int, effects: int, *, is_needed: bool) -> None:
    """The victim dies after so many effects, and comes back soon enough to vote in the same view. `is_needed`: another
    one dies and does not, so that nothing becomes final without the victim."""
    world = begun(change)
    node = world.nodes[victim]
    node.crash_after_effects = effects
    assert world.run_until(lambda: not node.is_up, 20 * SECOND)
    if is_needed:
        world.nodes[0 if victim else 1].crash(Survival.SUBSET)
    world.run(AWAY_US)
    node.start()
    up = [other for other in world.nodes if other.is_up]
    assert world.run_until(lambda: all(other.replica.roster.epoch == 1 for other in up), 60 * SECOND), effects
    height = max(other.replica.final.height for other in up)
    assert world.run_until(lambda: all(other.replica.final.height > height + 5 for other in up), 60 * SECOND), effects
    assert not any(other.history.stopped for other in world.nodes)
    for name in ("agreement", "roots", "certificates", "votes", "durability", "evidence"):
        assert CHECKERS[name](world.history) == [], effects
    assert not world.history.evidence


@pytest.mark.parametrize("place", [0, 1])
def test_the_leader_of_the_last_block_or_of_the_next_dies(place: int) -> None:
    victim = around(told(STAKE, 2))[place].proposer
    for effects in moments(told(STAKE, victim)):
        broken_off(STAKE, victim, effects, is_needed=True)


def test_one_that_leaves_dies() -> None:
    change = ((2, 0),)
    for effects in moments(told(change, 2)):
        broken_off(change, 2, effects, is_needed=False)
