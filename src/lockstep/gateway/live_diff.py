"""Comparing a running node with another, or with a home or a snapshot: what can be asked of it shows whether it is the
same as the others, and if not, from where on and in which rows.

    1. The final blocks that both tell, at the newest height that both have: a block's header names the one before, so
       one comparison covers the chain; events have a root for each block. Where those differ, look for the first.
    2. The state root that a node has computed itself, beside the one that a quorum signed for that height.
    3. The trees of the two newest checkpoints, of one height if the nodes serve one; down to rows and fields.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from lockstep.base.errors import ConfigurationError, LockstepError, Reason, Refused
from lockstep.gateway.client import Client
from lockstep.gateway.live_difference import compare
from lockstep.gateway.live_state import HeldState, LiveState
from lockstep.gateway.live_state import Side as StateSide
from lockstep.ledger.difference import StateDifference
from lockstep.node.cause import Cause
from lockstep.runtime.forensics import ReplayState, Side, SnapshotState, causes_in, state_at
from lockstep.wire.block import decode_header
from lockstep.wire.client import StatusReply
from lockstep.wire.stream import BlockEvents

T = TypeVar("T")
ANSWER_SECONDS: Final = 10.0
_NO_ROWS: Final = ((1 << 32) - 1,)
"""An account that nobody has: blocks without their rows."""


@dataclass(slots=True)
class LiveReport:
    """What was found."""

    heights: tuple[int, int]
    """Of the states that were compared."""
    roots: tuple[bytes, bytes]
    difference: StateDifference
    agreed_height: int = -1
    """The newest height for which both tell the same final block and events; -1: one of them is no running node."""
    first_block: int | None = None
    """The first height for which they don't."""
    wrong: list[str] = field(default_factory=list)
    """What one of them has that it must not have, a sentence each."""
    notes: list[str] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    causes_from: str = ""

    @property
    def is_equal(self) -> bool:
        """Whether nothing shows that the two are not the same. States of different heights show nothing."""
        same = self.heights[0] != self.heights[1] or self.roots[0] == self.roots[1]
        return same and not self.wrong and self.first_block is None


async def diff_live(one: LiveState, other: LiveState, height: int | None) -> LiveReport:
    """Compare two running nodes; raises `LockstepError`, `OSError`."""
    clients = await one.connect(), await other.connect()
    statuses = [await _within(client.status()) for client in clients]
    heights = await _common_checkpoint(one, other, height)
    difference, looked = await compare(one, other)
    report = LiveReport(heights, (one.root, other.root), difference)
    if looked.more:
        report.notes.append("more chunks differ than are looked into: the rows listed are not all")
    if heights[0] != heights[1]:
        report.notes.append(
            f"the nodes serve checkpoints of different heights, {heights[0]:,} and {heights[1]:,}: the rows below "
            "changed in between, which shows no fault"
        )
    for side, status in zip((one, other), statuses, strict=True):
        if status.state != "live":
            report.notes.append(f"{side.name} is {status.state}: {status.reason}")
    await _compare_chains(report, (one, other), clients, min(status.final_height for status in statuses))
    for at in (0, 1):
        await _check_own_root(report, (one, other)[at], statuses[at], clients[1 - at])
    return report


async def diff_held(live: LiveState, held: Side, name: str, height: int | None) -> LiveReport:
    """Compare a running node's checkpoint with a home's state at that height, or with a snapshot."""
    wanted = held.height if isinstance(held, SnapshotState) else height or 0
    at = await live.aim(wanted)
    if height is not None and at != height:
        raise ConfigurationError(f"{live.name} serves its checkpoint of height {at}, not {height}")
    notes: list[str] = []
    mine: SnapshotState | ReplayState
    if isinstance(held, SnapshotState):
        mine, held_height = held, held.height
    elif at > held.newest:
        raise ConfigurationError(f"{name} goes to height {held.newest}, and {live.name}'s checkpoint is of {at}")
    else:
        mine, held_height = state_at(held, at, notes), at
    difference, _ = await compare(live, HeldState(name, mine.root, mine))
    report = LiveReport((at, held_height), (live.root, mine.root), difference, notes=notes)
    if at != held_height:
        report.notes.append(f"{live.name}'s checkpoint is of height {at:,}: the rows below changed in between")
    elif not report.is_equal:
        report.causes, report.causes_from = causes_in(held, at, difference)
    return report


async def _within(answer: Awaitable[T]) -> T:
    async with asyncio.timeout(ANSWER_SECONDS):
        return await answer


async def _common_checkpoint(one: LiveState, other: LiveState, height: int | None) -> tuple[int, int]:
    """Heights of the checkpoints to be compared: the same if both serve one that the other does."""
    heights = await one.aim(height or 0), await other.aim(height or 0)
    if heights[0] != heights[1]:
        heights = heights[0], await other.aim(heights[0])
    if heights[0] != heights[1]:
        heights = await one.aim(heights[1]), heights[1]
    if height is not None and heights != (height, height):
        raise ConfigurationError(f"no checkpoint of height {height} is served; those of {heights} are")
    return heights


async def _compare_chains(
    report: LiveReport, sides: tuple[StateSide, StateSide], clients: tuple[Client, Client], height: int
) -> None:
    """Find the newest height for which both tell the same, or the first for which they don't."""
    if await _tell_the_same(clients, height):
        report.agreed_height = height
        return
    low, high = 0, height
    while high - low > 1:
        middle = (low + high) // 2
        if await _tell_the_same(clients, middle):
            low = middle
        else:
            high = middle
    report.agreed_height, report.first_block = low, high
    told = [await _block(client, high) for client in clients]
    report.wrong += [
        f"{side.name} tells block {decode_header(block.header).digest.hex()} at height {high:,}, with events "
        f"{block.event_root.hex()}"
        for side, block in zip(sides, told, strict=True)
    ]


async def _tell_the_same(clients: tuple[Client, Client], height: int) -> bool:
    mine, theirs = [await _block(client, height) for client in clients]
    return (mine.header, mine.event_root) == (theirs.header, theirs.event_root)


async def _block(client: Client, height: int) -> BlockEvents:
    batch = await _within(client.events((height, 0, 0), 0, _NO_ROWS))
    for block in batch.blocks:
        return block
    raise Refused(Reason.NOT_READY, batch.reason or f"a node does not tell its block {height}")


async def _check_own_root(report: LiveReport, side: LiveState, status: StatusReply, witness: Client) -> None:
    """What a node has computed itself must be what a quorum signed."""
    try:
        shown = await _within(witness.light(status.final_height))
    except LockstepError:
        return
    final = shown.finalization
    if final is None or final.height != status.final_height or not any(status.state_root):
        return
    if final.state_root != status.state_root:
        report.wrong.append(
            f"{side.name} has computed state root {status.state_root.hex()} at height {status.final_height:,}, where a "
            f"quorum signed {final.state_root.hex()}"
        )
