"""Building a block when this node leads a view.

A leader with something to order proposes at once. With nothing to order it waits a while (`idle_block_ms`) for a
bundle, then proposes an empty block, so that prices and time go on. Beyond the speculative depth it builds empty
blocks only. On the last block of an epoch it builds nothing: that block is proposed again.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lockstep.base.digest import digest
from lockstep.base.limits import BLOCK_COMMANDS_MAX, EMPTY_DEPTH_MAX, SPECULATIVE_DEPTH_MAX
from lockstep.consensus.interface import Build
from lockstep.node.context import Context
from lockstep.node.record import StoredBlock
from lockstep.wire.block import EVIDENCE_PER_BLOCK_MAX, Block, Header, Payload
from lockstep.wire.bundle import Bundle
from lockstep.wire.evidence import Evidence
from lockstep.wire.observation import Observation
from lockstep.wire.roster import Roster
from lockstep.wire.validators import epoch_of


@dataclass(frozen=True, slots=True)
class _Pending:
    build: Build
    idle_until_us: int


class Builder:
    """At most one block in the making."""

    def __init__(
        self,
        ctx: Context,
        observations: Callable[[], list[Observation]],
        evidence: Callable[[], list[Evidence]],
        change: Callable[[Roster], bytes],
        want_parent: Callable[[bytes], None],
        built: Callable[[StoredBlock, dict[int, int]], None],
        again: Callable[[Header], None],
    ) -> None:
        self._ctx = ctx
        self._observations = observations
        self._evidence = evidence
        self._want_parent = want_parent
        self._change = change
        self._built = built
        self._again = again
        self.pending: _Pending | None = None
        """What the engine asked for."""

    def begin(self, build: Build) -> None:
        """The engine asks for a block."""
        idle_us = self._ctx.genesis.parameters.idle_block_ms * 1000
        self.pending = _Pending(build, min(self._ctx.now_us + idle_us, build.deadline_us))
        self.attempt()

    def cancel(self, view: int) -> None:
        """The engine has reached `view`: a block for an earlier one is of no use."""
        if self.pending is not None and self.pending.build.view < view:
            self.pending = None

    def tick(self, view: int) -> None:
        """Something happened, and the engine is in `view`."""
        if self.pending is not None:
            self.cancel(view)
            self.attempt()

    def deadline(self) -> int | None:
        """When an empty block is due."""
        if self.pending is None or self.pending.idle_until_us <= self._ctx.now_us:
            return None  # it waits for an event, not for time
        return self.pending.idle_until_us

    def attempt(self) -> None:
        """Build now, if there is a reason to and nothing stands in the way."""
        ctx, pending = self._ctx, self.pending
        if pending is None:
            return
        build = pending.build
        if not ctx.tree.is_valid(build.parent):
            self._want_parent(build.parent)
            return
        parent = ctx.tree.header(build.parent)
        assert parent is not None
        roster = ctx.tree.roster_after(build.parent)
        if roster.epoch != epoch_of(build.view):
            # No sooner than an empty block: usually it is final by then. Else views would race on while nothing is.
            if ctx.now_us >= pending.idle_until_us:
                self.pending = None
                self._again(parent)
            return
        depth = parent.height + 1 - ctx.tree.root.height
        if depth > EMPTY_DEPTH_MAX:
            return
        may_order = depth <= SPECULATIVE_DEPTH_MAX and len(ctx.pool) > 0
        bundles = self._select(build.parent, parent.height + 1) if may_order else []
        change = self._change(roster)
        if not bundles and not change and ctx.now_us < pending.idle_until_us:
            return
        self.pending = None
        self._finish(build, parent, roster, bundles, change)

    def _select(self, parent: bytes, height: int) -> list[Bundle]:
        ctx = self._ctx
        most = min(ctx.genesis.parameters.block_commands_max, BLOCK_COMMANDS_MAX)
        return ctx.pool.select(lambda account: ctx.tree.next_sequence(parent, account), height, most)

    def _finish(self, build: Build, parent: Header, roster: Roster, bundles: list[Bundle], change: bytes) -> None:
        ctx = self._ctx
        time_ms = max(parent.time_ms, ctx.now_ms)
        observations = [
            o
            for o in self._observations()
            if roster.validators.votes(o.validator)
            and ctx.tree.observed_ms(build.parent, o.validator) < o.time_ms <= time_ms
        ]  # fmt: skip
        evidence = [e.encode() for e in self._evidence()[:EVIDENCE_PER_BLOCK_MAX]]
        payload = Payload(
            b"".join(b.digest for b in bundles), tuple(o.raw for o in observations), tuple(evidence), change
        )
        header = Header(
            chain_id=ctx.validators.chain_id,
            height=parent.height + 1,
            view=build.view,
            parent_view=build.parent_view,
            time_ms=time_ms,
            proposer=ctx.index,
            bundles=len(bundles),
            commands=sum(b.count for b in bundles),
            parent=parent.digest,
            payload=digest(payload.encode()),
            validators=roster.validators.hash,
            next_validators=roster.set_after(parent.height + 1).hash,
        )
        stored = StoredBlock(Block(header, payload), tuple(bundles))
        self._built(stored, {o.validator: o.time_ms for o in observations})
