"""Whether a block is valid as a child of its parent. Pure functions; each refusal says what was wrong.

Everything here is objective: every honest validator with the same final state comes to the same answer. The one
exception is how far a timestamp may run ahead of the validator's own clock; it is checked apart (`check_clock`).
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from lockstep.base.errors import Reason, Refused
from lockstep.base.limits import BLOCK_TIME_AHEAD_MS_MAX, BUNDLE_LIFETIME_BLOCKS_MAX
from lockstep.node.tree import Tree
from lockstep.wire.block import Block, Header
from lockstep.wire.bundle import Bundle
from lockstep.wire.evidence import decode_evidence
from lockstep.wire.observation import OBSERVATION, Observation, decode_observation
from lockstep.wire.roster import Roster
from lockstep.wire.set_change import ApprovedChange
from lockstep.wire.validators import ValidatorSet, epoch_of


def check_header(header: Header, parent: Header, roster: Roster, commands_max: int) -> None:
    """Check a header against its parent's and the roster that the parent leaves; raises `Refused`."""
    if epoch_of(header.view) != roster.epoch:
        raise Refused(Reason.WRONG_PARENT, f"view {header.view} is of epoch {epoch_of(header.view)}, but the child of "
                                           f"block {parent.height} is decided in epoch {roster.epoch}")  # fmt: skip
    following = roster.set_after(header.height)
    if header.validators != roster.validators.hash or header.next_validators != following.hash:
        raise Refused(Reason.WRONG_PARENT, "it names other validators than those that decide it and its child")
    if header.height != parent.height + 1:
        raise Refused(Reason.WRONG_HEIGHT, f"height {header.height} on a parent at height {parent.height}")
    parent_view = max(parent.view, roster.view)
    if header.parent_view != parent_view or header.view <= parent_view:
        raise Refused(Reason.WRONG_PARENT, f"view {header.view} names parent view {header.parent_view}, "
                                           f"the parent's view is {parent_view}")  # fmt: skip
    if header.time_ms < parent.time_ms:
        raise Refused(Reason.STALE_TIMESTAMP, f"stamped {parent.time_ms - header.time_ms} ms before its parent")
    if header.commands > commands_max:
        raise Refused(Reason.OVERSIZE, f"{header.commands} commands, at most {commands_max} fit in a block")


def check_clock(header: Header, now_ms: int) -> None:
    """Refuse a block from the future."""
    if header.time_ms > now_ms + BLOCK_TIME_AHEAD_MS_MAX:
        raise Refused(Reason.FUTURE_TIMESTAMP, f"stamped {header.time_ms - now_ms} ms ahead of this node's clock")


def check_bundles(
    header: Header, bundles: tuple[Bundle, ...], tree: Tree, verified: Callable[[bytes], bool]
) -> dict[int, int]:
    """Check every bundle on the parent's state; returns the next sequence of each account that has one here.

    `verified(digest)` says that the pool has verified the signature already, under the same account key.
    """
    if sum([bundle.count for bundle in bundles]) != header.commands:
        raise Refused(Reason.MALFORMED, "the header's number of commands is not that of its bundles")
    sequences: dict[int, int] = {}
    for bundle in bundles:
        key = tree.directory.key_of(bundle.account, header.height)
        if key is None:
            raise Refused(Reason.INVALID_BUNDLE, f"account {bundle.account} is unknown, or opened too recently")
        if bundle.chain_id != header.chain_id:
            raise Refused(Reason.INVALID_BUNDLE, "a bundle is for another chain")
        expected = sequences.get(bundle.account)
        if expected is None:
            expected = tree.next_sequence(header.parent, bundle.account)
        if bundle.sequence != expected:
            raise Refused(
                Reason.INVALID_BUNDLE, f"account {bundle.account}: sequence {bundle.sequence}, not {expected}"
            )
        if not header.height <= bundle.valid_until <= header.height + BUNDLE_LIFETIME_BLOCKS_MAX:
            raise Refused(Reason.INVALID_BUNDLE, f"valid until height {bundle.valid_until}")
        if not verified(bundle.digest) and not bundle.signed_by(key):
            raise Refused(Reason.INVALID_BUNDLE, f"account {bundle.account}: the signature is not valid")
        sequences[bundle.account] = bundle.sequence + 1
    return sequences


def check_observations(
    block: Block, tree: Tree, instruments: int, validators: ValidatorSet, verified: Callable[[bytes], bool]
) -> list[Observation]:
    """Check a block's observations: at most one of each validator, signed, newer than the last on the chain."""
    observations: list[Observation] = []
    seen: dict[int, int] = {}
    for raw in block.payload.observations:
        observation = decode_observation(raw)
        v = observation.validator
        if len(observation.prices) != instruments:
            raise Refused(Reason.BAD_OBSERVATION, f"{len(observation.prices)} prices for {instruments} instruments")
        if not any(observation.prices):
            raise Refused(Reason.BAD_OBSERVATION, f"validator {v}: no price at all")
        if v in seen or observation.time_ms <= tree.observed_ms(block.header.parent, v):
            raise Refused(Reason.BAD_OBSERVATION, f"validator {v}: not newer than its last one")
        if observation.time_ms > block.header.time_ms:
            raise Refused(Reason.BAD_OBSERVATION, f"validator {v}: observed after the block's own time")
        if not validators.votes(v):
            raise Refused(Reason.BAD_OBSERVATION, f"validator {v}: it has no stake")
        if not verified(raw) and not observation.signed_by(validators):
            raise Refused(Reason.BAD_OBSERVATION, f"validator {v}: the signature is not valid")
        seen[v] = observation.time_ms
        observations.append(observation)
    return observations


def check_evidence(block: Block, validators: ValidatorSet) -> list[tuple[int, int]]:
    """Check a block's evidence; returns the (signer, view) pairs that it proves."""
    if not block.payload.evidence:
        return []
    pairs = [(e.signer, e.view) for e in (decode_evidence(raw, validators) for raw in block.payload.evidence)]
    if len(set(pairs)) != len(pairs):
        raise Refused(Reason.DUPLICATE, "the same equivocation is proved twice in one block")
    return pairs


def check_change(block: Block, roster: Roster) -> ApprovedChange | None:
    """Check the change of validators that a block orders, if any."""
    return roster.check(block.payload.change) if block.payload.change else None


@lru_cache(maxsize=16)
def payload_rows(raws: tuple[bytes, ...]) -> np.ndarray:
    """The `observation_rows` of a payload's observations; read only, for those of the newest blocks are remembered: a
    simulated network asks once for each node."""
    rows = observation_rows([decode_observation(raw) for raw in raws])
    rows.flags.writeable = False
    return rows


def observation_rows(observations: list[Observation]) -> np.ndarray:
    """(n x instruments,) OBSERVATION rows, without those that hold no opinion."""
    rows = [
        (o.validator, instrument, price, o.time_ms)
        for o in observations
        for instrument, price in enumerate(o.prices)
        if price
    ]
    return np.array(rows, dtype=OBSERVATION)
