"""How the node is, in one word that cannot lie: syncing, live, lagging, stalled or halted.

"OK" while the chain stands still, or "caught up" while stuck at a height, are the incidents this is written against.
So the word depends on certificates held and on the age of the newest final block, never on a peer's claim.
"""

from typing import Final

from lockstep.node.context import Context
from lockstep.node.peers import Peers
from lockstep.node.pipeline import Pipeline
from lockstep.venue.venue import Execution
from lockstep.wire.client import InstrumentSummary, StatusReply, SyncProgress, ValidatorsReply

STALLED_AFTER_DELTAS: Final = 12
"""No new final block for this many Δ means that consensus is not making progress."""
LAGGING_BLOCKS: Final = 16

_ALLOWED: Final = {
    "live": ("submit", "query"),
    "lagging": ("submit", "query"),
    "stalled": ("submit", "query"),
    "syncing": ("query",),
    "halted": ("query",),
}


class Totals:
    """Counters since this process started, and the newest final block's results."""

    def __init__(self) -> None:
        self.commands = 0
        self.fills = 0
        self.blocks = 0
        self.last_final_us = 0
        self.unsighted_height = 0
        """Up to where this process found the chain on its own disk, or replayed it: how old that is, it cannot know."""
        self.state_root = b""
        self.execution: Execution | None = None


def state_of(ctx: Context, pipeline: Pipeline, totals: Totals, sync: SyncProgress | None) -> tuple[str, str]:
    """The word, and why."""
    if ctx.halted:
        return "halted", ctx.halted
    root = ctx.tree.root
    if sync is not None and sync.phase != "replay":
        return "syncing", f"{sync.phase} the state at height {sync.height}: {sync.done >> 20} of {sync.total >> 20} MiB"
    if pipeline.missing:
        target = pipeline.target.height if pipeline.target else root.height
        return "syncing", f"fetching blocks {root.height + 1} to {target}"
    if sync is not None:
        return "syncing", f"fetching blocks from {root.height + 1} on: validators are {sync.total} blocks ahead"
    if root.height < totals.unsighted_height:
        return "syncing", f"replaying blocks {root.height + 1} to {totals.unsighted_height}, and what comes after them"
    behind = (pipeline.target.height if pipeline.target else root.height) - root.height
    if behind > LAGGING_BLOCKS:
        return "lagging", f"{behind} certified blocks are not executed yet"
    silent_us = ctx.now_us - totals.last_final_us
    if silent_us > STALLED_AFTER_DELTAS * ctx.genesis.parameters.delta_ms * 1000:
        return "stalled", f"no block became final for {silent_us // 1000} ms; {len(ctx.connected)} peers are connected"
    if root.height <= totals.unsighted_height:
        return "syncing", "no new block became final since this node started, or replayed: it may be far behind"
    return "live", ""


def status(
    ctx: Context,
    view: int,
    pipeline: Pipeline,
    totals: Totals,
    peers: Peers,
    evidence: int,
    sync: SyncProgress | None,
) -> StatusReply:
    """Everything an operator's screen shows."""
    state, reason = state_of(ctx, pipeline, totals, sync)
    root = ctx.tree.root
    certified = pipeline.target.height if pipeline.target else root.height
    observed = max(ctx.tree.root_observed_ms.values(), default=0)
    return StatusReply(
        name=ctx.name or (ctx.roster.members[ctx.index].name if ctx.index < len(ctx.roster.members) else ""),
        validator=ctx.index,
        state=state,
        reason=reason,
        allowed=_ALLOWED[state],
        view=view,
        height=max((e.header.height for e in ctx.tree.entries() if e.valid), default=root.height),
        final_height=root.height,
        certified_height=certified,
        lag_blocks=certified - root.height,
        lag_ms=max(0, ctx.now_ms - root.time_ms),
        price_age_ms=max(0, ctx.now_ms - observed) if observed else -1,
        state_root=totals.state_root,
        pool_bundles=len(ctx.pool),
        pool_bytes=ctx.pool.bytes,
        commands=totals.commands,
        fills=totals.fills,
        blocks=totals.blocks,
        peers=peers.statuses(),
        instruments=_instruments(ctx, totals),
        evidence=evidence,
        rss_mib=0,
        sync=sync,
        final_view=root.view,
        validators=len(ctx.validators),
        stake=ctx.validators.total,
    )


def _instruments(ctx: Context, totals: Totals) -> tuple[InstrumentSummary, ...]:
    if totals.execution is None:
        return ()
    return tuple(
        InstrumentSummary(
            instrument.symbol, int(row["best_bid"]), int(row["best_ask"]), int(row["mark"]), bool(row["stale"]),
            int(row["open_interest"]), int(row["volume"]),
        )
        for instrument, row in zip(ctx.genesis.instruments, totals.execution.summary, strict=True)
    )  # fmt: skip


def validators_reply(ctx: Context) -> ValidatorsReply:
    """Who decides, and what is pending, as of the final block."""
    roster = ctx.roster
    pending = roster.pending
    return ValidatorsReply(
        ctx.tree.root.height, roster.epoch, roster.epoch_blocks, roster.validators.hash, roster.members,
        roster.validators.stakes, () if pending is None else pending.stakes, 0 if pending is None else pending.height,
    )  # fmt: skip
